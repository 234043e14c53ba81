//! A real S3 server: Garage, with a single node. It does not support `If-None-Match` for PUT.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Read,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use super::{BUCKET, client_environment, http, installed, loopback_listener};
use crate::{sandbox::Sandbox, wait_until};

/// Path to which `scripts/garage` installs it, in walkeep's directory of the cache.
const INSTALLED: &str = "garage-2.5.0/bin/garage";
const REGION: &str = "garage";

// In the form of Garage's own keys.
const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
const SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A Garage server with the empty bucket `wal`; killed on drop. All its data is in the sandbox.
pub struct Garage<'a> {
    sandbox: &'a Sandbox,
    address: SocketAddr,
    server: Child,
}

impl<'a> Garage<'a> {
    /// Starts it, and waits until it serves.
    pub fn start(sandbox: &'a Sandbox) -> Self {
        let program = installed::path("WALKEEP_GARAGE", "scripts/garage", INSTALLED);
        fs::create_dir(sandbox.join("garage")).unwrap();
        loop {
            let (s3, rpc) = free_addresses();
            let mut garage = Self { sandbox, address: s3, server: launch(&program, sandbox, s3, rpc) };
            if garage.serves() {
                return garage;
            }
        }
    }

    /// Returns `true` if the server got its ports, once it has come that far: another process may have taken them.
    fn serves(&mut self) -> bool {
        let mut got_ports = None;
        wait_until("Garage serves", || {
            let log = self.log();
            if log.contains("Address already in use") {
                got_ports = Some(false);
            } else if log.contains(&format!("S3 API server listening on {}", http(self.address))) {
                got_ports = Some(true);
            } else {
                let ended = self.server.try_wait().unwrap();
                assert!(ended.is_none(), "Garage ended while it was starting: {ended:?}");
            }
            got_ports.is_some()
        });
        got_ports.unwrap()
    }

    /// Returns the address of its S3 API.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        http(self.address)
    }

    /// Returns the name of the bucket.
    pub const fn bucket() -> &'static str {
        BUCKET
    }

    /// Returns a client's variables for the server and its key.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        client_environment(&self.endpoint(), ACCESS_KEY, SECRET_KEY, REGION)
    }

    /// Returns the server's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(log_file(self.sandbox)).unwrap_or_default()
    }
}

impl Drop for Garage<'_> {
    fn drop(&mut self) {
        // Fails if the process has ended, and then nothing is left to do.
        let _ = self.server.kill();
        let _ = self.server.wait();
        if thread::panicking() {
            eprintln!("--- log of Garage\n{}", self.log());
        }
    }
}

/// Returns two different addresses: both listen at the same time.
fn free_addresses() -> (SocketAddr, SocketAddr) {
    let listeners: [TcpListener; 2] = [loopback_listener(), loopback_listener()];
    let [s3, rpc] = listeners.map(|listener| listener.local_addr().unwrap());
    (s3, rpc)
}

/// Starts the server as the user who runs the tests, whose cache may be inaccessible to others.
fn launch(program: &Path, sandbox: &Sandbox, s3: SocketAddr, rpc: SocketAddr) -> Child {
    let directory = sandbox.join("garage");
    let configuration = directory.join("garage.toml");
    fs::write(&configuration, configuration_of(&directory, s3, rpc)).unwrap();
    let log = File::create(log_file(sandbox)).unwrap();
    Command::new(program)
        .arg("--config")
        .arg(&configuration)
        .args(["server", "--single-node", "--default-bucket"])
        // It also reads settings from the environment.
        .env_clear()
        .env("GARAGE_DEFAULT_BUCKET", BUCKET)
        .env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY)
        .env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY)
        .env("RUST_LOG", "garage=info")
        .env("NO_COLOR", "1")
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn configuration_of(directory: &Path, s3: SocketAddr, rpc: SocketAddr) -> String {
    let directory = directory.display();
    let secret = random_secret();
    format!(
        r#"
metadata_dir = "{directory}/meta"
data_dir = "{directory}/data"
db_engine = "sqlite"
replication_factor = 1

rpc_bind_addr = "{rpc}"
rpc_public_addr = "{rpc}"
rpc_secret = "{secret}"

[s3_api]
api_bind_addr = "{s3}"
s3_region = "{REGION}"
root_domain = ".s3.localhost"
"#
    )
}

/// Returns a secret by which no other Garage accepts this node as its own.
fn random_secret() -> String {
    let mut bytes = [0; 32];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes.iter().fold(String::new(), |mut secret, byte| {
        write!(secret, "{byte:02x}").unwrap();
        secret
    })
}

fn log_file(sandbox: &Sandbox) -> PathBuf {
    sandbox.join("garage.log")
}
