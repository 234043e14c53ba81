//! Connections and their requests, and requests with a fault.

use std::{
    fmt,
    future::pending,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimePrinter};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{
    fault::{Fault, Faults},
    google::{self, Google},
    request::Request,
    rules::{OneKey, Rules},
    versions::Versions,
    wire::{Channel, Control, Mishap, Wire},
};

/// Size above which an object is stored while it arrives, instead of being collected before.
const LARGE: u64 = 64 << 20;

type Answer = Response<Full<Bytes>>;

/// What answers requests without a fault.
pub(super) enum Api {
    S3(Box<S3Service>),
    Google(Google),
}

impl Api {
    pub(super) fn s3(root: &Path, rules: &Rules) -> Self {
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
        builder.set_auth(OneKey);
        builder.set_access(rules.clone());
        Self::S3(Box::new(builder.build()))
    }

    async fn call(&self, head: Parts, body: s3s::Body) -> Answer {
        match self {
            Self::S3(s3) => {
                let answer = s3.call(http::Request::from_parts(head, body)).await.unwrap();
                let (head, body) = answer.into_parts();
                Response::from_parts(head, Full::new(body.collect().await.unwrap().to_bytes()))
            }
            Self::Google(google) => match body.collect().await {
                Ok(body) => google.call(&head, &body.to_bytes()),
                // The client has ended the connection, and nobody reads this.
                Err(_) => raw(400, &[], ""),
            },
        }
    }

    /// Returns what is recorded of a request. Google's client encodes every character of a key, slashes included.
    fn request(&self, head: &Parts) -> Request {
        let request = Request::of(head);
        match self {
            Self::S3(_) => request,
            Self::Google(_) => Request { path: google::decoded(&request.path), ..request },
        }
    }
}

/// State shared by all connections.
pub(super) struct Server {
    pub(super) api: Api,
    pub(super) rules: Rules,
    pub(super) faults: Mutex<Faults>,
    pub(super) requests: Mutex<Vec<Request>>,
    pub(super) connections: AtomicUsize,
    /// Those of a bucket that keeps them.
    pub(super) versions: Mutex<Option<Versions>>,
    /// Offset in seconds of the clock in the responses.
    pub(super) clock_offset: AtomicI64,
    /// s3s-fs looks whether an object exists before it stores one; no other may be stored in between.
    change: tokio::sync::Mutex<()>,
}

impl Server {
    pub(super) fn new(api: Api, rules: Rules) -> Self {
        Self {
            api,
            rules,
            faults: Mutex::default(),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            versions: Mutex::default(),
            clock_offset: AtomicI64::new(0),
            change: tokio::sync::Mutex::default(),
        }
    }

    /// Answers the requests of a connection until either end closes it.
    pub(super) async fn serve(self: Arc<Self>, socket: TcpStream, tls: Option<TlsAcceptor>) {
        self.connections.fetch_add(1, SeqCst);
        let channel: Box<dyn Channel> = match tls {
            None => Box::new(socket),
            Some(tls) => match tls.accept(socket).await {
                Ok(stream) => Box::new(stream),
                // The client does not trust the certificate, or has disconnected.
                Err(_) => return,
            },
        };
        let control = Control::default();
        let wire = Wire::new(channel, control.clone());
        let service = service_fn(move |request| Arc::clone(&self).answer(control.clone(), request));
        // Fails because of a fault, or of the client.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(wire), service).await;
    }

