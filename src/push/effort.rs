//! Choice of the compression level from the backlog. Pure.

use crate::frame::{Codec, Level};

/// Returns the codec for a backlog of that many files, the current one included.
///
/// On WAL of pgbench, for a segment of 16 MB: level 6 compresses to a tenth in 75 ms. Level 1 takes a fifth of that
/// time for files 7 % larger, and level -1 four fifths of the time of level 1 for another 8 %.
#[must_use]
pub fn codec_for_backlog(files: usize) -> Codec {
    let level = match files {
        0..=2 => 6,
        3..=64 => 1,
        _ => -1,
    };
    Codec::Zstd(Level::new(level).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_backlog_lowers_the_level() {
        let level = |files| match codec_for_backlog(files) {
            Codec::Zstd(level) => level.get(),
            Codec::None => panic!("not compressed"),
        };
        assert_eq!([0, 1, 2, 3, 64, 65, 9_999].map(level), [6, 6, 6, 1, 1, -1, -1]);
    }
}
