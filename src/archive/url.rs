//! Where an archive is.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use url::Url;

/// The place of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveUrl {
    /// A directory of this machine or of a mounted file system.
    Directory(PathBuf),
}

/// The text names no place that this version can use as an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveUrlError {
    /// Nothing there.
    #[error("the archive's URL is empty")]
    Empty,
    /// A relative path: the working directory of the command is not the user's.
    #[error(
        "\"{0}\" is not an absolute path; an archive is a directory such as /mnt/archive or file:///mnt/archive"
    )]
    Relative(String),
    /// A path that walks up again.
    #[error("\"{0}\" contains \"..\"; name the directory itself")]
    Upward(String),
    /// A scheme that this version has no store for.
    #[error(
        "this version of walkeep has no store for {0}:// URLs; an archive is a directory such as /mnt/archive"
    )]
    Scheme(String),
    /// Not a file URL that names a local directory.
    #[error(
        "\"{0}\" does not name a directory of this machine; write file:///mnt/archive, with three slashes"
    )]
    File(String),
}

impl FromStr for ArchiveUrl {
    type Err = ArchiveUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = match text.split_once("://") {
            None => PathBuf::from(text),
            Some(("file", _)) => Url::parse(text)
                .ok()
                .filter(|url| url.query().is_none() && url.fragment().is_none())
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| ArchiveUrlError::File(text.to_owned()))?,
            Some((scheme, _)) => return Err(ArchiveUrlError::Scheme(scheme.to_owned())),
        };
        if text.is_empty() {
            Err(ArchiveUrlError::Empty)
        } else if !path.is_absolute() {
            Err(ArchiveUrlError::Relative(text.to_owned()))
        } else if path.components().any(|part| part == Component::ParentDir) {
            Err(ArchiveUrlError::Upward(text.to_owned()))
        } else {
            Ok(Self::Directory(path))
        }
    }
}

impl fmt::Display for ArchiveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Directory(path) = self;
        Path::display(path).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(text: &str) -> Result<String, ArchiveUrlError> {
        text.parse::<ArchiveUrl>().map(|url| url.to_string())
    }

    #[test]
    fn a_path_and_a_file_url_name_a_directory() {
        assert_eq!(directory("/mnt/archive").as_deref(), Ok("/mnt/archive"));
        assert_eq!(directory("file:///mnt/my%20archive").as_deref(), Ok("/mnt/my archive"));
        assert_eq!(directory("/mnt/my archive#1%20").as_deref(), Ok("/mnt/my archive#1%20"));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(directory(""), Err(ArchiveUrlError::Empty));
        assert!(matches!(directory("archive"), Err(ArchiveUrlError::Relative(_))));
        assert!(matches!(directory("/mnt/../etc"), Err(ArchiveUrlError::Upward(_))));
        assert!(matches!(directory("file://host/archive"), Err(ArchiveUrlError::File(_))));
        assert!(matches!(directory("file:///a?b"), Err(ArchiveUrlError::File(_))));
        assert!(matches!(directory("ftp://host/archive"), Err(ArchiveUrlError::Scheme(_))));
    }
}
