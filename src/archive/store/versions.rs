//! Whether a bucket keeps versions, what it retains of an archive, and until when: S3's `GetBucketVersioning`,
//! `GetObjectLockConfiguration`, `GetBucketLifecycleConfiguration` and `ListObjectVersions`.
//!
//! Each needs a right of its own, which nothing else needs. So whoever lacks it gets no answer, and that is no failure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::Store;
use super::failure::Causes;
use super::plain::encoded;
use crate::archive::failure::Asked;
use crate::archive::key::{Kind, classify, of_system};
use crate::archive::versioning::{Expiry, Lock, Retained, Versioning};
use crate::error::{Error, ErrorKind};
use crate::limit::as_text;
use crate::wal::SystemIdentifier;

/// Maximum number of requests to count versions: a page has a thousand, and a bucket may have millions.
const MOST_PAGES: usize = 20;

#[derive(Deserialize)]
struct VersioningAnswer {
    #[serde(rename = "Status")]
    status: Option<String>,
}

#[derive(Deserialize)]
struct LockAnswer {
    #[serde(rename = "ObjectLockEnabled")]
    enabled: Option<String>,
    #[serde(rename = "Rule")]
    rule: Option<LockRule>,
}

#[derive(Deserialize)]
struct LockRule {
    #[serde(rename = "DefaultRetention")]
    retention: Option<Retention>,
}

#[derive(Deserialize)]
struct Retention {
    #[serde(rename = "Mode")]
    mode: Option<String>,
    #[serde(rename = "Days")]
    days: Option<u32>,
    #[serde(rename = "Years")]
    years: Option<u32>,
}

#[derive(Deserialize)]
struct LifecycleAnswer {
    #[serde(rename = "Rule", default)]
    rules: Vec<LifecycleRule>,
}

#[derive(Deserialize)]
struct LifecycleRule {
    #[serde(rename = "Status")]
    status: Option<String>,
    #[serde(rename = "Prefix")]
    prefix: Option<String>,
    #[serde(rename = "Filter")]
    filter: Option<Filter>,
    #[serde(rename = "NoncurrentVersionExpiration")]
    noncurrent: Option<Noncurrent>,
}

