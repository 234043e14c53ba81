//! Verification of listings: a partial listing is an error.
//!
//! object_store 0.14.2 ignores what it does not know in a response of S3 or Google: in its src/client/s3.rs, each field
//! of `ListResponse` has a default, and `IsTruncated` is none of them. So it takes an error page for an empty listing,
//! and a page without a continuation for the whole. Responses are therefore checked before. Checks of its own would
//! replace this module, as for Azure, whose responses need a list of blobs to be read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use object_store::client::HttpRequest;
use object_store::path::Path as Key;
use quick_xml::escape::unescape;

use super::shown::shown;

/// Maximum size of a page in bytes. Pages have up to a thousand or five thousand names.
pub(super) const MAX_LISTING_BYTES: usize = 32 << 20;

/// Maximum number of entries in a page. Amazon and Google send a thousand, Azure five thousand; other stores may be set to send
/// more. The library reads a page in one go, so a limit in time could not end it.
const MOST_ENTRIES: usize = 100_000;

/// Maximum number of pages in a row without a key. Stores send some where many keys were deleted.
const MOST_EMPTY_PAGES: u64 = 10_000;

/// A request for a listing.
pub(super) struct Listing {
    provider: &'static Elements,
    /// Identifies the listing, not the page.
    whole: u64,
    is_first_page: bool,
}

/// Names of a response's parts.
struct Elements {
    root: &'static str,
    /// Entries, each with the element of its key.
    entries: [(&'static str, &'static str); 2],
    /// Parameter of a request that continues, and where it comes from.
    continuation: (&'static str, &'static str),
}

const S3: Elements = Elements {
    root: "<ListBucketResult",
    entries: [("Contents", "Key"), ("CommonPrefixes", "Prefix")],
    continuation: ("continuation-token", "NextContinuationToken"),
};

const AZURE: Elements = Elements {
    root: "<EnumerationResults",
    entries: [("Blob", "Name"), ("BlobPrefix", "Name")],
    continuation: ("marker", "NextMarker"),
};

/// Error for a response that is no listing, or whose rest cannot be requested.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoListing {
    /// The response is something else.
    #[error("the answer to a listing is no listing")]
    Other,
    /// The listing continues, but has no continuation.
    #[error("the store has answered with a part of a listing, and not said how to ask for the rest")]
    Part,
    /// A page has more entries than any store sends.
    #[error("the store has answered with more than {MOST_ENTRIES} entries in one page of a listing")]
    TooMany,
    /// The listing comes back to where it was.
    #[error("the store lists the same keys again and again")]
    Circle,
}

/// The listings that one client has in progress.
#[derive(Debug, Clone, Default)]
pub(super) struct Listings {
    ways: Arc<Mutex<HashMap<u64, Way>>>,
    has_warned: Arc<AtomicBool>,
}

/// The way through the pages of a listing. A continuation is kept while twice as many follow as before (Brent's algorithm), so a
/// circle of any length is found in constant memory.
#[derive(Debug)]
struct Way {
    kept: Option<u64>,
    pages: u64,
    until: u64,
    empty: u64,
}

impl Way {
    fn new() -> Self {
        Self { kept: None, pages: 0, until: 1, empty: 0 }
    }

    /// Returns `false` if this leads nowhere.
    fn go_on(&mut self, continuation: &str, is_empty: bool) -> bool {
        let continuation = Some(hash(continuation));
        if self.kept == continuation {
            return false;
        }
        self.pages += 1;
        if self.pages == self.until {
            (self.kept, self.pages, self.until) = (continuation, 0, self.until * 2);
        }
        self.empty = if is_empty { self.empty + 1 } else { 0 };
        self.empty <= MOST_EMPTY_PAGES
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Listing {
    /// Returns the expectation for the request if it asks for a listing.
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        let query = request.uri().query().filter(|_| request.method() == http::Method::GET)?;
        let has = |wanted: &str| query.split('&').any(|setting| setting == wanted);
        let provider = match () {
            () if has("list-type=2") => &S3,
            () if has("comp=list") => &AZURE,
            () => return None,
        };
        let is_continuation =
            |setting: &&str| setting.split_once('=').is_some_and(|(name, _)| name == provider.continuation.0);
        let whole: Vec<&str> = query.split('&').filter(|setting| !is_continuation(setting)).collect();
        let whole = hash((request.uri().path(), whole));
        Some(Self {
            provider,
            whole,
            is_first_page: !query.split('&').any(|setting| is_continuation(&setting)),
        })
    }

    /// Checks that the response is a listing and can be followed to its end.
    fn check(&self, text: &str) -> Result<(), NoListing> {
        if !text.contains(self.provider.root) || !text.contains("</") {
            return Err(NoListing::Other);
        }
        let is_part = text.contains("<IsTruncated>true</IsTruncated>");
        if is_part && self.continuation(text).is_none() {
            return Err(NoListing::Part);
        }
        let entries = |(entry, _): &(&str, &str)| text.matches(&*format!("<{entry}>")).count();
        if self.provider.entries.iter().map(entries).sum::<usize>() > MOST_ENTRIES {
            return Err(NoListing::TooMany);
        }
        Ok(())
    }

    fn continuation<'a>(&self, text: &'a str) -> Option<&'a str> {
        content(text, self.provider.continuation.1).filter(|continuation| !continuation.is_empty())
    }

    /// Returns the response without entries whose keys `object_store` cannot read, and the first of those keys. Copies at most
    /// the response, once for each kind of entry: many pages are read in a task that nothing can interrupt meanwhile.
    fn without_odd_keys<'a>(&self, text: &'a str) -> (Cow<'a, str>, Option<String>) {
        let mut odd = None;
        let mut kept = Cow::Borrowed(text);
        for (entry, name) in self.provider.entries {
            let cut = cut_odd(&kept, entry, name, &mut odd);
            if let Some(cut) = cut {
                kept = Cow::Owned(cut);
            }
        }
        (kept, odd)
    }
}

