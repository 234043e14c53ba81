//! A stand-in for Google Cloud Storage: its XML API, as far as `object_store` speaks it.
//!
//! It is written from Google's public documentation, and was never compared with Google's servers. The pages, by title:
//! "PUT Object", "GET Object", "HEAD Object", "DELETE Object" and "List Objects" of the XML API reference; "Request
//! preconditions" (`x-goog-if-generation-match`: 0 means that there is no such object, and 412 answers a condition that
//! does not hold); "HTTP status and error codes for XML" (the codes); "IAM permissions for XML requests" (which
//! permission each request needs; storing under a name that is taken needs `storage.objects.delete` besides
//! `storage.objects.create`); "HTTP headers and query string parameters for XML API". What they do not say is decided
//! against the client: a missing permission is found before a condition that does not hold. That an object which does
//! not exist is answered with 403 to those who may not list is known from public buckets.
//!
//! An object is a file, and its generation the time of its last change in microseconds.

mod account;
mod listing;

use std::{
    fs::{self, Metadata},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Mutex,
    time::UNIX_EPOCH,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use percent_encoding::percent_decode_str;

pub use self::account::ServiceAccount;

type Answer = Response<Full<Bytes>>;

/// A permission, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Create,
    Get,
    List,
    Delete,
}

impl Permission {
    /// All of them, in the order of the guide's table.
    pub const ALL: [Self; 4] = [Self::Create, Self::Get, Self::List, Self::Delete];

    fn name(self) -> &'static str {
        match self {
            Self::Create => "storage.objects.create",
            Self::Get => "storage.objects.get",
            Self::List => "storage.objects.list",
            Self::Delete => "storage.objects.delete",
        }
    }
}

/// The service of one bucket.
pub struct Google {
    /// Directory of the bucket's directory.
    root: PathBuf,
    account: ServiceAccount,
    state: Mutex<State>,
}

struct State {
    permissions: Vec<Permission>,
    /// Maximum number of names in one listing.
    page: usize,
    /// Tokens that the metadata service has issued.
    issued: Vec<String>,
}

/// An error with its document.
struct Problem {
    status: u16,
    code: &'static str,
    message: String,
    details: String,
}

impl Google {
    pub(super) fn new(root: &Path) -> Self {
        let state = State { permissions: Permission::ALL.to_vec(), page: 1000, issued: Vec::new() };
        Self { root: root.to_owned(), account: ServiceAccount::known(), state: Mutex::new(state) }
    }

    /// Takes all other permissions away from the account.
    pub fn allow_only(&self, permissions: &[Permission]) {
        self.state.lock().unwrap().permissions = permissions.to_vec();
    }

    /// Gives all permissions back.
    pub fn allow_all(&self) {
        self.allow_only(&Permission::ALL);
    }

    /// Sets the maximum number of names in one listing.
    pub fn set_page(&self, names: usize) {
        self.state.lock().unwrap().page = names;
    }

    /// Accepts a token that was not signed by the account's key, such as the metadata service issues.
    pub fn issue(&self, token: &str) {
        self.state.lock().unwrap().issued.push(token.to_owned());
    }

    /// Answers a request. Those that change something must come one by one.
    pub(super) fn call(&self, head: &Parts, body: &Bytes) -> Answer {
        let answer = self.perform(head, body).unwrap_or_else(|problem| problem.answer());
        // The head of the same answer, without its body.
        if head.method == Method::HEAD { answer.map(|_| Full::default()) } else { answer }
    }

    fn perform(&self, head: &Parts, body: &Bytes) -> Result<Answer, Problem> {
        self.authenticate(&head.headers)?;
        let path = decoded(head.uri.path());
        let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((&path[1..], ""));
        if !self.root.join(bucket).is_dir() {
            return Err(Problem::new(404, "NoSuchBucket", "The specified bucket does not exist."));
        }
        let query = head.uri.query().unwrap_or_default();
        match (head.method.as_str(), key) {
            ("GET", "") => {
                self.need(Permission::List)?;
                let page = self.state.lock().unwrap().page;
                Ok(listing::of(&self.root.join(bucket), bucket, query, page))
            }
            // Sub-resources, such as those of multipart uploads.
            _ if !query.is_empty() => Err(Problem::not_allowed()),
            ("GET" | "HEAD", key) => self.read(bucket, key),
            ("PUT", key) => self.store(bucket, key, &head.headers, body),
            ("DELETE", key) => self.remove(bucket, key),
            _ => Err(Problem::not_allowed()),
        }
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let token =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let objection = match token {
            None => Some("there is none"),
            Some(token) if self.state.lock().unwrap().issued.iter().any(|issued| issued == token) => None,
            Some(token) => self.account.objection(token),
        };
        match objection {
            None => Ok(()),
            Some(objection) => Err(Problem {
                details: format!("The token: {objection}"),
                ..Problem::new(401, "AuthenticationRequired", "Authentication required.")
            }),
        }
    }

