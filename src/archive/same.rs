//! Comparison of two places for an archive.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{ArchiveOptions, ArchiveUrl};
use crate::error::Error;

/// Result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sameness {
    /// Both are the same place.
    Same,
    /// They are different places.
    Different,
    /// The URL is the same, and these settings lead it to different places.
    DifferentBy(Vec<String>),
}

impl ArchiveOptions {
    /// Compares the place with another. May block.
    pub fn compare(&self, other: &Self) -> Result<Sameness, Error> {
        match (&self.url, &other.url) {
            (ArchiveUrl::Directory(one), ArchiveUrl::Directory(another)) => {
                let same = one == another || is_same_directory(one, another);
                Ok(if same { Sameness::Same } else { Sameness::Different })
            }
            (ArchiveUrl::Store(one), ArchiveUrl::Store(another)) if one == another => {
                let differing = differing(&self.identity()?, &other.identity()?);
                Ok(if differing.is_empty() { Sameness::Same } else { Sameness::DifferentBy(differing) })
            }
            _ => Ok(Sameness::Different),
        }
    }
}

fn is_same_directory(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Returns the names of the settings that differ between two identities of one URL and say where it leads to.
fn differing(one: &str, other: &str) -> Vec<String> {
    let settings = |identity: &str| -> Vec<(String, String)> {
        let pairs = identity.lines().skip(1).filter_map(|line| line.split_once(' '));
        let leads = |name: &str| {
            ["endpoint", "account_name", "base_url", "emulator"].iter().any(|part| name.contains(part))
        };
        let leading = pairs.filter(|(name, _)| leads(name));
        leading.map(|(name, value)| (name.to_owned(), value.trim_end_matches('/').to_owned())).collect()
    };
    let (one, other) = (settings(one), settings(other));
    let only = |these: &[(String, String)], those: &[(String, String)]| -> Vec<String> {
        these.iter().filter(|pair| !those.contains(pair)).map(|(name, _)| name.clone()).collect()
    };
    let mut names = [only(&one, &other), only(&other, &one)].concat();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::archive::StoreOptions;

    fn options(url: &str, settings: &[(&str, &str)]) -> ArchiveOptions {
        let file: BTreeMap<String, String> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let store = StoreOptions { file, environment: BTreeMap::new(), objects: None };
        ArchiveOptions::new(url.parse().unwrap(), store)
    }

    #[test]
    fn a_directory_is_the_same_by_whatever_path() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name).display().to_string();
        for name in ["a", "b"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let compared = |one: &str, other: &str| {
            let (one, other) = (options(&at(one), &[]), options(&at(other), &[]));
            one.compare(&other).unwrap()
        };
        assert_eq!(compared("a", "a/"), Sameness::Same);
        assert_eq!(compared("a", "link"), Sameness::Same);
        assert_eq!(compared("a", "b"), Sameness::Different);
        assert_eq!(compared("gone", "gone"), Sameness::Same);
        assert_eq!(compared("gone", "a"), Sameness::Different);
        let store = options("s3://b/p", &[]);
        assert_eq!(store.compare(&options("/a", &[])).unwrap(), Sameness::Different);
    }

    #[test]
    fn a_store_is_the_same_by_its_url_and_its_endpoint_whatever_the_credentials() {
        let here = ("endpoint", "https://here");
        let compared = |url: &str, settings: &[(&str, &str)]| {
            options("s3://b/p", &[here, ("access_key_id", "A")]).compare(&options(url, settings)).unwrap()
        };
        assert_eq!(
            compared("s3://b/p", &[here, ("access_key_id", "B"), ("secret_access_key", "x")]),
            Sameness::Same
        );
        assert_eq!(compared("s3://b/q", &[here]), Sameness::Different);
        assert_eq!(compared("s3://c/p", &[here]), Sameness::Different);
        assert_eq!(compared("gs://b/p", &[]), Sameness::Different);
        let elsewhere = compared("s3://b/p", &[("endpoint", "https://there")]);
        assert_eq!(elsewhere, Sameness::DifferentBy(vec!["aws_endpoint".to_owned()]));
    }
}
