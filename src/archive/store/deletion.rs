//! Deletion of many objects with one request (S3's `DeleteObjects`).
//!
//! object_store 0.14.2 looks up each failure of the response among the requested keys, and panics if it is none of
//! them: `bulk_delete_request` in its src/aws/client.rs unwraps what `find_position` returns. The response is
//! therefore checked before. An error in place of that panic would replace this module.

use bytes::Buf;
use object_store::client::HttpRequest;
use object_store::path::Path;
use serde::Deserialize;

use super::answer::shown;

/// Maximum size of a response in bytes. A store returns a line or two for each of up to a thousand keys.
pub(super) const MAX_DELETION_BYTES: usize = 4 << 20;

/// A request to delete many objects.
pub(super) struct Deletion {
    asked: Vec<Path>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(rename = "Object", default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(rename = "Key")]
    key: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "$value", default)]
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
enum Outcome {
    Error(Object),
    #[serde(other)]
    Other,
}

/// Error for a response that names an object which was not requested.
#[derive(Debug, thiserror::Error)]
#[error("the answer to a deletion speaks of {0}, which was not to be deleted")]
pub(super) struct OtherObject(String);

impl Deletion {
    /// Parses the request; `None` if it is not such a deletion.
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        if request.method() != http::Method::POST || request.uri().query() != Some("delete") {
            return None;
        }
        let body = request.body().as_bytes()?.clone();
        let request: Request = quick_xml::de::from_reader(body.reader()).ok()?;
        let asked = request.objects.iter().filter_map(|object| Path::parse(&object.key).ok()).collect();
        Some(Self { asked })
    }

    /// Checks that the response names only requested objects. An unreadable response is left to its reader. The error is without
    /// these secrets.
    pub(super) fn check(&self, answer: &[u8], secrets: &[&str]) -> Result<(), OtherObject> {
        let Ok(answer) = quick_xml::de::from_reader::<_, Answer>(answer) else { return Ok(()) };
        let is_other = |key: &String| Path::parse(key).is_ok_and(|key| !self.asked.contains(&key));
        let mut failed = answer.outcomes.into_iter().filter_map(|outcome| match outcome {
            Outcome::Error(object) => Some(object.key),
            Outcome::Other => None,
        });
        failed.find(is_other).map_or(Ok(()), |key| Err(OtherObject(shown(&key, secrets).unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deletion(method: &str, uri: &str, body: &'static str) -> Option<Deletion> {
        let request =
            http::Request::builder().method(method).uri(uri).body(bytes::Bytes::from(body).into()).unwrap();
        Deletion::of(&request)
    }

    const ASKED: &str = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a/b</Key></Object>\
                         <Object><Key>a/c&amp;d</Key></Object></Delete>";

    #[test]
    fn other_requests_are_left_alone() {
        assert!(deletion("POST", "http://host/bucket?uploads", ASKED).is_none());
        assert!(deletion("DELETE", "http://host/bucket?delete", ASKED).is_none());
        assert!(deletion("POST", "http://host/bucket?delete", "nonsense").is_none());
        assert!(deletion("POST", "http://host/bucket?delete", ASKED).is_some());
    }

    #[test]
    fn an_answer_about_other_objects_is_a_failure() {
        let deletion = deletion("POST", "http://host/bucket?delete", ASKED).unwrap();
        let failure = |key: &str| {
            let answer = format!(
                "<?xml version=\"1.0\"?><DeleteResult><Deleted><Key>a/b</Key></Deleted><Error><Key>{key}</Key>\
                 <Code>AccessDenied</Code><Message>no</Message></Error><Deleted><Key>x</Key></Deleted></DeleteResult>"
            );
            deletion.check(answer.as_bytes(), &["s3cret"]).map_err(|error| error.to_string())
        };
        assert_eq!(failure("a/b"), Ok(()));
        assert_eq!(failure("a/c&amp;d"), Ok(()));
        assert!(failure("a/other").unwrap_err().contains("a/other"));
        assert!(failure("").is_err());
        let long = failure(&format!("s3cret/{}", "x".repeat(9999))).unwrap_err();
        assert!(long.contains("***/xxx") && long.len() < 400, "{long}");
        for nothing in ["<DeleteResult/>", "<html>", ""] {
            assert!(deletion.check(nothing.as_bytes(), &[]).is_ok());
        }
    }
}