/// Returns the text without the entries of this kind whose keys nobody can read; `None` if there are none. Notes the first such
/// key.
fn cut_odd(text: &str, entry: &str, name: &str, odd: &mut Option<String>) -> Option<String> {
    let (start, end) = (format!("<{entry}>"), format!("</{entry}>"));
    let mut kept: Option<String> = None;
    let (mut rest, mut whole) = (text, text);
    while let Some((before, after)) = rest.split_once(&start) {
        let Some((inside, after)) = after.split_once(&end) else { break };
        if let Some(key) = content(inside, name).filter(|key| !is_readable(key)) {
            odd.get_or_insert_with(|| key.to_owned());
            let until = whole.len().saturating_sub(rest.len()).saturating_add(before.len());
            *kept.get_or_insert_default() += whole.get(..until).unwrap_or_default();
            whole = after;
        }
        rest = after;
    }
    if let Some(kept) = &mut kept {
        *kept += whole;
    }
    kept
}

/// Returns the content of the first such element.
fn content<'a>(text: &'a str, element: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("<{element}>"))?;
    after.split_once(&format!("</{element}>")).map(|(content, _)| content)
}

fn is_readable(key: &str) -> bool {
    unescape(key).is_ok_and(|key| Key::parse(&*key).is_ok())
}

