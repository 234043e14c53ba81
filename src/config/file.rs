//! Reading of the configuration file.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::given::Given;
use super::wrong;
use crate::error::Error;

/// Maximum size of the configuration file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The configuration file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) given: Given,
    /// Path and permissions of the file that was read.
    pub(super) origin: Option<(PathBuf, u32)>,
}

/// Reads the file if it exists. An unreadable file is an error: without it, the wrong archive might be used.
pub(super) fn read_if_it_exists(path: &Path) -> Result<File, Error> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        _ => read(path),
    }
}

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<File, Error> {
    let (text, mode) = read_text(path).map_err(|error| {
        wrong(format!("cannot read the configuration file {}", path.display())).because(error)
    })?;
    parse(path, &text, mode)
}

/// Parses the text of a file with these permissions.
pub(super) fn parse(path: &Path, text: &str, mode: u32) -> Result<File, Error> {
    let given = toml::from_str(text).map_err(|error| {
        // Only the library's message, because its full report quotes the line, which may contain a secret.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        wrong(format!("{}, line {line}: {}", path.display(), error.message()))
    })?;
    Ok(File { given, origin: Some((path.to_owned(), mode)) })
}

/// Reads a file, and its permissions from the same open file.
fn read_text(path: &Path) -> std::io::Result<(String, u32)> {
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok((text, mode))
}
