//! Listings: one is complete, or a failure.
//!
//! `object_store` takes whatever it can read of an answer, and what it cannot for nothing: an error page is an empty listing
//! to it, and a page of a store that knows no continuation the whole. So an answer is looked at before.

use object_store::client::HttpRequest;

/// Longer pages are not of a store: each has a thousand names, or five thousand.
pub(super) const MAX_LISTING_BYTES: usize = 32 << 20;

/// A request for a listing, and the element that its answer is.
pub(super) struct Listing {
    root: &'static str,
}

/// The answer is no listing, or a part of one that nobody can ask for the rest of.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoListing {
    /// It is something else.
    #[error("the answer to a listing is no listing")]
    Other,
    /// More is to come, and nothing says how.
    #[error("the store has answered with a part of a listing, and not said how to ask for the rest")]
    Part,
}

impl Listing {
    /// What the answer to the request must be, if it asks for a listing.
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        let query = request.uri().query().filter(|_| request.method() == http::Method::GET)?;
        let has = |wanted: &str| query.split('&').any(|setting| setting == wanted);
        if has("list-type=2") {
            Some(Self { root: "<ListBucketResult" })
        } else if has("comp=list") {
            Some(Self { root: "<EnumerationResults" })
        } else {
            None
        }
    }

    /// Whether the answer is a listing, and can be followed to its end.
    pub(super) fn check(&self, answer: &[u8]) -> Result<(), NoListing> {
        let text = String::from_utf8_lossy(answer);
        if !text.contains(self.root) || !text.contains("</") {
            return Err(NoListing::Other);
        }
        let is_part = text.contains("<IsTruncated>true</IsTruncated>");
        if is_part && !text.contains("<NextContinuationToken>") {
            return Err(NoListing::Part);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_complete_or_says_how_to_go_on() {
        let listing = Listing { root: "<ListBucketResult" };
        let check =
            |inside: &str| listing.check(format!("<ListBucketResult>{inside}</ListBucketResult>").as_bytes());
        assert!(check("").is_ok());
        assert!(check("<IsTruncated>false</IsTruncated>").is_ok());
        assert!(
            check("<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>").is_ok()
        );
        assert!(matches!(check("<IsTruncated>true</IsTruncated>"), Err(NoListing::Part)));
        for other in ["", "<html></html>", "<Error><Code>InternalError</Code></Error>", "<ListBucketResult>"]
        {
            assert!(matches!(listing.check(other.as_bytes()), Err(NoListing::Other)), "{other}");
        }
    }
}
