//! URLs of archives.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use object_store::path::Path as Key;
use url::Url;

/// URL of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveUrl {
    /// A local directory or one on a mounted file system.
    Directory(PathBuf),
    /// A part of a bucket in an object store.
    Store(StoreUrl),
}

/// A bucket with the archive's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl {
    /// Kind of the store.
    pub provider: Provider,
    /// Name of the bucket; Azure calls it a container.
    pub bucket: String,
    /// Prefix of all keys of the archive; may be empty.
    pub prefix: Key,
}

/// Kind of an object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3 and stores with the same protocol: `s3://`.
    S3,
    /// Google Cloud Storage: `gs://`.
    Google,
    /// Azure Blob Storage: `az://`.
    Azure,
}

impl Provider {
    /// Returns the scheme of its URLs.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }
}

/// Error from parsing the URL of an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveUrlError {
    /// The text is empty.
    #[error("the archive's URL is empty")]
    Empty,
    /// The path is relative: the working directory of the command is not the user's.
    #[error(
        "\"{0}\" is not an absolute path; an archive is a directory such as /mnt/archive, or a URL such as \
         file:///mnt/archive or s3://bucket/prefix"
    )]
    Relative(String),
    /// The path contains what a shell would replace.
    #[error("\"{0}\" is not an absolute path; nothing replaces ~ or $ in it, so write it out")]
    Unexpanded(String),
    /// The path contains `..`.
    #[error("\"{0}\" contains \"..\"; name the directory itself")]
    Upward(String),
    /// The scheme is unknown.
    #[error(
        "this version of walkeep has no store for {0}:// URLs; an archive is a directory such as /mnt/archive, or \
         s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    Scheme(String),
    /// A `file` URL does not name a local directory.
    #[error(
        "\"{0}\" does not name a directory of this machine; write file:///mnt/archive, with three slashes"
    )]
    File(String),
    /// A scheme without slashes, or with one.
    #[error("\"{text}\" is no URL; write {meant}")]
    Slashes {
        /// The text.
        text: String,
        /// The URL that is probably meant.
        meant: String,
    },
    /// A bucket URL is malformed. It is not quoted, because it may contain a password.
    #[error("the archive's {0}:// URL {1}; write {0}://bucket/prefix")]
    Bucket(&'static str, &'static str),
}

impl ArchiveUrl {
    /// Parses a text that need not be UTF-8: a path has any bytes, and a URL only characters.
    pub fn of(text: &OsStr) -> Result<Self, ArchiveUrlError> {
        if let Some(text) = text.to_str() {
            return text.parse();
        }
        let (path, lossy) = (PathBuf::from(text), text.to_string_lossy().into_owned());
        if path.is_absolute() { Self::directory(&lossy, path) } else { Err(ArchiveUrlError::Relative(lossy)) }
    }

    fn directory(text: &str, path: PathBuf) -> Result<Self, ArchiveUrlError> {
        if path.components().any(|part| part == Component::ParentDir) {
            Err(ArchiveUrlError::Upward(text.to_owned()))
        } else {
            Ok(Self::Directory(path))
        }
    }
}

/// Returns the URL that is meant by a scheme with too few slashes, such as `file:/x` or `s3:bucket`.
fn with_slashes(text: &str) -> Option<ArchiveUrlError> {
    let (scheme, rest) = text.split_once(':')?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.trim_start_matches('/');
    let meant = match &*scheme {
        "file" => format!("file:///{rest}"),
        "s3" | "gs" | "az" if !rest.contains('@') => format!("{scheme}://{rest}"),
        _ => return None,
    };
    Some(ArchiveUrlError::Slashes { text: text.to_owned(), meant })
}

impl FromStr for ArchiveUrl {
    type Err = ArchiveUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = match text.split_once("://") {
            None => match with_slashes(text) {
                Some(error) => return Err(error),
                None => PathBuf::from(text),
            },
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("file") => Url::parse(text)
                .ok()
                .filter(|url| url.query().is_none() && url.fragment().is_none())
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| ArchiveUrlError::File(text.to_owned()))?,
            Some((scheme, rest)) => {
                let providers = [Provider::S3, Provider::Google, Provider::Azure];
                let named = |provider: &Provider| provider.scheme().eq_ignore_ascii_case(scheme);
                return match providers.into_iter().find(named) {
                    Some(provider) => StoreUrl::parse(provider, rest).map(Self::Store),
                    None => Err(ArchiveUrlError::Scheme(scheme.to_owned())),
                };
            }
        };
        if text.is_empty() {
            Err(ArchiveUrlError::Empty)
        } else if text.starts_with(['~', '$']) {
            Err(ArchiveUrlError::Unexpanded(text.to_owned()))
        } else if !path.is_absolute() {
            Err(ArchiveUrlError::Relative(text.to_owned()))
        } else {
            Self::directory(text, path)
        }
    }
}

