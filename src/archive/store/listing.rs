//! Verification of listings: a partial listing is an error.
//!
//! object_store 0.14.2 ignores what it does not know in a response of S3 or Google: in its src/client/s3.rs, each field
//! of `ListResponse` has a default, and `IsTruncated` is none of them. So it takes an error page for an empty listing,
//! and a page without a continuation for the whole. Responses are therefore checked before. Checks of its own would
//! replace this module, as for Azure, whose responses need a list of blobs to be read.

use object_store::client::HttpRequest;

/// Maximum size of a page in bytes. Pages have up to a thousand or five thousand names.
pub(super) const MAX_LISTING_BYTES: usize = 32 << 20;

/// A request for a listing, with the root element of its response.
pub(super) struct Listing {
    root: &'static str,
}

/// Error for a response that is no listing, or a part whose rest cannot be requested.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoListing {
    /// The response is something else.
    #[error("the answer to a listing is no listing")]
    Other,
    /// The listing continues, but has no continuation.
    #[error("the store has answered with a part of a listing, and not said how to ask for the rest")]
    Part,
}

impl Listing {
    /// Returns the expectation for the request if it asks for a listing.
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

    /// Checks that the response is a listing and can be followed to its end.
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
    fn a_listing_is_complete_or_has_a_continuation() {
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
