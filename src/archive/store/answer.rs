//! Meaning of a store's error responses: the one place that interprets failures of networks and stores. Pure.
//!
//! Sources: Amazon's "Error responses" of the S3 API, Google's "HTTP status and error codes for XML", Azure's "Blob
//! Storage error codes" and "Common REST API error codes", RFC 9110. For quotas, whose codes no standard names: Ceph's
//! rgw_common.cc, MinIO's api-errors.go, RustFS's quota.rs, and Garage's put.rs, which has only a message.

use std::fmt;

use jiff::SignedDuration;

use super::shown::shown;
use crate::archive::clock::{MUCH_SKEW, clock_difference};
use crate::archive::failure::Asked;
use crate::archive::url::Provider;
use crate::error::ErrorKind;

/// An error response.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// Error code of the store. A response from anything other than a store has none.
    pub(super) code: Option<String>,
    /// Error message of the store.
    pub(super) message: Option<String>,
    /// Region of the bucket, according to the store.
    pub(super) region: Option<String>,
    /// Lead of the store's clock over the local one.
    pub(super) clock_ahead: Option<SignedDuration>,
    /// `true` if the newest version of the object is a delete marker (S3): the object existed.
    pub(super) is_deleted: bool,
}

impl std::error::Error for Answer {}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer was {}", self.status)?;
        let reason =
            http::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        if let Some(reason) = reason {
            write!(f, " {reason}")?;
        }
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => write!(f, " ({code}: {message})"),
            (Some(only), None) | (None, Some(only)) => write!(f, " ({only})"),
            (None, None) => Ok(()),
        }
    }
}

impl Answer {
    /// Reads code and message from the XML that all three providers return, without these secrets.
    pub(super) fn read_body(&mut self, body: &str, secrets: &[&str]) {
        let element = |name| element(body, name, secrets);
        self.code = self.code.take().or_else(|| element("Code"));
        self.message = element("Message");
        self.region = self.region.take().or_else(|| element("Region"));
    }

    /// Returns `true` if code or message is such a text, which is given in lower case.
    fn says(&self, is_such: impl Fn(&str) -> bool) -> bool {
        [&self.code, &self.message].into_iter().flatten().any(|text| is_such(&text.to_ascii_lowercase()))
    }
}

/// Returns the text of the first such element, as [`shown`].
fn element(body: &str, name: &str, secrets: &[&str]) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    if text.contains('<') {
        return None;
    }
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    let text = entities.iter().fold(text.to_owned(), |text, (entity, meant)| text.replace(entity, meant));
    // Not before: a secret with an "&" is written with an entity, too.
    shown(&text, secrets)
}

/// Meaning of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) kind: AnswerKind,
    /// Hint for the user.
    pub(super) hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerKind {
    /// The name is taken.
    Taken,
    /// The store does not support conditions.
    Unconditional,
    /// A failure of this kind.
    Failure(ErrorKind),
}

