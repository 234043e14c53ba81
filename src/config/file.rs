//! Reading of the configuration file.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::given::Given;
use super::{mistake, wrong};
use crate::error::Error;

/// Maximum size of the configuration file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The configuration file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) given: Given,
    /// Text that was read.
    pub(super) text: String,
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
    let given: Given = toml::from_str(text)
        .map_err(|error| wrong(format!("{}, {}", path.display(), mistake::explain(text, &error))))?;
    let file = File { given, text: text.to_owned(), origin: Some((path.to_owned(), mode)) };
    if let Some(name) = file.given.store.keys().find(|name| mistake::belongs_above(name)) {
        return Err(file.wrong_in_store(name, &format!("{name} belongs above [store]")));
    }
    if let Some((name, _)) = file.given.systems.0.iter().find(|(name, _)| mistake::belongs_above(name)) {
        return Err(file.wrong_in("systems", name, &format!("{name} belongs above [systems]")));
    }
    Ok(file)
}

impl File {
    /// Creates the error for a setting in `[store]`, with its place if that is known.
    pub(super) fn wrong_in_store(&self, name: &str, why: &str) -> Error {
        self.wrong_in("store", name, why)
    }

    fn wrong_in(&self, section: &str, name: &str, why: &str) -> Error {
        let path = self.origin.as_ref().map(|(path, _)| path.display());
        let line = mistake::line_of(&self.text, Some(section), name);
        let what = match (path, line) {
            (Some(path), Some(line)) => format!("{path}, line {line}: {why}"),
            (Some(path), None) => format!("{path}: {why}"),
            (None, _) => why.to_owned(),
        };
        wrong(what)
    }
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
