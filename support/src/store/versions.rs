//! A bucket that keeps versions, which s3s-fs does not: what its requests about versions answer.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use http::Method;
use jiff::Timestamp;

use super::{BUCKET, request::Request};

/// Entries in one answer.
const PAGE: usize = 4;

/// Settings of a bucket that keeps versions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keeping {
    /// Days for which each file is locked by default.
    pub locked_days: Option<u32>,
    /// Days after which the store removes older versions.
    pub expiry_days: Option<u32>,
}

/// The versions of each key, the oldest first.
pub(super) struct Versions {
    bucket: PathBuf,
    keeping: Keeping,
    of: BTreeMap<String, Vec<Version>>,
    number: u64,
}

struct Version {
    id: u64,
    /// Size in bytes; `None` for a delete marker.
    size: Option<u64>,
    at: Timestamp,
}

impl Versions {
    /// Starts to keep versions: what is there is the first one of each.
    pub(super) fn new(root: &Path, keys: Vec<String>, keeping: Keeping) -> Self {
        let mut versions = Self { bucket: root.join(BUCKET), keeping, of: BTreeMap::new(), number: 0 };
        for key in keys {
            versions.add(&key);
        }
        versions
    }

    /// Adds the present state of a key, and returns its version.
    fn add(&mut self, key: &str) -> u64 {
        self.number += 1;
        let size = fs::metadata(self.bucket.join(key)).ok().map(|metadata| metadata.len());
        let version = Version { id: self.number, size, at: Timestamp::now() };
        self.of.entry(key.to_owned()).or_default().push(version);
        self.number
    }

    /// Notes what a successful request has changed. Returns the version that it made of its own key.
    pub(super) fn note(&mut self, request: &Request) -> Option<u64> {
        let key = request.path.strip_prefix(&format!("/{BUCKET}/")).unwrap_or_default().to_owned();
        if request.method == Method::PUT.as_str() {
            return Some(self.add(&key));
        }
        let gone: Vec<String> = self
            .of
            .iter()
            .filter(|(key, _)| !self.is_deleted(key) && !self.bucket.join(key).exists())
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.add(key);
        }
        gone.contains(&key).then_some(self.number)
    }

    /// Returns the number of versions of a key that are no delete markers.
    pub(super) fn number(&self, key: &str) -> usize {
        let versions = self.of.get(key).into_iter().flatten();
        versions.filter(|version| version.size.is_some()).count()
    }

    pub(super) fn is_deleted(&self, key: &str) -> bool {
        self.of.get(key).and_then(|versions| versions.last()).is_some_and(|version| version.size.is_none())
    }

    /// Answers a request about the bucket: with a document, or an error code. `None` for any other request.
    pub(super) fn answer(&self, request: &Request) -> Option<Result<String, &'static str>> {
        let query = request.query.as_deref().filter(|_| request.method == Method::GET.as_str())?;
        let value = |name: &str| {
            query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
        };
        Some(match query.split('&').next()? {
            "versioning" => Ok("<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                                <Status>Enabled</Status></VersioningConfiguration>"
                .to_owned()),
            "object-lock" => self.keeping.locked_days.ok_or("ObjectLockConfigurationNotFoundError").map(|days| {
                format!(
                    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                     <Mode>GOVERNANCE</Mode><Days>{days}</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
                )
            }),
            "lifecycle" => self.keeping.expiry_days.ok_or("NoSuchLifecycleConfiguration").map(|days| {
                format!(
                    "<LifecycleConfiguration><Rule><ID>old</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>\
                     <NoncurrentVersionExpiration><NoncurrentDays>{days}</NoncurrentDays></NoncurrentVersionExpiration>\
                     </Rule></LifecycleConfiguration>"
                )
            }),
            "versions" => Ok(self.page(&decoded(value("prefix")), &decoded(value("key-marker")), value("version-id-marker"))),
            _ => return None,
        })
    }

    /// Lists the versions of the keys with that prefix after a version, the newest of each key first.
    fn page(&self, prefix: &str, key: &str, id: &str) -> String {
        let all = self.of.iter().filter(|(key, _)| key.starts_with(prefix)).flat_map(|(key, versions)| {
            let latest = versions.last().map(|version| version.id);
            versions.iter().rev().map(move |version| (key, version, latest == Some(version.id)))
        });
        let after = |(of, version, _): &(&String, &Version, bool)| {
            (of.as_str() == key && version.id < id.parse().unwrap_or(u64::MAX)) || of.as_str() > key
        };
        let mut rest = all.filter(after).peekable();
        let mut entries = String::new();
        let mut last = None;
        for (key, version, latest) in rest.by_ref().take(PAGE) {
            let Version { id, size, at } = version;
            let common = format!(
                "<Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest><LastModified>{at:.3}</LastModified>"
            );
            match size {
                Some(size) => {
                    write!(entries, "<Version>{common}<ETag>x</ETag><Size>{size}</Size></Version>").unwrap();
                }
                None => write!(entries, "<DeleteMarker>{common}</DeleteMarker>").unwrap(),
            }
            last = Some((key, id));
        }
        let more = rest.peek().and(last).map_or_else(String::new, |(key, id)| {
            format!("<NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>{id}</NextVersionIdMarker>")
        });
        let truncated = !more.is_empty();
        format!(
            "<ListVersionsResult><IsTruncated>{truncated}</IsTruncated>{more}{entries}</ListVersionsResult>"
        )
    }
}

/// The only encoded character in the keys of an archive is the slash.
fn decoded(value: &str) -> String {
    value.replace("%2F", "/")
}
