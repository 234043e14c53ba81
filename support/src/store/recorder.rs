//! A server without data that accepts one upload with any protocol, and stores what was sent.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use super::{http, loopback_listener};

/// A server waiting for the upload.
pub struct Recorder {
    address: SocketAddr,
    thread: JoinHandle<Recorded>,
}

/// The recorded request.
pub struct Recorded {
    /// First line and headers, in lower case.
    pub head: Vec<String>,
    /// Path of the body.
    pub body: PathBuf,
}

impl Recorder {
    /// Starts a server that stores the body as `file`, and responds that the object was created.
    pub fn start(file: &Path) -> Self {
        let listener = loopback_listener();
        let (address, body) = (listener.local_addr().unwrap(), file.to_owned());
        Self { address, thread: thread::spawn(move || record(&listener, body)) }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        http(self.address)
    }

    /// Returns the upload, once a client has finished it.
    pub fn recorded(self) -> Recorded {
        self.thread.join().unwrap()
    }
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn record(listener: &TcpListener, body: PathBuf) -> Recorded {
    loop {
        let (socket, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(socket);
        loop {
            let head = head_of(&mut reader);
            match head.first() {
                None => break,
                Some(first) if first.starts_with("HEAD ") => {
                    reader
                        .get_mut()
                        .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                        .unwrap();
                }
                Some(_) => return take(reader, Recorded { head, body }),
            }
        }
    }
}

/// Returns the head of the next request; empty if the connection has ended.
fn head_of(reader: &mut impl BufRead) -> Vec<String> {
    let mut head: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => return head,
            first if head.is_empty() => head.push(first.to_owned()),
            header => {
                let (name, value) = header.split_once(':').unwrap();
                head.push(format!("{}: {}", name.to_ascii_lowercase(), value.trim()));
            }
        }
    }
}

fn take(mut reader: BufReader<TcpStream>, request: Recorded) -> Recorded {
    let length = request.header("content-length").unwrap().parse().unwrap();
    let mut file = File::create(&request.body).unwrap();
    assert_eq!(io::copy(&mut (&mut reader).take(length), &mut file).unwrap(), length);
    let answer = b"HTTP/1.1 201 Created\r\netag: \"1\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    reader.into_inner().write_all(answer).unwrap();
    request
}