    async fn answer(
        self: Arc<Self>,
        control: Control,
        request: http::Request<Incoming>,
    ) -> Result<Answer, Broken> {
        control.forget_plan();
        let (head, mut body) = request.into_parts();
        let fault = self.note(self.api.request(&head));
        match fault {
            Some(Fault::ResetBeforeReading) => {
                control.end_with_reset();
                return Err(Broken);
            }
            Some(Fault::ResetUpload(length)) => {
                read(&mut body, length).await?;
                control.end_with_reset();
                return Err(Broken);
            }
            Some(Fault::StopReading(length)) => {
                read(&mut body, length).await?;
                return pending().await;
            }
            _ => {}
        }

        let is_head = head.method == Method::HEAD;
        let is_large = body.size_hint().exact().is_some_and(|length| length > LARGE);
        let body: s3s::Body = if is_large && fault.is_none() {
            body.into()
        } else {
            body.collect().await.map_err(|_| Broken)?.to_bytes().into()
        };
        let mut answer = match &fault {
            Some(Fault::Hang) => return pending().await,
            Some(Fault::Answer { status, code, message }) => error_document(*status, code, message),
            Some(Fault::Raw { status, headers, body }) => raw(*status, headers, *body),
            // Detached: a store executes what has arrived, even if the client has disconnected.
            _ => tokio::spawn(Arc::clone(&self).perform(head, body)).await.map_err(|_| Broken)?,
        };
        answer.headers_mut().insert(header::DATE, self.date());

        let length = if is_head { 0 } else { answer.body().size_hint().exact().unwrap() };
        match fault {
            Some(Fault::AnswerLost) => return Err(Broken),
            Some(Fault::HangAfterEffect) => return pending().await,
            Some(Fault::Late(by)) => tokio::time::sleep(by).await,
            Some(Fault::Together(barrier)) => {
                barrier.wait().await;
            }
            Some(Fault::ResetAfter(bytes)) => control.plan(bytes.min(length), Mishap::Reset),
            Some(Fault::CutBody(bytes)) => control.plan(bytes.min(length), Mishap::Close),
            Some(Fault::HangInBody(bytes)) => control.plan(bytes.min(length), Mishap::Silence),
            Some(Fault::Trickle) => control.plan(0, Mishap::Trickle),
            Some(Fault::FlipByte(byte)) => control.plan(byte.min(length.saturating_sub(1)), Mishap::Flip),
            _ => {}
        }
        Ok(answer)
    }

    /// Records a request, and returns its fault.
    fn note(&self, request: Request) -> Option<Fault> {
        let fault = self.faults.lock().unwrap().take(&request);
        self.requests.lock().unwrap().push(request);
        fault
    }

    async fn perform(self: Arc<Self>, head: Parts, body: s3s::Body) -> Answer {
        let _change = match head.method {
            Method::GET | Method::HEAD => None,
            _ => Some(self.change.lock().await),
        };
        let request = self.api.request(&head);
        let answer = self.api.call(head, body).await;
        self.with_versions(&request, answer)
    }

    /// Does what s3s-fs lacks if the bucket keeps versions. The signature has been verified.
    fn with_versions(&self, request: &Request, mut answer: Answer) -> Answer {
        let mut versions = self.versions.lock().unwrap();
        let Some(versions) = &mut *versions else { return answer };
        if answer.status() == StatusCode::NOT_IMPLEMENTED
            && let Some(told) = versions.answer(request)
        {
            return match told {
                Ok(document) => raw(200, &[("content-type", "application/xml".to_owned())], document),
                Err(code) => error_document(404, code, "There is none."),
            };
        }
        let is_marker =
            versions.is_deleted(request.path.trim_start_matches('/').split_once('/').unwrap_or_default().1);
        let status = answer.status();
        let mut header = |name: &'static str, value: String| {
            answer.headers_mut().insert(name, HeaderValue::try_from(value).unwrap());
        };
        match request.method.as_str() {
            "GET" | "HEAD" if status == StatusCode::NOT_FOUND && is_marker => {
                header("x-amz-delete-marker", "true".to_owned());
            }
            "PUT" | "POST" | "DELETE" if status.is_success() => {
                if let Some(id) = versions.note(request) {
                    header("x-amz-version-id", id.to_string());
                }
            }
            _ => {}
        }
        answer
    }

    fn date(&self) -> HeaderValue {
        let offset = SignedDuration::from_secs(self.clock_offset.load(SeqCst));
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&(Timestamp::now() + offset)).unwrap();
        HeaderValue::try_from(date).unwrap()
    }
}

/// Reads at least `length` bytes, if there are that many; they arrive in pieces of some kB.
async fn read(body: &mut Incoming, length: u64) -> Result<(), Broken> {
    let mut read = 0;
    while read < length {
        let Some(frame) = body.frame().await else { break };
        read += frame.map_err(|_| Broken)?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(())
}

fn error_document(status: u16, code: &str, message: &str) -> Answer {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut answer = Response::new(Full::new(document.into()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

fn raw(status: u16, headers: &[(&'static str, String)], body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        answer.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
    }
    answer
}

/// Ends a connection without a response.
#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the connection ends without an answer")
    }
}

impl std::error::Error for Broken {}