impl StoreUrl {
    /// Parses the part after the scheme.
    fn parse(provider: Provider, rest: &str) -> Result<Self, ArchiveUrlError> {
        let wrong = |why| ArchiveUrlError::Bucket(provider.scheme(), why);
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong("names no bucket"));
        }
        if bucket.contains('@') {
            return Err(wrong(
                "must not hold credentials; they belong into the environment or the configuration",
            ));
        }
        // Characters in bucket names of all providers. Ports, queries and fragments are thereby refused.
        let letters =
            |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_' | '$');
        if !bucket.chars().all(letters) {
            return Err(wrong(
                "holds a character that no bucket's name has; the store's address is not part of it",
            ));
        }
        if prefix.contains(['?', '#']) {
            return Err(wrong("must hold neither \"?\" nor \"#\""));
        }
        let prefix = Key::parse(prefix).map_err(|_| {
            wrong("has a prefix that a key cannot begin with, such as one with \"..\" or \"//\" in it")
        })?;
        Ok(Self { provider, bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for ArchiveUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => Path::display(path).fmt(f),
            Self::Store(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.provider.scheme(), self.bucket)?;
        if self.prefix.as_ref().is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, ArchiveUrlError> {
        text.parse::<ArchiveUrl>().map(|url| url.to_string())
    }

    #[test]
    fn a_url_with_too_few_slashes_is_answered_with_the_right_one() {
        for (text, meant) in [
            ("file:/mnt/archive", "file:///mnt/archive"),
            ("FILE:/mnt/archive", "file:///mnt/archive"),
            ("file:mnt/archive", "file:///mnt/archive"),
            ("s3:/bucket/prefix", "s3://bucket/prefix"),
            ("Az:container", "az://container"),
        ] {
            let error = text.parse::<ArchiveUrl>().unwrap_err().to_string();
            assert_eq!(error, format!("\"{text}\" is no URL; write {meant}"));
            assert!(meant.parse::<ArchiveUrl>().is_ok());
        }
        assert_eq!("FILE:///mnt/a".parse::<ArchiveUrl>(), "/mnt/a".parse());
        assert_eq!(
            "S3://b/p".parse::<ArchiveUrl>().unwrap().to_string(),
            "s3://b/p".parse::<ArchiveUrl>().unwrap().to_string()
        );
        let with_password = "s3:user:secret@host".parse::<ArchiveUrl>().unwrap_err().to_string();
        assert!(with_password.contains("is not an absolute path"), "{with_password}");
    }

    #[test]
    fn a_path_may_have_any_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let of = |bytes: &[u8]| ArchiveUrl::of(OsStr::from_bytes(bytes));
        assert_eq!(of(b"/mnt/\xFF"), Ok(ArchiveUrl::Directory(OsStr::from_bytes(b"/mnt/\xFF").into())));
        assert_eq!(of(b"/mnt/a"), "/mnt/a".parse());
        assert!(matches!(of(b"mnt/\xFF"), Err(ArchiveUrlError::Relative(_))));
        assert!(matches!(of(b"/mnt/../\xFF"), Err(ArchiveUrlError::Upward(_))));
        assert!(matches!(of(b"s3://bucket/\xFF"), Err(ArchiveUrlError::Relative(_))));
    }

    #[test]
    fn a_path_and_a_file_url_name_a_directory() {
        assert_eq!(parsed("/mnt/archive").as_deref(), Ok("/mnt/archive"));
        assert_eq!(parsed("file:///mnt/my%20archive").as_deref(), Ok("/mnt/my archive"));
        assert_eq!(parsed("FILE:///mnt/archive").as_deref(), Ok("/mnt/archive"));
        assert_eq!(parsed("S3://wal/main").as_deref(), Ok("s3://wal/main"));
        assert_eq!(parsed("/mnt/my archive#1%20").as_deref(), Ok("/mnt/my archive#1%20"));
    }

    #[test]
    fn a_bucket_and_a_prefix_name_a_part_of_a_store() {
        assert_eq!(parsed("s3://wal").as_deref(), Ok("s3://wal"));
        assert_eq!(parsed("s3://wal/").as_deref(), Ok("s3://wal"));
        assert_eq!(parsed("gs://my_bucket.example/a/b/").as_deref(), Ok("gs://my_bucket.example/a/b"));
        let Ok(ArchiveUrl::Store(url)) = "az://wal/main cluster".parse() else { panic!("not a store") };
        assert_eq!((url.provider, url.bucket.as_str()), (Provider::Azure, "wal"));
        assert_eq!(url.prefix.as_ref(), "main cluster");
    }

    #[test]
    fn malformed_urls_are_refused() {
        assert_eq!(parsed(""), Err(ArchiveUrlError::Empty));
        assert!(matches!(parsed("archive"), Err(ArchiveUrlError::Relative(_))));
        assert!(matches!(parsed("file:/mnt/archive"), Err(ArchiveUrlError::Slashes { .. })));
        for text in ["~/archive", "$HOME/archive"] {
            assert!(matches!(parsed(text), Err(ArchiveUrlError::Unexpanded(_))), "{text}");
        }
        assert!(matches!(parsed("/mnt/../etc"), Err(ArchiveUrlError::Upward(_))));
        assert!(matches!(parsed("file://host/archive"), Err(ArchiveUrlError::File(_))));
        assert!(matches!(parsed("file:///a?b"), Err(ArchiveUrlError::File(_))));
        assert!(matches!(parsed("ftp://host/archive"), Err(ArchiveUrlError::Scheme(_))));
        for url in [
            "s3://",
            "s3:///a",
            "s3://host:9000/wal",
            "s3://b/a//b",
            "s3://b/../a",
            "s3://b/a?x=y",
            "gs://b/a#b",
        ] {
            assert!(matches!(parsed(url), Err(ArchiveUrlError::Bucket(..))), "{url}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let error = parsed("s3://id:secret@bucket/prefix").unwrap_err().to_string();
        assert!(error.contains("credentials") && !error.contains("secret"), "{error}");
    }
}
