//! Azure's own emulator of its store: Azurite, which keeps everything in memory.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use ring::hmac;

use super::installed;

/// Path to which `scripts/azurite` installs it, in walkeep's directory of the cache.
const INSTALLED: &str = "azurite-3.35.0/node_modules/azurite/dist/src/blob/main.js";

const ACCOUNT: &str = "walkeep";
const KEY: &[u8] = b"the key of the tests";
/// Container that exists.
const CONTAINER: &str = "wal";
const VERSION: &str = "2021-08-06";

/// Ends the server with the tests, however they end.
const WITH_THE_TESTS: &str = "process.stdin.on('end', () => process.exit()).resume(); \
                              process.argv.splice(1, 0, ''); require(process.argv[2]);";

/// A server that all tests of a program share.
pub struct Azurite {
    address: String,
    _server: Child,
    // Ends the server by being closed.
    _stdin: ChildStdin,
    // The server must be able to write there.
    _stdout: BufReader<ChildStdout>,
}

impl Azurite {
    /// Returns the server, which the first caller starts.
    pub fn shared() -> &'static Self {
        static SERVER: LazyLock<Azurite> = LazyLock::new(Azurite::start);
        &SERVER
    }

    fn start() -> Self {
        let program = installed::path("WALKEEP_AZURITE", "scripts/azurite", INSTALLED);
        let mut node = Command::new("node");
        node.args(["--eval", WITH_THE_TESTS]).arg(&program);
        node.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"]);
        // Its version of the API is older than the client's.
        node.args(["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]);
        node.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", BASE64_STANDARD.encode(KEY)));
        node.current_dir(program.parent().unwrap()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = node.spawn().expect("scripts/azurite installs Node.js");
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let begin = said.len();
            assert_ne!(
                stdout.read_line(&mut said).unwrap(),
                0,
                "Azurite ended while it was starting: {said}"
            );
            if let Some((_, address)) = said[begin..].trim_end().split_once("successfully listens on ") {
                break address.to_owned();
            }
        };
        let stdin = server.stdin.take().unwrap();
        let azurite = Self { address, _server: server, _stdin: stdin, _stdout: stdout };
        // On a thread of its own, because the caller's may belong to a runtime.
        thread::scope(|scope| scope.spawn(|| azurite.create_container()).join().unwrap());
        azurite
    }

    /// `http://127.0.0.1:PORT/ACCOUNT`
    pub fn endpoint(&self) -> String {
        format!("{}/{ACCOUNT}", self.address)
    }

    /// Returns a client's variables for the server and its key.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AZURE_STORAGE_ENDPOINT", self.endpoint()),
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
            ("AZURE_STORAGE_ACCOUNT_KEY", BASE64_STANDARD.encode(KEY)),
            ("WALKEEP_STORE_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// Returns a client's variables for the server and a token that gives only these permissions in the container, by
    /// their letters in the order `racwdl`. Signed as in "Create a service SAS".
    pub fn with_token(&self, permissions: &str) -> Vec<(&'static str, String)> {
        let expiry = "2099-01-01T00:00:00Z";
        let signed = format!(
            "{permissions}\n\n{expiry}\n/blob/{ACCOUNT}/{CONTAINER}\n\n\n\n{VERSION}\nc\n\n\n\n\n\n\n"
        );
        let signature = signature(&signed).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let token =
            format!("sv={VERSION}&sr=c&sp={permissions}&se={}&sig={signature}", expiry.replace(':', "%3A"));
        let mut environment = self.environment();
        environment.retain(|(name, _)| *name != "AZURE_STORAGE_ACCOUNT_KEY");
        environment.push(("AZURE_STORAGE_SAS_TOKEN", token));
        environment
    }

    /// Returns the URL of an archive that nobody else uses.
    pub fn archive(&self) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        format!("az://{CONTAINER}/archive-{}", NUMBER.fetch_add(1, Relaxed))
    }

    /// Sends "Create Container", signed as in "Authorize with Shared Key".
    fn create_container(&self) {
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap();
        let signed = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{VERSION}\n\
             /{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
        );
        let signature = signature(&signed);
        super::identity::choose_crypto();
        let request = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .put(format!("{}/{CONTAINER}?restype=container", self.endpoint()))
            .header("x-ms-date", date)
            .header("x-ms-version", VERSION)
            .header("content-length", 0)
            .header("authorization", format!("SharedKey {ACCOUNT}:{signature}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(request.send()).unwrap();
        assert_eq!(answer.status(), 201, "{:?}", runtime.block_on(answer.text()));
    }
}

fn signature(signed: &str) -> String {
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), signed.as_bytes());
    BASE64_STANDARD.encode(signature.as_ref())
}
