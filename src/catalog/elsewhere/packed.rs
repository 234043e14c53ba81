//! Tar archives as written by `pg_basebackup`, compressed or not. They are read, never extracted.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::open;
use crate::error::Error;

/// A tar archive.
pub(super) struct Packed {
    pub(super) path: PathBuf,
    pub(super) written: Timestamp,
    file: File,
    packing: Packing,
}

enum Packing {
    Not,
    Gzip,
    Zstd,
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
    pub(super) fn find<T>(&self, ask: impl FnMut(Member) -> io::Result<Option<T>>) -> io::Result<Option<T>> {
        let mut file = &self.file;
        file.rewind()?;
        match self.packing {
            Packing::Not => first(tar::Archive::new(file).entries_with_seek()?, ask),
            Packing::Gzip => {
                first(tar::Archive::new(MultiGzDecoder::new(BufReader::new(file))).entries()?, ask)
            }
            Packing::Zstd => {
                first(tar::Archive::new(zstd::stream::read::Decoder::new(file)?).entries()?, ask)
            }
        }
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