/// Interprets a response.
pub(super) fn judge(answer: &Answer, asked: Asked, provider: Provider) -> Meaning {
    let of_kind = |kind| Meaning { kind, hint: None };
    let absent = || of_kind(AnswerKind::Failure(ErrorKind::Absent));
    let retry = || of_kind(AnswerKind::Failure(ErrorKind::Unavailable));
    let hinted = |kind, hint: String| Meaning { kind: AnswerKind::Failure(kind), hint: Some(hint) };
    let refused = |hint: &str| hinted(ErrorKind::Refused, hint.to_owned());
    let code = answer.code.as_deref().unwrap_or_default();
    match (answer.status, code) {
        // Some stores answer 405, or have no code for it.
        (404 | 405, "" | "NoSuchKey" | "MethodNotAllowed")
            if answer.is_deleted && matches!(asked, Asked::Look | Asked::Read) =>
        {
            absent()
        }
        (404, "NoSuchKey" | "BlobNotFound") if asked == Asked::List => refused(
            "the store takes the bucket for a part of a key; is the bucket's name in the endpoint already?",
        ),
        (404, "NoSuchKey" | "BlobNotFound" | "ResourceNotFound") if asked != Asked::Create => absent(),
        (404, "") if asked == Asked::Look => absent(),
        (_, "NoSuchBucket" | "ContainerNotFound") => refused(
            "the bucket does not exist there; is its name right, and the endpoint, region or account?",
        ),
        (404, _) => hinted(
            ErrorKind::Unavailable,
            "no store answers like that; is the endpoint right, and is nothing in between?".to_owned(),
        ),
        // S3 and Google return 412; Azure's emulator and some versions of Azure return 409; some servers 304, which RFC 9110
        // has for reading only.
        (304 | 412, _) | (_, "BlobAlreadyExists" | "PreconditionFailed") if asked == Asked::Create => {
            of_kind(AnswerKind::Taken)
        }
        (501, _) if asked == Asked::Create => of_kind(AnswerKind::Unconditional),
        (_, "RequestTimeTooSkewed" | "RequestExpired" | "RequestNotYetValid") => refused(&clock(answer)),
        (403, "AuthenticationFailed") if is_skewed(answer) => refused(&clock(answer)),
        (_, "InvalidAccessKeyId" | "InvalidClientTokenId" | "AuthFailure") => {
            refused("the store does not know this access key; are the credentials this store's?")
        }
        (_, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken") => {
            refused("the credentials are temporary ones and no longer valid; renew them")
        }
        (_, "SignatureDoesNotMatch") => refused(
            "the secret key does not belong to the access key, or something in between has changed the request",
        ),
        // Amazon's words for a bucket with object lock, and those of MinIO and others.
        (400, _) if asked_for_a_checksum(answer) => refused(
            "the bucket's object lock wants a checksum; set checksum_algorithm = \"sha256\" in [store], or another kind",
        ),
        (_, "InvalidObjectState") => refused(
            "the file was moved to cold storage, by a lifecycle rule or storage_class; bring it back with \"aws s3api \
             restore-object\", which takes hours, and end that rule",
        ),
        (_, "BlobArchived") => refused(
            "the file was moved to the archive tier, by a lifecycle rule or storage_class; bring it back with \"az storage blob \
             set-tier\", which takes hours, and end that rule",
        ),
        (_, "BlobBeingRehydrated") => {
            refused("the file is on its way back from the archive tier, which takes hours")
        }
        (_, "InvalidStorageClass" | "InvalidBlobTier" | "BlobAccessTierNotSupportedForAccountType") => {
            refused(
                "the store has no such class; write one of its own as storage_class in [store], or leave that out",
            )
        }
        (_, "InvalidTag") => refused("the store does not accept the tags; see tags in [store]"),
        (
            _,
            "AccountIsDisabled"
            | "AccountProblem"
            | "UserProjectAccountProblem"
            | "AllAccessDisabled"
            | "UserSuspended",
        ) => refused("the store has suspended the account; ask whoever pays for it"),
        (400..=428, _) if matches!(asked, Asked::Create | Asked::Write) && speaks_of_a_quota(answer) => {
            refused(
                "the quota is used up: raise it, or make room with \"walkeep prune\"; until then WAL piles up in pg_wal",
            )
        }
        // XML for a wrong address, another format for a wrong signature; 400 with the right region in a header.
        (301 | 302 | 308, _)
        | (_, "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            match &answer.region {
                Some(region) => {
                    refused(&format!("the bucket is in the region {region}; set region in [store]"))
                }
                None => refused("the bucket lives elsewhere; set region or endpoint in [store]"),
            }
        }
        (401 | 403, _) => refused(&not_allowed(asked, provider)),
        (507, _) => hinted(ErrorKind::Unavailable, "the store is full".to_owned()),
        // 307 is a new bucket whose name has not spread; 409 is a concurrent write to the same key.
        (307 | 408 | 409 | 425 | 429 | 500.., _)
        | (
            _,
            "RequestTimeout" | "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch" | "Md5Mismatch",
        ) => retry(),
        _ => refused("the store does not accept the request; \"walkeep check\" tells more"),
    }
}

/// Names the missing permission, in the provider's own terms.
fn not_allowed(asked: Asked, provider: Provider) -> String {
    let (verb, [s3, google, azure]) = match asked {
        Asked::Create | Asked::Write => ("write", ["s3:PutObject", "storage.objects.create", "write"]),
        Asked::Look | Asked::Read => ("read", ["s3:GetObject", "storage.objects.get", "read"]),
        Asked::List => ("list what is there", ["s3:ListBucket", "storage.objects.list", "list"]),
        Asked::Delete => ("delete", ["s3:DeleteObject", "storage.objects.delete", "delete"]),
    };
    let right = match provider {
        Provider::S3 => s3,
        Provider::Google => google,
        Provider::Azure => azure,
    };
    let hint = format!("the credentials do not allow it: they lack the right to {verb} ({right})");
    match (asked, provider) {
        (Asked::Read | Asked::Look, Provider::S3) => {
            format!(
                "{hint}; S3 answers the same for a file that does not exist, unless they allow ListBucket"
            )
        }
        // Google requires it to replace an object.
        (Asked::Write, Provider::Google) => {
            format!("{hint}, or to delete what is replaced (storage.objects.delete)")
        }
        _ => hint,
    }
}