#[derive(Deserialize)]
struct Filter {
    #[serde(rename = "Prefix")]
    prefix: Option<String>,
    /// Conditions that are not for every file.
    #[serde(rename = "Tag")]
    tag: Option<serde::de::IgnoredAny>,
    #[serde(rename = "And")]
    and: Option<serde::de::IgnoredAny>,
    #[serde(rename = "ObjectSizeGreaterThan")]
    larger: Option<serde::de::IgnoredAny>,
    #[serde(rename = "ObjectSizeLessThan")]
    smaller: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Noncurrent {
    #[serde(rename = "NoncurrentDays")]
    days: Option<u32>,
    /// Number of older versions of each key that stay, however old they are.
    #[serde(rename = "NewerNoncurrentVersions")]
    stay: Option<u32>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "$value", default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
enum Item {
    Version(Version),
    IsTruncated(String),
    NextKeyMarker(String),
    NextVersionIdMarker(String),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Version {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "IsLatest")]
    latest: bool,
    #[serde(rename = "LastModified")]
    modified: Option<Timestamp>,
    #[serde(rename = "Size")]
    size: u64,
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, quick_xml::DeError> {
    quick_xml::de::from_reader(answer)
}

/// Returns the lock that each new file gets.
fn lock_of(answer: LockAnswer) -> Option<Lock> {
    if answer.enabled.as_deref() != Some("Enabled") {
        return None;
    }
    let retention = answer.rule.and_then(|rule| rule.retention);
    // Some servers write both, one of them as 0.
    let days = retention.as_ref().and_then(|retention| {
        let years = retention.years.map(|years| years.saturating_mul(365));
        retention.days.into_iter().chain(years).find(|days| *days > 0)
    });
    Some(Lock { mode: retention.and_then(|retention| retention.mode).unwrap_or_default(), days })
}

/// Returns what the rule does that removes older versions of all keys with this prefix soonest.
fn expiry_of(answer: LifecycleAnswer, prefix: &str) -> Expiry {
    let rule = |rule: LifecycleRule| {
        let everywhere = rule.filter.as_ref().is_none_or(|filter| {
            filter.tag.is_none()
                && filter.and.is_none()
                && filter.larger.is_none()
                && filter.smaller.is_none()
        });
        let of_filter = rule.filter.and_then(|filter| filter.prefix);
        let applies = prefix.starts_with(&of_filter.or(rule.prefix).unwrap_or_default());
        let noncurrent = rule.noncurrent?;
        let expiry = match noncurrent.stay.filter(|stay| *stay > 0) {
            Some(stay) => Expiry::AllButNewest(stay),
            None => Expiry::AfterDays(noncurrent.days?),
        };
        (everywhere && applies && rule.status.as_deref() == Some("Enabled")).then_some(expiry)
    };
    // One that removes everything counts before any that does not.
    let order = |expiry: &Expiry| match expiry {
        Expiry::AfterDays(days) => (false, *days),
        Expiry::AllButNewest(stay) => (true, *stay),
        Expiry::Never | Expiry::Unknown => (true, u32::MAX),
    };
    answer.rules.into_iter().filter_map(rule).min_by_key(order).unwrap_or(Expiry::Never)
}

impl Store {
    /// Returns how the bucket keeps what is deleted or replaced; `None` if it does not say.
    pub(in crate::archive) async fn versioning(&self) -> Option<Versioning> {
        let versioning: VersioningAnswer =
            self.told(["versioning", "Versioning"], &[]).await?.unwrap_or(VersioningAnswer { status: None });
        // Suspended, it keeps those that it has.
        let keeps = matches!(versioning.status.as_deref(), Some("Enabled" | "Suspended"));
        if !keeps {
            return Some(Versioning::default());
        }
        let none = ["ObjectLockConfigurationNotFoundError"];
        let lock = match self.told::<LockAnswer>(["object-lock", "ObjectLockConfiguration"], &none).await {
            Some(Ok(answer)) => lock_of(answer),
            Some(Err(())) | None => None,
        };
        let none = ["NoSuchLifecycleConfiguration"];
        let expiry = match self.told::<LifecycleAnswer>(["lifecycle", "LifecycleConfiguration"], &none).await
        {
            Some(Ok(answer)) => expiry_of(answer, self.url.prefix.as_ref()),
            Some(Err(())) => Expiry::Never,
            None => Expiry::Unknown,
        };
        Some(Versioning { keeps, lock, expiry })
    }

    /// Returns the answer to a query, which has a word that is given with it, since not every server calls its root element as Amazon does; an error if it is one of the codes that mean "none";
    /// `None` if there is no such answer.
    async fn told<T: DeserializeOwned>(
        &self,
        [query, word]: [&str; 2],
        none: &[&str],
    ) -> Option<Result<T, ()>> {
        let why = match self.ask_bucket(query).await? {
            Ok(answer) if !String::from_utf8_lossy(&answer).contains(word) => "the answer is none".to_owned(),
            Ok(answer) => match read(&answer) {
                Ok(answer) => return Some(Ok(answer)),
                Err(error) => error.to_string(),
            },
            Err(error) if super::failure::has_code(&error, none) => return Some(Err(())),
            Err(error) => Causes::of(&error).to_string(),
        };
        tracing::debug!("{} does not say anything about \"{query}\": {why}", self.url);
        None
    }

    /// Counts the versions of archived files that are not the current ones, or as many as [`MOST_PAGES`] and that time
    /// allow.
    pub(in crate::archive) async fn retained(
        &self,
        system: SystemIdentifier,
        within: Duration,
    ) -> Result<Retained, Error> {
        let prefix = match self.url.prefix.as_ref() {
            "" => format!("{}/", of_system(system)),
            above => format!("{above}/{}/", of_system(system)),
        };
        let what = || format!("cannot list the versions in {}", self.url);
        let mut retained = Retained::default();
        let mut after = String::new();
        let end = Instant::now() + within;
        for page in 0..MOST_PAGES {
            let query = format!("versions&prefix={}{after}", encoded(&prefix));
            let Ok(answer) = timeout_at(end, self.ask_bucket(&query)).await else {
                if page > 0 {
                    break;
                }
                let why = format!("it did not answer within {}", as_text(within));
                return Err(Error::new(ErrorKind::Unavailable, what()).because(why).timed_out(true));
            };
            let Some(answer) = answer else { return Ok(Retained { whole: true, ..retained }) };
            let answer = answer.map_err(|error| self.failed(what(), Asked::List, &error))?;
            let page: Page =
                read(&answer).map_err(|error| Error::new(ErrorKind::Unavailable, what()).because(error))?;
            let (mut goes_on, mut key, mut version) = (false, String::new(), String::new());
            for item in page.items {
                match item {
                    Item::Version(found) => self.count(system, &found, &mut retained),
                    Item::IsTruncated(text) => goes_on = text == "true",
                    Item::NextKeyMarker(text) => key = text,
                    Item::NextVersionIdMarker(text) => version = text,
                    Item::Other => {}
                }
            }
            let next = format!("&key-marker={}&version-id-marker={}", encoded(&key), encoded(&version));
            if !goes_on {
                return Ok(Retained { whole: true, ..retained });
            }
            if key.is_empty() || next == after {
                return Err(Error::new(ErrorKind::Unavailable, what())
                    .because("the store has answered with a part, and not said how to ask for the rest"));
            }
            after = next;
        }
        Ok(retained)
    }

    fn count(&self, system: SystemIdentifier, found: &Version, retained: &mut Retained) {
        let key = found.key.strip_prefix(self.url.prefix.as_ref()).unwrap_or(&found.key);
        let is_file = matches!(classify(system, key.trim_start_matches('/')), Kind::File(_));
        if is_file && !found.latest {
            retained.files += 1;
            retained.bytes = retained.bytes.saturating_add(found.size);
            retained.newest = retained.newest.max(found.modified);
        }
    }
}

impl Versioning {
    /// Returns when the last lock of what is retained ends, if files are locked by default.
    #[must_use]
    pub fn locked_until(&self, retained: &Retained) -> Option<Timestamp> {
        let days = self.lock.as_ref()?.days?;
        retained.newest?.checked_add(SignedDuration::from_hours(i64::from(days) * 24)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(xml: &str) -> Option<Lock> {
        lock_of(read(xml.as_bytes()).unwrap())
    }

    #[test]
    fn a_lock_has_a_mode_and_days() {
        let with = |period: &str| {
            lock(&format!(
                "<?xml version=\"1.0\"?><ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode>{period}\
                 </DefaultRetention></Rule></ObjectLockConfiguration>"
            ))
        };
        assert_eq!(with("<Days>30</Days>"), Some(Lock { mode: "COMPLIANCE".to_owned(), days: Some(30) }));
        assert_eq!(with("<Years>2</Years>").unwrap().days, Some(730));
        assert_eq!(with("<Days>0</Days><Years>1</Years>").unwrap().days, Some(365));
        let enabled = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
        assert_eq!(lock(enabled), Some(Lock { mode: String::new(), days: None }));
        assert_eq!(lock("<ObjectLockConfiguration/>"), None);
    }

    fn expiry(rules: &str) -> Expiry {
        let xml = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        expiry_of(read(xml.as_bytes()).unwrap(), "main")
    }

    #[test]
    fn a_rule_counts_if_it_is_for_every_file_of_the_archive() {
        let rule = |status: &str, filter: &str, days: u32| {
            format!(
                "<Rule><ID>x</ID>{filter}<Status>{status}</Status><NoncurrentVersionExpiration>\
                 <NoncurrentDays>{days}</NoncurrentDays></NoncurrentVersionExpiration></Rule>"
            )
        };
        assert_eq!(expiry(&rule("Enabled", "<Filter><Prefix></Prefix></Filter>", 30)), Expiry::AfterDays(30));
        assert_eq!(expiry(&rule("Enabled", "<Filter/>", 30)), Expiry::AfterDays(30));
        assert_eq!(expiry(&rule("Enabled", "<Prefix>ma</Prefix>", 7)), Expiry::AfterDays(7));
        let both = rule("Enabled", "", 30) + &rule("Enabled", "<Prefix>main</Prefix>", 3);
        assert_eq!(expiry(&both), Expiry::AfterDays(3));
        let keeps = |number: u32, days: u32| {
            let days = format!("<NoncurrentDays>{days}</NoncurrentDays>");
            rule("Enabled", "", 1).replace(
                "<NoncurrentDays>1</NoncurrentDays>",
                &format!("<NewerNoncurrentVersions>{number}</NewerNoncurrentVersions>{days}"),
            )
        };
        assert_eq!(expiry(&keeps(3, 7)), Expiry::AllButNewest(3));
        assert_eq!(expiry(&keeps(0, 7)), Expiry::AfterDays(7));
        assert_eq!(expiry(&(keeps(3, 7) + &rule("Enabled", "", 30))), Expiry::AfterDays(30));
        for other in [
            rule("Disabled", "", 30),
            rule("Enabled", "<Filter><Prefix>other/</Prefix></Filter>", 30),
            rule("Enabled", "<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>", 30),
            "<Rule><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>".to_owned(),
            String::new(),
        ] {
            assert_eq!(expiry(&other), Expiry::Never, "{other}");
        }
    }

    #[test]
    fn a_page_of_versions_is_read_in_any_order() {
        let page: Page = read(
            "<ListVersionsResult><Name>wal</Name><NextKeyMarker>k</NextKeyMarker><IsTruncated>true</IsTruncated>\
             <DeleteMarker><Key>a</Key><IsLatest>true</IsLatest></DeleteMarker><Version><Key>a</Key><VersionId>1</VersionId>\
             <IsLatest>false</IsLatest><LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>7</Size><Owner><ID>o</ID></Owner>\
             </Version><DeleteMarker><Key>b</Key></DeleteMarker></ListVersionsResult>"
                .as_bytes(),
        )
        .unwrap();
        let versions: Vec<&Version> = page
            .items
            .iter()
            .filter_map(|item| if let Item::Version(version) = item { Some(version) } else { None })
            .collect();
        assert_eq!(versions.len(), 1);
        assert_eq!((versions[0].key.as_str(), versions[0].latest, versions[0].size), ("a", false, 7));
        assert_eq!(versions[0].modified, Some("2026-01-02T03:04:05Z".parse().unwrap()));
        let is = |wanted: &str| {
            page.items.iter().any(
                |item| matches!(item, Item::IsTruncated(text) | Item::NextKeyMarker(text) if text == wanted),
            )
        };
        assert!(is("true") && is("k"));
    }

    #[test]
    fn the_lock_of_the_newest_file_ends_last() {
        let newest: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let retained = Retained { whole: true, files: 2, bytes: 9, newest: Some(newest) };
        let locked = |days| {
            let lock = Some(Lock { mode: String::new(), days });
            Versioning { keeps: true, lock, expiry: Expiry::Never }.locked_until(&retained)
        };
        assert_eq!(locked(Some(30)), Some("2026-02-01T03:04:05Z".parse().unwrap()));
        assert_eq!(locked(None), None);
        assert_eq!(Versioning::default().locked_until(&retained), None);
    }
}
