//! Settings for archiving.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::given::{Compression, Given};
use super::{limit, wrong};
use crate::error::Error;
use crate::frame::{Codec, Level};
use crate::push::LookAhead;

const TIMEOUT: Duration = Duration::from_mins(1);
const LOOK_AHEAD_FILES: usize = 128;
const LOOK_AHEAD_TIME: Duration = Duration::from_secs(10);
const LOOK_AHEAD_MEMORY: u64 = 256 << 20;

/// Settings of `walkeep-archive` and `walkeep backfill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSettings {
    /// Compression of new files; `None` adapts the level to the backlog.
    pub codec: Option<Codec>,
    /// Time limit of a push, for a segment of 16 MiB. A server waits for it in a shutdown.
    pub timeout: Duration,
    /// Limits of the look-ahead.
    pub look_ahead: LookAhead,
}

impl PushSettings {
    pub(super) fn merge(given: &Given, file: &Given, connections: NonZeroUsize) -> Result<Self, Error> {
        Ok(Self {
            codec: codec(given, file)?,
            timeout: timeout(given, file),
            look_ahead: LookAhead {
                files: file.look_ahead_files.unwrap_or(LOOK_AHEAD_FILES),
                time: file.look_ahead_time.map_or(LOOK_AHEAD_TIME, |time| time.0),
                memory: file.look_ahead_memory.map_or(LOOK_AHEAD_MEMORY, |bytes| bytes.0),
                connections,
            },
        })
    }
}

/// Returns the time limit of a push.
pub(super) fn timeout(given: &Given, file: &Given) -> Duration {
    limit(given, file, file.push_timeout, TIMEOUT)
}

fn codec(given: &Given, file: &Given) -> Result<Option<Codec>, Error> {
    let method = given.compression.or(file.compression).unwrap_or(Compression::Zstd);
    match (method, given.compression_level.or(file.compression_level)) {
        (Compression::Auto, None) => Ok(None),
        (Compression::Auto, Some(_)) => {
            Err(wrong("compression is \"auto\", and a level is set, too").hint("leave one of the two out"))
        }
        (Compression::None, _) => Ok(Some(Codec::None)),
        (Compression::Zstd, None) => Ok(Some(Codec::Zstd(Level::default()))),
        (Compression::Zstd, Some(number)) => {
            Level::new(number).map(|level| Some(Codec::Zstd(level))).map_err(|error| wrong(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(compression: Option<Compression>, level: Option<i64>) -> Given {
        Given { compression, compression_level: level, ..Given::default() }
    }

    #[test]
    fn method_and_level_may_come_from_different_sources() {
        let zstd = |level| Some(Codec::Zstd(Level::new(level).unwrap()));
        for (of_flags, of_file, codec_of_both) in [
            (given(None, None), given(None, Some(3)), zstd(3)),
            (given(None, Some(5)), given(Some(Compression::Zstd), Some(3)), zstd(5)),
            (given(Some(Compression::None), None), given(None, Some(3)), Some(Codec::None)),
            (given(Some(Compression::Auto), None), given(Some(Compression::Zstd), None), None),
        ] {
            assert_eq!(codec(&of_flags, &of_file).unwrap(), codec_of_both, "{of_flags:?} {of_file:?}");
        }
        let both = codec(&given(Some(Compression::Auto), None), &given(None, Some(3)));
        assert!(both.unwrap_err().report().contains("leave one of the two out"));
    }

    #[test]
    fn a_level_that_is_not_used_is_not_checked() {
        assert!(codec(&given(Some(Compression::None), Some(99)), &Given::default()).is_ok());
        assert!(codec(&given(None, Some(99)), &Given::default()).is_err());
    }
}
