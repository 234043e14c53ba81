//! An S3 server in the test's own process that fails on demand, and a stand-in for Google's; real ones,
//! Garage, Azurite and moto; and components between client and server: TLS, a slow link, and endpoints without a server.

pub mod azurite;
pub mod dead_end;
pub mod fault;
pub mod garage;
pub mod google;
pub mod identity;
pub mod moto;
pub mod raw_client;
pub mod recorder;
pub mod request;
pub mod slow_relay;
pub mod tls_proxy;
pub mod versions;

mod background;
mod connection;
mod installed;
mod link;
mod rules;
mod wire;

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::SeqCst},
};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tempfile::TempDir;
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;

use self::{
    background::Background,
    connection::{Api, Server},
    fault::{Fault, Matching, Right},
    google::Google,
    identity::Identity,
    request::Request,
    rules::{Conditions, Rules},
    versions::{Keeping, Versions},
};

const BUCKET: &str = "wal";
const ACCESS_KEY: &str = "AKIAWALKEEPTEST";
const SECRET_KEY: &str = "the-secret-key-of-the-tests";

/// An S3 server with the empty bucket `wal`: s3s-fs in a temporary directory, behind a layer that records every
/// request and fails on demand. Gone on drop, even if requests hang.
pub struct Store {
    server: Arc<Server>,
    listener: TcpListener,
    endpoint: String,
    // Ends before the directory is removed: fields are dropped in this order.
    _background: Background,
    directory: TempDir,
}

impl Store {
    /// Creates a server with plain HTTP.
    pub fn new() -> Self {
        Self::start(None, Api::s3)
    }

    /// Creates a stand-in for Google's server, with plain HTTP.
    pub fn of_google() -> Self {
        Self::start(None, |root, _| Api::Google(Google::new(root)))
    }

    /// Creates a server with HTTPS, as `localhost`.
    pub fn with_tls(identity: &Identity) -> Self {
        Self::start(Some(identity.acceptor()), Api::s3)
    }

    fn start(tls: Option<TlsAcceptor>, api: impl FnOnce(&Path, &Rules) -> Api) -> Self {
        let directory = tempfile::Builder::new().prefix("walkeep-test-store-").tempdir().unwrap();
        fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let listener = loopback_listener();
        let address = listener.local_addr().unwrap();
        let endpoint = if tls.is_some() { https(address) } else { http(address) };
        let rules = Rules::new(directory.path());
        let server = Arc::new(Server::new(api(directory.path(), &rules), rules));
        let background = Background::accepting(listener.try_clone().unwrap(), {
            let server = Arc::clone(&server);
            move |socket| Arc::clone(&server).serve(socket, tls.clone())
        });
        Self { server, listener, endpoint, _background: background, directory }
    }

