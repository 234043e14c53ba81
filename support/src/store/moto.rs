//! moto, an imitation of Amazon's store with users and their rights, versions and locks.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use serde_json::Value;

use super::{client_environment, installed};
use crate::output_of;

/// Path to which `scripts/moto` installs its Python, in walkeep's directory of the cache.
const INSTALLED: &str = "moto-5.2.5/bin/python";

const SCRIPT: &str = include_str!("moto.py");

/// A server that all tests of a program share.
pub struct Moto {
    endpoint: String,
    /// Access key and secret key of each user.
    keys: BTreeMap<String, [String; 2]>,
    _server: Child,
    // Ends the server by being closed.
    _stdin: ChildStdin,
    // The server must be able to write there.
    _stdout: BufReader<ChildStdout>,
}

/// A user, by what it may do.
#[derive(Clone, Copy, Debug)]
pub enum User {
    Everything,
    /// What the guide asks for.
    Archive,
    WithoutPut,
    WithoutGet,
    WithoutList,
}

impl User {
    fn name(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Archive => "archive",
            Self::WithoutPut => "without-put",
            Self::WithoutGet => "without-get",
            Self::WithoutList => "without-list",
        }
    }
}

impl Moto {
    /// Returns the server, which the first caller starts.
    pub fn shared() -> &'static Self {
        static SERVER: LazyLock<Moto> = LazyLock::new(Moto::start);
        &SERVER
    }

    fn start() -> Self {
        let mut python = Command::new(installed::path("WALKEEP_MOTO", "scripts/moto", INSTALLED));
        python.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = python.spawn().unwrap();
        let (stdin, mut stdout) =
            (server.stdin.take().unwrap(), BufReader::new(server.stdout.take().unwrap()));
        let mut line = String::new();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "moto ended while it was starting");
        let mut said: Value = serde_json::from_str(&line).unwrap();
        let keys = serde_json::from_value(said["keys"].take()).unwrap();
        let endpoint = said["endpoint"].as_str().unwrap().to_owned();
        Self { endpoint, keys, _server: server, _stdin: stdin, _stdout: stdout }
    }

    /// Returns a client's variables for the server and the user's key.
    pub fn environment(&self, user: User) -> Vec<(&'static str, String)> {
        let [id, secret] = &self.keys[user.name()];
        client_environment(&self.endpoint, id, secret, "us-east-1")
    }

    /// Returns the numbers of versions and of delete markers in an archive.
    pub fn versions(&self, archive: &str) -> (usize, usize) {
        const COUNT: &str = "import boto3, sys
s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1')
bucket, prefix = sys.argv[2].removeprefix('s3://').split('/', 1)
found = s3.list_object_versions(Bucket=bucket, Prefix=prefix + '/')
print(len(found.get('Versions', [])), len(found.get('DeleteMarkers', [])))";
        let mut python = Command::new(installed::path("WALKEEP_MOTO", "scripts/moto", INSTALLED));
        python.args(["-c", COUNT, &self.endpoint, archive]).envs(self.environment(User::Everything));
        let counts = output_of(&mut python);
        let (versions, markers) = counts.split_once(' ').unwrap();
        (versions.parse().unwrap(), markers.parse().unwrap())
    }

    /// Returns the URL of an archive that nobody else uses, in one of the buckets: `wal`, `versioned` or `locked`.
    pub fn archive(&self, bucket: &str) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        format!("s3://{bucket}/archive-{}", NUMBER.fetch_add(1, Relaxed))
    }
}