impl Listings {
    /// Checks a response, and returns it as `object_store` can read it. A key that is told about is shown without the secrets.
    pub(super) fn accept(
        &self,
        listing: &Listing,
        answer: Bytes,
        secrets: &[&str],
    ) -> Result<Bytes, NoListing> {
        let text = String::from_utf8_lossy(&answer);
        listing.check(&text)?;
        self.follow(listing, &text)?;
        let (kept, odd) = listing.without_odd_keys(&text);
        let Some(odd) = odd else { return Ok(answer) };
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            let odd = shown(&odd, secrets).unwrap_or_default();
            tracing::warn!("the store lists keys that no archive has, such as {odd:?}; they are passed over");
        }
        Ok(kept.into_owned().into())
    }

    fn follow(&self, listing: &Listing, text: &str) -> Result<(), NoListing> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(continuation) = listing.continuation(text) else {
            ways.remove(&listing.whole);
            return Ok(());
        };
        if listing.is_first_page {
            ways.remove(&listing.whole);
        }
        let is_empty =
            !listing.provider.entries.iter().any(|(entry, _)| text.contains(&format!("<{entry}>")));
        let way = ways.entry(listing.whole).or_insert_with(Way::new);
        if way.go_on(continuation, is_empty) { Ok(()) } else { Err(NoListing::Circle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(provider: &'static Elements) -> Listing {
        Listing { provider, whole: 1, is_first_page: false }
    }

    #[test]
    fn a_listing_is_complete_or_has_a_continuation() {
        let check =
            |inside: &str| listing(&S3).check(&format!("<ListBucketResult>{inside}</ListBucketResult>"));
        assert!(check("").is_ok());
        assert!(check("<IsTruncated>false</IsTruncated>").is_ok());
        assert!(
            check("<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>").is_ok()
        );
        assert!(matches!(check("<IsTruncated>true</IsTruncated>"), Err(NoListing::Part)));
        for other in ["", "<html></html>", "<Error><Code>InternalError</Code></Error>", "<ListBucketResult>"]
        {
            assert!(matches!(listing(&S3).check(other), Err(NoListing::Other)), "{other}");
        }
    }

    #[test]
    fn a_page_of_a_listing_is_told_from_another_listing() {
        let of = |query: &str| {
            let request = http::Request::builder().uri(format!("http://host/bucket?{query}"));
            Listing::of(&request.body(object_store::client::HttpRequestBody::empty()).unwrap())
        };
        let (first, next, other) = (
            of("list-type=2&prefix=a").unwrap(),
            of("continuation-token=x&list-type=2&prefix=a").unwrap(),
            of("list-type=2&prefix=b").unwrap(),
        );
        assert_eq!((first.is_first_page, next.is_first_page), (true, false));
        assert!(first.whole == next.whole && first.whole != other.whole);
        assert!(of("comp=list&marker=x").is_some_and(|listing| !listing.is_first_page));
        assert!(of("uploads").is_none());
    }

    /// Follows pages with these continuations; returns the number of pages until a circle is found.
    fn followed(continuations: impl IntoIterator<Item = String>, entry: &str) -> Option<usize> {
        let listings = Listings::default();
        let page = |next: String| {
            let root = "ListBucketResult";
            format!("<{root}><NextContinuationToken>{next}</NextContinuationToken>{entry}</{root}>")
        };
        let mut pages = continuations.into_iter().map(page);
        pages.position(|page| listings.accept(&listing(&S3), page.into(), &[]).is_err())
    }

    const ENTRY: &str = "<Contents><Key>a</Key></Contents>";

    #[test]
    fn a_listing_that_goes_in_circles_is_found_out() {
        for (before, length) in [(0, 1), (0, 2), (5, 3), (100, 1), (3, 1000)] {
            let circle = (0..before).chain((0..length).cycle().map(|page| page + before));
            let found = followed(circle.map(|page| page.to_string()), ENTRY);
            assert!(found.is_some_and(|found| found <= 4 * (before + length)), "{before} {length} {found:?}");
        }
        assert_eq!(
            followed((0..100_000).map(|page| page.to_string()), ENTRY),
            None,
            "a large one has an end"
        );
        let empty = followed((0..).map(|page: u64| page.to_string()), "");
        assert_eq!(empty, Some(10_000), "pages without a key");
    }

    #[test]
    fn the_same_listing_may_be_asked_for_again() {
        let listings = Listings::default();
        for _ in 0..10 {
            for page in 0..5 {
                let listing = Listing { is_first_page: page == 0, ..listing(&AZURE) };
                let text = format!(
                    "<EnumerationResults><Blobs/><NextMarker>{page}</NextMarker></EnumerationResults>"
                );
                listings.accept(&listing, text.into(), &[]).unwrap();
            }
        }
    }

    #[test]
    fn keys_that_nobody_can_read_are_cut_out() {
        let entry = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let prefix = |key: &str| format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>");
        let page = |entries: &[String]| format!("<ListBucketResult>{}</ListBucketResult>", entries.concat());
        let good = [entry("7/wal/x"), entry("7/&amp;&lt;&#10003;"), prefix("7/wal/"), entry("\u{FC}")];
        let whole = page(&good);
        assert!(matches!(listing(&S3).without_odd_keys(&whole), (Cow::Borrowed(_), None)));
        for odd in ["7//x", "7/../x", "a&#10;b", "a\nb", "&#0;", "&none;", "\u{7F}"] {
            let [one, two, three, four] = &good;
            let with = page(&[
                entry(odd),
                one.clone(),
                prefix(odd),
                two.clone(),
                three.clone(),
                four.clone(),
                entry(odd),
            ]);
            let (kept, first) = listing(&S3).without_odd_keys(&with);
            assert_eq!((&*kept, first.as_deref()), (&*page(&good), Some(odd)));
        }
        let blob = |name: &str| format!("<Blob><Name>{name}</Name></Blob>");
        let both = blob("a//b") + &blob("c");
        let (kept, _) = listing(&AZURE).without_odd_keys(&both);
        assert_eq!(kept, blob("c"));
    }

    #[test]
    fn the_largest_page_is_read_at_once_and_a_larger_one_not_at_all() {
        let entry = "<Contents><Key>a</Key><Size>1</Size></Contents>";
        let odd = "<Contents><Key>a//b</Key></Contents>";
        let page = |entries: usize| {
            let root = "ListBucketResult";
            format!("<{root}>{odd}{}{odd}</{root}>", entry.repeat(entries - 2))
        };
        // Some 5 MB: copied once per entry, they would be 250 GB.
        let largest = page(MOST_ENTRIES);
        let begun = std::time::Instant::now();
        let (kept, first) = listing(&S3).without_odd_keys(&largest);
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!((kept.len(), first.as_deref()), (largest.len() - 2 * odd.len(), Some("a//b")));
        assert!(listing(&S3).check(&largest).is_ok());
        assert!(matches!(listing(&S3).check(&page(MOST_ENTRIES + 1)), Err(NoListing::TooMany)));
    }
}