    /// `http://127.0.0.1:PORT` or `https://localhost:PORT`.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Returns the address of the server.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Returns a client's variables for the server and its key, without a certificate authority.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        client_environment(&self.endpoint, ACCESS_KEY, SECRET_KEY, "us-east-1")
    }

    /// Returns what only Google's server has.
    pub fn google(&self) -> &Google {
        match &self.server.api {
            Api::Google(google) => google,
            Api::S3(_) => panic!("this store speaks S3"),
        }
    }

    /// Returns the path of the object `key`. Its ETag is stored elsewhere, and survives changes of this file.
    pub fn file(&self, key: &str) -> PathBuf {
        self.bucket().join(key)
    }

    /// Writes an object without a request.
    pub fn put(&self, key: &str, content: impl AsRef<[u8]>) {
        let file = self.file(key);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    /// Reads an object without a request; `None` if it does not exist.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        match fs::read(self.file(key)) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// Lists the keys of all objects, sorted.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut directories = vec![self.bucket()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    directories.push(entry.path());
                } else {
                    let path = entry.path();
                    keys.push(path.strip_prefix(self.bucket()).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        keys.sort();
        keys
    }

    fn bucket(&self) -> PathBuf {
        self.directory.path().join(BUCKET)
    }

    /// Lists the requests whose head has arrived since [`Store::forget_requests`], in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests.lock().unwrap().clone()
    }

    pub fn forget_requests(&self) {
        self.server.requests.lock().unwrap().clear();
    }

    /// Returns the number of accepted TCP connections.
    pub fn connections(&self) -> usize {
        self.server.connections.load(SeqCst)
    }

    /// Applies `fault` to every matching request, until [`Store::heal`]. Of several, the first that matches applies.
    pub fn break_with(&self, matching: Matching, fault: Fault) {
        self.add_fault(matching, fault, None);
    }

    /// Applies `fault` to the next `times` matching requests.
    pub fn break_times(&self, times: usize, matching: Matching, fault: Fault) {
        self.add_fault(matching, fault, Some(times));
    }

    /// Answers the next `number` matching requests once all of them have been executed.
    pub fn answer_together(&self, number: usize, matching: Matching) {
        self.break_times(number, matching, Fault::Together(Arc::new(Barrier::new(number))));
    }

    fn add_fault(&self, matching: Matching, fault: Fault, times: Option<usize>) {
        if matches!(fault, Fault::StopReading(_)) {
            // A connection inherits its buffer from the listener. The kernel doubles it, to 8 kB.
            self.set_receive_buffer(4 << 10);
        }
        self.server.faults.lock().unwrap().add(matching, fault, times);
    }

    /// Removes all faults for future requests; those that hang stay so.
    pub fn heal(&self) {
        self.set_receive_buffer(256 << 10);
        self.server.faults.lock().unwrap().clear();
    }

    /// Applies to connections accepted later.
    fn set_receive_buffer(&self, bytes: usize) {
        set_socket_recv_buffer_size(&self.listener, bytes).unwrap();
    }

    /// Ignores `If-None-Match` from now on, as servers do that do not support it for PUT.
    pub fn ignore_conditions(&self) {
        self.server.rules.set_conditions(Conditions::Ignored);
    }

    /// Denies from now on what needs another right than these, as Amazon does it.
    pub fn grant_only(&self, rights: &[Right]) {
        for right in Right::ALL.into_iter().filter(|right| !rights.contains(right)) {
            let denial = Fault::Answer { status: 403, code: "AccessDenied", message: "Access Denied" };
            self.break_with(Matching::Needing(right), denial);
            if right == Right::ListBucket {
                self.server.rules.hide_absence();
            }
        }
    }

    /// Keeps versions from now on.
    pub fn keep_versions(&self, keeping: Keeping) {
        let versions = Versions::new(self.directory.path(), self.keys(), keeping);
        *self.server.versions.lock().unwrap() = Some(versions);
    }

    /// Returns how many versions of an object the store has, if it keeps them.
    pub fn versions_of(&self, key: &str) -> usize {
        self.server.versions.lock().unwrap().as_ref().map_or(0, |versions| versions.number(key))
    }

    /// Answers the matching requests with the numbers `first` and `second`, counted from here on, only when both have been
    /// executed.
    pub fn answer_with(&self, matching: Matching, first: usize, second: usize) {
        let together = Fault::Together(Arc::new(Barrier::new(2)));
        self.break_times(first - 1, matching, Fault::None);
        self.break_times(1, matching, together.clone());
        self.break_times(second - first - 1, matching, Fault::None);
        self.break_times(1, matching, together);
    }

    /// Answers a PUT with `If-None-Match` with 501 NotImplemented from now on.
    pub fn refuse_conditions(&self) {
        self.server.rules.set_conditions(Conditions::Refused);
    }

    /// Sets an offset for the `Date` of responses.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.server.clock_offset.store(seconds, SeqCst);
    }
}

/// Returns the variables that S3 clients read. With them, none looks for credentials elsewhere.
fn client_environment(
    endpoint: &str,
    access_key: &str,
    secret_key: &str,
    region: &str,
) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("AWS_ACCESS_KEY_ID", access_key.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret_key.to_owned()),
        ("AWS_REGION", region.to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1".to_owned()),
    ];
    if endpoint.starts_with("http:") {
        variables.push(("AWS_ALLOW_HTTP", "true".to_owned()));
    }
    variables
}

fn loopback_listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

fn http(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// By name, because the certificate is verified for the name.
fn https(address: SocketAddr) -> String {
    format!("https://localhost:{}", address.port())
}
