//! A client that observes the end of each connection, to test the server itself.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use object_store::{
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
    signer::Signer,
};

use super::{BUCKET, Store};
use crate::PATIENCE;

/// Time without data that counts as silence.
const SILENCE: Duration = Duration::from_millis(500);

/// A client of one store with plain HTTP. Each request has its own connection.
pub struct RawClient<'a> {
    store: &'a Store,
}

/// A request that was sent as far as the server accepted it.
pub struct Call {
    connection: TcpStream,
    /// Number of bytes of the request body that the kernel accepted.
    pub written: usize,
    /// Reason why it accepted no more, if not all.
    pub stopped_by: Option<ErrorKind>,
}

/// Result of a request.
#[derive(Debug)]
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
    pub end: End,
}

/// End of a connection, if it has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
    Silence,
}

impl<'a> RawClient<'a> {
    pub fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Sends a request for an object and waits until its connection ends. `headers` are lines that end in CRLF.
    pub fn answer(&self, method: &str, key: &str, headers: &str, body: &[u8]) -> Answer {
        self.call(method, key, headers, body).answer(PATIENCE)
    }

    /// Does the same as [`RawClient::answer`] for a response that should come to a halt.
    pub fn answer_until_silence(&self, method: &str, key: &str, body: &[u8]) -> Answer {
        self.call(method, key, "", body).answer(SILENCE)
    }

    /// Sends a request for an object, until all is sent or nothing more is accepted.
    pub fn call(&self, method: &str, key: &str, headers: &str, body: &[u8]) -> Call {
        let url = self.signed_url(method, key);
        let mut connection = TcpStream::connect(self.store.address()).unwrap();
        connection.set_write_timeout(Some(SILENCE)).unwrap();
        let (host, target) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let length = body.len();
        let head = format!(
            "{method} /{target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n"
        );
        connection.write_all(head.as_bytes()).unwrap();
        let mut call = Call { connection, written: 0, stopped_by: None };
        while call.written < length && call.stopped_by.is_none() {
            match call.connection.write(&body[call.written..]) {
                Ok(more) => call.written += more,
                Err(error) => call.stopped_by = Some(error.kind()),
            }
        }
        call
    }

    fn signed_url(&self, method: &str, key: &str) -> String {
        let client = object_store_client(&self.store.environment());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime
            .block_on(client.signed_url(method.parse().unwrap(), &Path::from(key), PATIENCE))
            .unwrap()
            .into()
    }
}

/// Returns `object_store`'s own client with these variables.
pub fn object_store_client(environment: &[(&str, String)]) -> AmazonS3 {
    super::identity::choose_crypto();
    let mut builder = AmazonS3Builder::new().with_bucket_name(BUCKET);
    for (name, value) in environment {
        // It reads all except those for other clients.
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    builder.build().unwrap()
}

impl Call {
    /// Reads the response until the connection ends, or nothing has arrived for `patience`.
    pub fn answer(mut self, patience: Duration) -> Answer {
        self.connection.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = Vec::new();
        let end = match self.connection.read_to_end(&mut bytes) {
            // The kernel reports a reset once, perhaps while the request was written.
            Ok(_) if self.stopped_by == Some(ErrorKind::ConnectionReset) => End::Reset,
            Ok(_) => End::Closed,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) if error.kind() == ErrorKind::WouldBlock => End::Silence,
            Err(error) => panic!("{error}"),
        };
        let blank_line = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let body = blank_line.map(|position| bytes.split_off(position + 4)).unwrap_or_default();
        Answer { head: String::from_utf8(bytes).unwrap(), body, end }
    }
}

impl Answer {
    /// Returns the status; `None` without a response.
    pub fn status(&self) -> Option<u16> {
        self.head.split(' ').nth(1)?.parse().ok()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}
