//! Reading of files that are too large for memory, in parts.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

/// Size of a part in bytes.
const PART_BYTES: u64 = 1 << 20;

/// Reads the next part of a file of `bytes` bytes, of which `read` were read before; `None` at the end.
///
/// Reads at a position, so several readers can share the file. A file that is too short is an error.
pub(super) fn next_part(file: &File, bytes: u64, read: u64) -> io::Result<Option<Bytes>> {
    let left = bytes.saturating_sub(read).min(PART_BYTES);
    if left == 0 {
        return Ok(None);
    }
    let mut part = vec![0; usize::try_from(left).unwrap_or_default()];
    file.read_exact_at(&mut part, read)?;
    Ok(Some(part.into()))
}

/// Calls `take` with each part.
pub(super) fn for_each_part(
    file: &File,
    bytes: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut read = 0;
    while let Some(part) = next_part(file, bytes, read)? {
        read += part.len() as u64;
        take(&part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn all_parts_make_up_the_file_and_a_short_file_is_an_error() {
        let content: Vec<u8> = (0..3_000_000u32).map(|number| number.to_le_bytes()[0] ^ 0x5A).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let bytes = content.len() as u64;
        let (mut read, mut parts) = (Vec::new(), 0);
        let mut take = |part: &[u8]| {
            assert!(part.len() as u64 <= PART_BYTES);
            parts += 1;
            read.extend_from_slice(part);
            Ok(())
        };
        for_each_part(&file, bytes, &mut take).unwrap();
        for_each_part(&file, 0, |_| panic!("there is nothing")).unwrap();
        assert_eq!(parts, 3);
        assert!(read == content);
        let error = for_each_part(&file, bytes + 1, |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
