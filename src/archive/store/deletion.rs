//! Deletion of many objects with one request: S3's `DeleteObjects`, Azure's "Blob Batch".
//!
//! object_store 0.14.2 looks up each failure of the response among the requested keys, and panics if it is none of
//! them: `bulk_delete_request` in its src/aws/client.rs unwraps what `find_position` returns, and
//! `parse_blob_batch_delete_body` in its src/azure/client.rs indexes by the `Content-ID` of a part. The response is
//! therefore checked before. An error in place of these panics would replace that.
//!
//! Of Azure's reasons it keeps a text only, and its client has no other deletion. A batch of one object that fails
//! therefore counts as a response with that failure, as `DeleteFailed` with its status would.

use bytes::Buf;
use object_store::client::HttpRequest;
use object_store::path::Path;
use serde::Deserialize;

use super::answer::Answer;
use super::shown::shown;

/// Maximum size of a response in bytes. A store returns a line or two for each of up to a thousand keys.
pub(super) const MAX_DELETION_BYTES: usize = 4 << 20;

/// A request to delete objects.
pub(super) enum Deletion {
    /// These, of S3.
    S3 { asked: Vec<Path> },
    /// That many, of Azure.
    Azure { asked: usize },
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
struct Answers {
    #[serde(rename = "$value", default)]
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
enum Outcome {
    Error(Object),
    #[serde(other)]
    Other,
}

/// Error for a response from which nothing follows for the request.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeletionFailure {
    /// It names an object that was not requested.
    #[error("the answer to a deletion speaks of {0}, which was not to be deleted")]
    OtherObject(String),
    /// The only object stays.
    #[error(transparent)]
    Answer(#[from] Answer),
}

impl Deletion {
    /// Parses the request; `None` if it is not such a deletion.
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        if request.method() != http::Method::POST {
            return None;
        }
        let query = request.uri().query()?;
        let body = request.body().as_bytes()?;
        if query == "delete" {
            let request: Request = quick_xml::de::from_reader(body.clone().reader()).ok()?;
            let asked = request.objects.iter().filter_map(|object| Path::parse(&object.key).ok()).collect();
            Some(Self::S3 { asked })
        } else if query.split('&').any(|setting| setting == "comp=batch") {
            let asked =
                String::from_utf8_lossy(body).lines().filter(|line| line.starts_with("DELETE /")).count();
            Some(Self::Azure { asked })
        } else {
            None
        }
    }

    /// Checks that the response speaks of requested objects only. An unreadable response is left to its reader. The error is
    /// without these secrets.
    pub(super) fn check(&self, answer: &[u8], secrets: &[&str]) -> Result<(), DeletionFailure> {
        match self {
            Self::S3 { asked } => check_of_s3(asked, answer, secrets),
            Self::Azure { asked } => check_of_azure(*asked, &String::from_utf8_lossy(answer), secrets),
        }
    }
}

fn check_of_s3(asked: &[Path], answer: &[u8], secrets: &[&str]) -> Result<(), DeletionFailure> {
    let Ok(answer) = quick_xml::de::from_reader::<_, Answers>(answer) else { return Ok(()) };
    let is_other = |key: &String| Path::parse(key).is_ok_and(|key| !asked.contains(&key));
    let mut failed = answer.outcomes.into_iter().filter_map(|outcome| match outcome {
        Outcome::Error(object) => Some(object.key),
        Outcome::Other => None,
    });
    failed
        .find(is_other)
        .map_or(Ok(()), |key| Err(DeletionFailure::OtherObject(shown(&key, secrets).unwrap_or_default())))
}

fn check_of_azure(asked: usize, answer: &str, secrets: &[&str]) -> Result<(), DeletionFailure> {
    for part in answer.split("\n--") {
        let header = |wanted: &str| {
            part.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case(wanted).then_some(value.trim())
            })
        };
        // Whatever is no number has no index.
        if let Some(id) = header("Content-ID").and_then(|id| id.parse::<usize>().ok())
            && id >= asked
        {
            return Err(DeletionFailure::OtherObject(format!("object number {id} of {asked}")));
        }
        let status_line = part.lines().find_map(|line| line.strip_prefix("HTTP/1.1 "));
        let Some((status, reason)) = status_line.and_then(|line| line.trim().split_once(' ')) else {
            continue;
        };
        let Ok(status) = status.parse::<u16>() else { continue };
        if asked == 1 && !(200..300).contains(&status) && status != 404 {
            let code = header("x-ms-error-code").and_then(|code| shown(code, secrets));
            let mut answer = Answer { status, code, ..Answer::default() };
            answer.read_body(part, secrets);
            answer.message = answer.message.or_else(|| shown(reason, secrets));
            return Err(answer.into());
        }
    }
    Ok(())
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

    /// A batch as Azure's client sends it, for that many objects.
    fn batch(objects: usize) -> Deletion {
        let part = |id| {
            format!(
                "--batch_x\r\nContent-Type: application/http\r\nContent-ID: {id}\r\n\r\n\
                 DELETE /wal/a%2F{id} HTTP/1.1\r\nContent-Length: 0\r\n\r\n\r\n"
            )
        };
        let body: String = (0..objects).map(part).collect();
        deletion("POST", "http://host/wal/?restype=container&comp=batch", body.leak()).unwrap()
    }

    fn answered(id: &str, status_line: &str, more: &str) -> String {
        format!(
            "--batchresponse_y\r\nContent-Type: application/http\r\nContent-ID: {id}\r\n\r\n\
             HTTP/1.1 {status_line}\r\n{more}\r\n--batchresponse_y--\r\n"
        )
    }

    #[test]
    fn an_answer_to_a_batch_about_other_objects_is_a_failure() {
        for id in ["2", "77", "18446744073709551615"] {
            let failure = batch(2).check(answered(id, "202 Accepted", "").as_bytes(), &[]).unwrap_err();
            assert!(failure.to_string().contains(&format!("object number {id} of 2")), "{failure}");
        }
        for id in ["0", "1", "-1", "none", ""] {
            assert!(batch(2).check(answered(id, "202 Accepted", "").as_bytes(), &[]).is_ok(), "{id}");
        }
        assert!(batch(2).check(b"<html>", &[]).is_ok());
    }

    #[test]
    fn the_failure_of_a_single_object_in_a_batch_is_that_of_the_request() {
        let mismatch = answered(
            "0",
            "403 Not with this s3cret.",
            "x-ms-error-code: AuthorizationPermissionMismatch\r\n",
        );
        let failure = batch(1).check(mismatch.as_bytes(), &["s3cret"]).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the answer was 403 Forbidden (AuthorizationPermissionMismatch: Not with this ***.)"
        );
        assert!(matches!(failure, DeletionFailure::Answer(Answer { status: 403, .. })));
        // Of several, the others would be forgotten.
        assert!(batch(2).check(mismatch.as_bytes(), &[]).is_ok());
        for status_line in ["202 Accepted", "404 The specified blob does not exist."] {
            assert!(batch(1).check(answered("0", status_line, "").as_bytes(), &[]).is_ok(), "{status_line}");
        }
    }
}
