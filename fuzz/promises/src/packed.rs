//! Tar archives of base backups: whatever their bytes, reading ends, and finds the same members whether they are compressed or
//! not.

use std::io::{self, Cursor, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use walkeep::catalog::Packing;
use walkeep_core::wal::BackupLabel;

/// What is read of the content of each member.
const BEGINNING: u64 = 8 << 10;
/// More than these, packed, may be many gigabytes: reading them ends, but not soon.
const MOST_PACKED: usize = 4 << 10;

#[derive(Debug, Clone, PartialEq)]
struct Member {
    path: Vec<u8>,
    size: u64,
    beginning: Vec<u8>,
}

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    let (plain, whole) = members(Packing::Not, data);
    for (packing, packed) in [(Packing::Gzip, gzip(data)), (Packing::Zstd, zstd(data))] {
        let Ok(packed) = packed else { panic!("{packing:?} does not fit into memory") };
        let (found, found_whole) = members(packing, &packed);
        // A file that is passed over by a seek may end before its size: what can be read is the same.
        let common = found.len().min(plain.len());
        assert!(found[..common] == plain[..common], "{packing:?}: {found:?} instead of {plain:?}");
        assert!(!found_whole || (whole && found == plain), "{packing:?}: {found:?} instead of {plain:?}");
        assert!(found.len() <= plain.len(), "{packing:?}: {found:?} instead of {plain:?}");
    }
    for member in plain {
        assert!(member.beginning.len() as u64 <= member.size.min(BEGINNING));
        if member.path == b"backup_label" {
            let _ = BackupLabel::parse(&member.beginning);
        }
    }
    if data.len() <= MOST_PACKED {
        members(Packing::Gzip, data);
        members(Packing::Zstd, data);
    }
}

/// Returns the members up to the first fault, and `true` if there is none.
fn members(packing: Packing, tar: &[u8]) -> (Vec<Member>, bool) {
    let mut members = Vec::new();
    let ended = packing.find(Cursor::new(tar), |path, size, content| {
        let mut beginning = Vec::new();
        content.take(BEGINNING).read_to_end(&mut beginning)?;
        members.push(Member { path: path.to_vec(), size, beginning });
        Ok(None::<()>)
    });
    (members, ended.is_ok())
}

fn gzip(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data)?;
    encoder.finish()
}

fn zstd(data: &[u8]) -> io::Result<Vec<u8>> {
    zstd::encode_all(data, 1)
}
