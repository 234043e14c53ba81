//! Tar archives as written by `pg_basebackup`, compressed or not. They are read, never extracted.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::open;
use crate::blocking::Steady;
use crate::error::Error;

/// A tar archive.
pub(super) struct Packed {
    pub(super) path: PathBuf,
    pub(super) written: Timestamp,
    file: File,
    packing: Packing,
}

/// Compression of a tar archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// None.
    Not,
    /// gzip, of one part or several.
    Gzip,
    /// zstd.
    Zstd,
}

impl Packing {
    /// Runs `ask` on the path, the size in bytes and the content of each member of a tar archive, until it returns an answer.
    /// The path is without a leading `./`, which some programs write.
    pub fn find<T>(
        self,
        tar: impl Read + Seek,
        mut ask: impl FnMut(&[u8], u64, &mut dyn Read) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let ask = |member: Member| ask(member.path, member.size, member.content);
        match self {
            Self::Not => first(tar::Archive::new(tar).entries_with_seek()?, ask),
            Self::Gzip => first(tar::Archive::new(MultiGzDecoder::new(BufReader::new(tar))).entries()?, ask),
            Self::Zstd => first(tar::Archive::new(zstd::stream::read::Decoder::new(tar)?).entries()?, ask),
        }
    }
}

/// A file in a tar archive.
pub(super) struct Member<'a> {
    /// Path without a leading `./`, which some programs write.
    pub(super) path: &'a [u8],
    /// Size in bytes.
    pub(super) size: u64,
    /// Its content.
    pub(super) content: &'a mut dyn Read,
}

impl Packed {
    /// Lists the tar archives of that name in a directory. An uncompressed one comes first, because it need not be
    /// read completely.
    pub(super) fn all(directory: &Path, name: &str) -> Result<Vec<Self>, Error> {
        let mut all = Vec::new();
        for (ending, packing) in [("", Packing::Not), (".gz", Packing::Gzip), (".zst", Packing::Zstd)] {
            let path = directory.join(format!("{name}{ending}"));
            if let Some((file, written)) = open(&path)? {
                all.push(Self { path, written, file, packing });
            }
        }
        Ok(all)
    }

    /// Runs `ask` on the members until it returns an answer.
    pub(super) fn find<T>(
        &self,
        mut ask: impl FnMut(Member) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let mut file = &self.file;
        file.rewind()?;
        self.packing.find(Steady(file), |path, size, content| ask(Member { path, size, content }))
    }
}

fn first<R: Read, T>(
    members: tar::Entries<'_, R>,
    mut ask: impl FnMut(Member) -> io::Result<Option<T>>,
) -> io::Result<Option<T>> {
    // Raw entries, because long names and attributes would otherwise be read into memory at whatever length they
    // claim.
    for member in members.raw(true) {
        let mut member = member?;
        let (path, size) = (member.path_bytes().into_owned(), member.size());
        let path = path.strip_prefix(b"./").unwrap_or(&path);
        if let Some(answer) = ask(Member { path, size, content: &mut member })? {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{SeekFrom, Write};
    use tar::{EntryType, Header};

    fn header(path: &str, kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header
    }

    /// A name and attributes of the next member that claim to have 64 GB each.
    #[test]
    fn a_long_name_is_passed_over_at_whatever_length_it_claims() {
        const LENGTH: u64 = 1 << 36;
        let mut file = tempfile::tempfile().unwrap();
        for kind in [EntryType::GNULongName, EntryType::XHeader, EntryType::GNULongLink] {
            file.write_all(header("long", kind, LENGTH).as_bytes()).unwrap();
            // Not written: the file is sparse.
            file.seek(SeekFrom::Current(LENGTH.cast_signed())).unwrap();
        }
        file.write_all(header("backup_label", EntryType::Regular, 5).as_bytes()).unwrap();
        file.write_all(b"label").unwrap();
        file.set_len(3 * LENGTH + (1 << 20)).unwrap();
        file.rewind().unwrap();
        let mut seen = Vec::new();
        let label = Packing::Not.find(&file, |path, size, content| {
            seen.push((String::from_utf8_lossy(path).into_owned(), size));
            if path != b"backup_label" {
                return Ok(None);
            }
            io::read_to_string(content).map(Some)
        });
        assert_eq!(label.unwrap().as_deref(), Some("label"));
        let long = ("long".to_owned(), LENGTH);
        assert_eq!(seen, [long.clone(), long.clone(), long, ("backup_label".to_owned(), 5)]);
    }
}