    fn need(&self, permission: Permission) -> Result<(), Problem> {
        if self.state.lock().unwrap().permissions.contains(&permission) {
            return Ok(());
        }
        let name = permission.name();
        Err(Problem {
            details: format!(
                "{} does not have {name} access to the Google Cloud Storage object. Permission '{name}' denied on \
                 resource (or it may not exist).",
                account::EMAIL
            ),
            ..Problem::new(403, "AccessDenied", "Access denied.")
        })
    }

    fn read(&self, bucket: &str, key: &str) -> Result<Answer, Problem> {
        self.need(Permission::Get)?;
        let file = self.root.join(bucket).join(key);
        let Some(metadata) = object(&file) else {
            self.need(Permission::List)?;
            return Err(Problem::no_such_key());
        };
        let content = fs::read(&file).unwrap();
        let mut answer = Response::new(Full::default());
        let headers = answer.headers_mut();
        describe(headers, &metadata, &content);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, content.len().into());
        let changed = Timestamp::try_from(metadata.modified().unwrap()).unwrap();
        let changed = DateTimePrinter::new().timestamp_to_rfc9110_string(&changed).unwrap();
        headers.insert(header::LAST_MODIFIED, changed.parse().unwrap());
        headers.insert("x-goog-stored-content-encoding", HeaderValue::from_static("identity"));
        headers.insert("x-goog-storage-class", HeaderValue::from_static("STANDARD"));
        *answer.body_mut() = Full::new(content.into());
        Ok(answer)
    }

    fn store(&self, bucket: &str, key: &str, headers: &HeaderMap, body: &Bytes) -> Result<Answer, Problem> {
        self.need(Permission::Create)?;
        let file = self.root.join(bucket).join(key);
        let found = object(&file);
        if found.is_some() {
            self.need(Permission::Delete)?;
        }
        if let Some(wanted) = headers.get("x-goog-if-generation-match") {
            let generation = found.as_ref().map_or(0, generation);
            if wanted.to_str().ok().and_then(|wanted| wanted.parse().ok()) != Some(generation) {
                return Err(Problem {
                    details: "x-goog-if-generation-match".to_owned(),
                    ..Problem::new(
                        412,
                        "PreconditionFailed",
                        "At least one of the pre-conditions you specified did not hold.",
                    )
                });
            }
        }
        let arriving = self.root.join("arriving");
        fs::write(&arriving, body).unwrap();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::rename(&arriving, &file).unwrap();
        let mut answer = Response::new(Full::default());
        describe(answer.headers_mut(), &object(&file).unwrap(), body);
        Ok(answer)
    }

    fn remove(&self, bucket: &str, key: &str) -> Result<Answer, Problem> {
        self.need(Permission::Delete)?;
        let file = self.root.join(bucket).join(key);
        if object(&file).is_none() {
            return Err(Problem::no_such_key());
        }
        fs::remove_file(&file).unwrap();
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        Ok(answer)
    }
}

/// Returns a path in which nothing is encoded.
pub(super) fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8().unwrap().into_owned()
}

/// Returns the object; a directory is a prefix of keys.
fn object(file: &Path) -> Option<Metadata> {
    match fs::metadata(file) {
        Ok(metadata) => Some(metadata).filter(Metadata::is_file),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        Err(error) => panic!("{}: {error}", file.display()),
    }
}

fn generation(metadata: &Metadata) -> u128 {
    metadata.modified().unwrap().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

/// Users should assume nothing about an ETag but that it changes with the content.
fn etag(metadata: &Metadata) -> String {
    format!("\"{:x}-{:x}\"", generation(metadata), metadata.len())
}

/// Sets the headers that answer both reading and storing.
fn describe(headers: &mut HeaderMap, metadata: &Metadata, content: &[u8]) {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, content);
    let crc = BASE64_STANDARD.encode(u32::try_from(crc).unwrap().to_be_bytes());
    for (name, value) in [
        ("etag", etag(metadata)),
        ("x-goog-generation", generation(metadata).to_string()),
        ("x-goog-metageneration", "1".to_owned()),
        ("x-goog-hash", format!("crc32c={crc}")),
        ("x-goog-stored-content-length", content.len().to_string()),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
}

impl Problem {
    fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned(), details: String::new() }
    }

    fn no_such_key() -> Self {
        Self::new(404, "NoSuchKey", "The specified key does not exist.")
    }

    fn not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    }

    fn answer(&self) -> Answer {
        let Self { status, code, message, details } = self;
        let details =
            if details.is_empty() { String::new() } else { format!("<Details>{details}</Details>") };
        let document = format!(
            "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message>{details}</Error>"
        );
        let mut answer = Response::new(Full::new(document.into()));
        *answer.status_mut() = StatusCode::from_u16(*status).unwrap();
        let xml = HeaderValue::from_static("application/xml; charset=UTF-8");
        answer.headers_mut().insert(header::CONTENT_TYPE, xml);
        answer
    }
}