fn asked_for_a_checksum(answer: &Answer) -> bool {
    answer.says(|text| text.contains("content-md5") || text == "missingcontentmd5")
}

fn speaks_of_a_quota(answer: &Answer) -> bool {
    answer.says(|text| text.contains("quota") || text.contains("storage cap exceeded"))
}

fn is_skewed(answer: &Answer) -> bool {
    answer.clock_ahead.is_some_and(|ahead| ahead.abs() > MUCH_SKEW)
}

fn clock(answer: &Answer) -> String {
    let Some(ahead) = answer.clock_ahead else {
        return "this machine's clock is wrong; set it, for example with NTP".to_owned();
    };
    format!("{}; set it, for example with NTP", clock_difference(ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Answer {
        Answer { status, code: (!code.is_empty()).then(|| code.to_owned()), ..Answer::default() }
    }

    fn kind(status: u16, code: &str, asked: Asked) -> AnswerKind {
        judge(&answer(status, code), asked, Provider::S3).kind
    }

    const ABSENT: AnswerKind = AnswerKind::Failure(ErrorKind::Absent);
    const RETRY: AnswerKind = AnswerKind::Failure(ErrorKind::Unavailable);
    const REFUSED: AnswerKind = AnswerKind::Failure(ErrorKind::Refused);

    #[test]
    fn only_an_error_code_about_the_key_proves_absence() {
        assert_eq!(kind(404, "NoSuchKey", Asked::Read), ABSENT);
        assert_eq!(kind(404, "BlobNotFound", Asked::Read), ABSENT);
        assert_eq!(kind(404, "", Asked::Look), ABSENT, "a HEAD's answer has no body");
        assert_eq!(kind(404, "NoSuchKey", Asked::List), REFUSED, "a listing names no key");
        assert_eq!(kind(404, "NoSuchBucket", Asked::Read), REFUSED);
        assert_eq!(kind(404, "ContainerNotFound", Asked::Look), REFUSED);
        assert_eq!(kind(404, "", Asked::Read), RETRY);
        assert_eq!(kind(404, "NoSuchUpload", Asked::Read), RETRY);
        assert_eq!(kind(404, "NoSuchKey", Asked::Create), RETRY, "creating does not need what is not there");
        for status in [301, 307, 400, 401, 403, 405, 409, 410, 412, 429, 500, 503] {
            for asked in [Asked::Read, Asked::Look] {
                assert_ne!(kind(status, "", asked), ABSENT, "{status}");
            }
        }
    }

    #[test]
    fn only_a_failed_condition_means_taken() {
        assert_eq!(kind(412, "PreconditionFailed", Asked::Create), AnswerKind::Taken);
        assert_eq!(kind(412, "", Asked::Create), AnswerKind::Taken);
        assert_eq!(kind(304, "", Asked::Create), AnswerKind::Taken, "the file is compared in any case");
        assert_eq!(kind(409, "BlobAlreadyExists", Asked::Create), AnswerKind::Taken);
        assert_eq!(kind(409, "ConditionalRequestConflict", Asked::Create), RETRY);
        assert_eq!(kind(409, "OperationAborted", Asked::Create), RETRY);
        assert_eq!(kind(501, "NotImplemented", Asked::Create), AnswerKind::Unconditional);
        for status in [400, 403, 404, 409, 429, 500, 503] {
            assert_ne!(kind(status, "", Asked::Create), AnswerKind::Taken, "{status}");
        }
    }

    #[test]
    fn temporary_failures_are_unavailable_and_permanent_ones_refused() {
        for (status, code) in [
            (500, "InternalError"),
            (502, ""),
            (503, "SlowDown"),
            (504, ""),
            (507, ""),
            (429, "TooManyRequests"),
            (408, ""),
            (400, "RequestTimeout"),
            (400, "IncompleteBody"),
            (400, "BadDigest"),
            (307, "TemporaryRedirect"),
        ] {
            assert_eq!(kind(status, code, Asked::Create), RETRY, "{status} {code}");
            assert_eq!(kind(status, code, Asked::Read), RETRY, "{status} {code}");
        }
        for (status, code) in [
            (301, "PermanentRedirect"),
            (400, "AuthorizationHeaderMalformed"),
            (400, "ExpiredToken"),
            (400, ""),
            (401, ""),
            (403, "AccessDenied"),
            (403, "InvalidAccessKeyId"),
            (403, "SignatureDoesNotMatch"),
            (403, "RequestTimeTooSkewed"),
            (403, "InvalidObjectState"),
            (405, ""),
        ] {
            for asked in [Asked::Create, Asked::Read, Asked::Look, Asked::List, Asked::Write, Asked::Delete] {
                let meaning = judge(&answer(status, code), asked, Provider::S3);
                assert_eq!(meaning.kind, REFUSED, "{status} {code}");
                assert!(meaning.hint.is_some(), "{status} {code} says what to do");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_missing_permission() {
        use Asked::{Create, Delete, List, Look, Read, Write};
        let hint = |asked, provider| judge(&answer(403, "AccessDenied"), asked, provider).hint.unwrap();
        for (asked, verb, rights) in [
            (Create, "to write (", ["s3:PutObject", "storage.objects.create", "(write)"]),
            (Write, "to write (", ["s3:PutObject", "storage.objects.create", "(write)"]),
            (Read, "to read (", ["s3:GetObject", "storage.objects.get", "(read)"]),
            (Look, "to read (", ["s3:GetObject", "storage.objects.get", "(read)"]),
            (List, "to list what is there (", ["s3:ListBucket", "storage.objects.list", "(list)"]),
            (Delete, "to delete (", ["s3:DeleteObject", "storage.objects.delete", "(delete)"]),
        ] {
            for (provider, right) in [Provider::S3, Provider::Google, Provider::Azure].into_iter().zip(rights)
            {
                let hint = hint(asked, provider);
                assert!(hint.contains(verb) && hint.contains(right), "{asked:?} {provider:?}: {hint}");
                assert_eq!(hint.contains("write"), matches!(asked, Create | Write), "{asked:?}: {hint}");
            }
        }
    }

    #[test]
    fn only_code_message_and_region_are_read_from_a_body() {
        let mut answer = answer(403, "");
        answer.read_body(
            "<?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code>\n<Message>It doesn&apos;t\n match.</Message>\
             <StringToSign>AWS4 secret-token</StringToSign><Region>eu-west-1</Region></Error>",
            &[],
        );
        assert_eq!(
            answer.to_string(),
            "the answer was 403 Forbidden (SignatureDoesNotMatch: It doesn't match.)"
        );
        assert_eq!(answer.region.as_deref(), Some("eu-west-1"));
        let mut page = super::tests::answer(404, "");
        page.read_body("<html><Code><b>No</b></Code></html>", &[]);
        assert_eq!(page.to_string(), "the answer was 404 Not Found");
        let mut long = super::tests::answer(500, "");
        long.read_body(&format!("<Message>{}</Message>", "x".repeat(9999)), &[]);
        assert!(long.to_string().len() < 400);
    }

    #[test]
    fn a_secret_is_hidden_however_it_is_written() {
        let mut answer = answer(403, "");
        answer.read_body(
            "<Error><Code>Bad</Code><Message>got sv=1&amp;sig=2&lt;3 and sv=1&sig=2<3, and key&amp;key</Message></Error>"
                .replace("2<3", "2&lt;3")
                .as_str(),
            &["sv=1&sig=2<3", "", "key&key"],
        );
        assert_eq!(answer.to_string(), "the answer was 403 Forbidden (Bad: got *** and ***, and ***)");
    }

    #[test]
    fn a_bucket_that_wants_a_checksum_is_recognized() {
        let amazon = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
        for (code, message) in
            [("InvalidRequest", amazon), ("MissingContentMD5", "Missing required header for this request.")]
        {
            let answer = Answer { message: Some(message.to_owned()), ..answer(400, code) };
            let meaning = judge(&answer, Asked::Create, Provider::S3);
            assert_eq!(meaning.kind, REFUSED, "{code}");
            assert!(meaning.hint.unwrap().contains("checksum_algorithm"), "{code}");
        }
    }

    fn with_message(status: u16, code: &str, message: &str) -> Answer {
        Answer { message: Some(message.to_owned()), ..answer(status, code) }
    }

    #[test]
    fn a_quota_is_named_and_nothing_is_tried_again_for_it() {
        for (status, code, message) in [
            (403, "QuotaExceeded", ""),
            (400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"),
            (
                403,
                "AccessDenied",
                "Bucket size quota is reached, maximum total size of objects for this bucket: 1",
            ),
            (403, "AccessDenied", "Object quota is reached, maximum objects for this bucket: 1"),
            (400, "XRustfsQuotaExceeded", ""),
            (403, "AccessDenied", "Cannot upload files, storage cap exceeded."),
        ] {
            for asked in [Asked::Create, Asked::Write] {
                let meaning = judge(&with_message(status, code, message), asked, Provider::S3);
                assert_eq!(meaning.kind, REFUSED, "{code} {message}");
                let hint = meaning.hint.unwrap();
                assert!(hint.contains("quota") && hint.contains("walkeep prune"), "{code} {message}: {hint}");
            }
        }
        let limited = with_message(429, "TooManyRequests", "Quota of requests per minute");
        assert_eq!(judge(&limited, Asked::Create, Provider::Google).kind, RETRY);
        let listing = with_message(403, "AccessDenied", "quota");
        assert!(judge(&listing, Asked::List, Provider::S3).hint.unwrap().contains("s3:ListBucket"));
    }

    #[test]
    fn a_suspended_account_is_no_missing_permission() {
        for code in [
            "AccountIsDisabled",
            "AccountProblem",
            "UserProjectAccountProblem",
            "AllAccessDisabled",
            "UserSuspended",
        ] {
            for asked in [Asked::Create, Asked::Read, Asked::Look, Asked::List] {
                let meaning = judge(&answer(403, code), asked, Provider::Azure);
                assert_eq!(meaning.kind, REFUSED, "{code}");
                let hint = meaning.hint.unwrap();
                assert!(hint.contains("account") && !hint.contains("right to"), "{code}: {hint}");
            }
        }
    }

    #[test]
    fn cold_storage_is_named_and_is_neither_absent_nor_tried_again() {
        for (provider, status, code, way_out) in [
            (Provider::S3, 403, "InvalidObjectState", "restore-object"),
            (Provider::Azure, 409, "BlobArchived", "set-tier"),
            (Provider::Azure, 409, "BlobBeingRehydrated", "hours"),
        ] {
            for asked in [Asked::Read, Asked::Look] {
                let meaning = judge(&answer(status, code), asked, provider);
                assert_eq!(meaning.kind, REFUSED, "{code}");
                assert!(meaning.hint.as_ref().unwrap().contains(way_out), "{code}: {:?}", meaning.hint);
            }
        }
    }

    #[test]
    fn a_delete_marker_is_absence_whatever_the_code() {
        let deleted = |status, code| Answer { is_deleted: true, ..answer(status, code) };
        for (status, code) in [(404, "NoSuchKey"), (404, ""), (405, "MethodNotAllowed"), (405, "")] {
            for asked in [Asked::Read, Asked::Look] {
                let kind = judge(&deleted(status, code), asked, Provider::S3).kind;
                assert_eq!(kind, ABSENT, "{status} {code} {asked:?}");
            }
            assert_ne!(judge(&deleted(status, code), Asked::Create, Provider::S3).kind, ABSENT);
        }
        assert_eq!(judge(&deleted(404, "NoSuchBucket"), Asked::Read, Provider::S3).kind, REFUSED);
        assert_eq!(judge(&deleted(403, "AccessDenied"), Asked::Read, Provider::S3).kind, REFUSED);
    }

    #[test]
    fn the_hints_name_region_and_clock() {
        let mut answer = answer(301, "PermanentRedirect");
        answer.region = Some("eu-west-1".to_owned());
        let hint = |answer: &Answer| judge(answer, Asked::Read, Provider::S3).hint.unwrap();
        assert!(hint(&answer).contains("eu-west-1"));
        let mut answer = super::tests::answer(403, "RequestTimeTooSkewed");
        answer.clock_ahead = Some(SignedDuration::new(3_720, 123_456_789));
        assert!(hint(&answer).contains("clock is 1h 2m behind the store's"), "{}", hint(&answer));
        answer.clock_ahead = Some(SignedDuration::from_mins(-61));
        assert!(hint(&answer).contains("1h 1m ahead of"), "{}", hint(&answer));
    }
}
