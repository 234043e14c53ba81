//! `credential_process` of the AWS tools: a command that prints credentials as JSON.
//!
//! Source: "Process credentials" in the AWS SDKs and Tools Reference Guide. The command line is split as botocore splits
//! it, and no shell runs it: the guide wants neither variables nor `~` in it.

use std::io::IsTerminal;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::Mutex;

use super::shown::shown;
use crate::error::ErrorKind;

/// Time limit of one run. Those that call a server take a second or two.
const LONGEST_RUN: Duration = Duration::from_secs(30);

/// Maximum size of what the command may print, in bytes.
const MAX_OUTPUT: u64 = 64 << 10;

/// Temporary credentials are renewed this long before they end, so that no request is sent with those that have ended.
const IN_GOOD_TIME: SignedDuration = SignedDuration::from_mins(5);

/// Failure of the command. Never quotes what it printed to standard output.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessError {
    #[error("cannot run {program}")]
    NotRun { program: String, source: std::io::Error },
    #[error("{program} gave no answer for {} seconds", LONGEST_RUN.as_secs())]
    TooLong { program: String },
    #[error("{program} printed more than {MAX_OUTPUT} bytes")]
    TooMuch { program: String },
    #[error("{program} ended with {status}{said}")]
    Failed { program: String, status: ExitStatus, said: String },
    #[error("{program} printed something else than credentials: {why}")]
    NotCredentials { program: String, why: String },
}

impl ProcessError {
    /// Returns the kind that says whether a retry may help.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            // What it calls may be away for a moment.
            Self::TooLong { .. } | Self::Failed { .. } => ErrorKind::Unavailable,
            Self::NotRun { .. } | Self::TooMuch { .. } | Self::NotCredentials { .. } => ErrorKind::Refused,
        }
    }
}

/// A command line that prints credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CredentialProcess {
    program: String,
    arguments: Vec<String>,
}

impl CredentialProcess {
    /// Splits a command line as a shell would, expanding nothing.
    pub(super) fn parse(line: &str) -> Result<Self, &'static str> {
        let words = shlex::split(line).ok_or("a quote in it is not closed")?;
        let mut words = words.into_iter();
        let program = words.next().filter(|word| !word.is_empty()).ok_or("it names no program")?;
        if program.starts_with('~') || program.contains('$') {
            return Err("nothing expands ~ or $ there; write the whole path");
        }
        Ok(Self { program, arguments: words.collect() })
    }

    async fn run(&self) -> Result<Issued, ProcessError> {
        // At a terminal it stays in the group of the terminal: it may ask there for a code, and Ctrl-C reaches it.
        self.run_apart(!std::io::stdin().is_terminal()).await
    }

    /// Runs the command, `apart` in a process group of its own, which ends with this call: what it has started would
    /// otherwise pile up on a server whose command hangs.
    async fn run_apart(&self, apart: bool) -> Result<Issued, ProcessError> {
        let program = || self.program.clone();
        let mut command = Command::new(&self.program);
        if apart {
            command.process_group(0);
        }
        let mut child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ProcessError::NotRun { program: program(), source })?;
        let mut group = Group(child.id().filter(|_| apart));
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let ended = async {
            let (output, errors) = tokio::join!(read(output), read(errors));
            let status = child.wait().await?;
            group.0 = None;
            Ok::<_, std::io::Error>((output?, errors?, status))
        };
        let (output, errors, status) = tokio::time::timeout(LONGEST_RUN, ended)
            .await
            .map_err(|_| ProcessError::TooLong { program: program() })?
            .map_err(|source| ProcessError::NotRun { program: program(), source })?;
        if !status.success() {
            let said = shown(&String::from_utf8_lossy(&errors), &[]);
            let said = said.map_or_else(String::new, |said| format!(": {said}"));
            return Err(ProcessError::Failed { program: program(), status, said });
        }
        if output.len() as u64 > MAX_OUTPUT {
            return Err(ProcessError::TooMuch { program: program() });
        }
        Issued::parse(&output, Timestamp::now())
            .map_err(|why| ProcessError::NotCredentials { program: program(), why })
    }
}

/// Process group of a command that is not waited for yet, so that nobody else can have its number. Killed when dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(leader) = leader {
            // It fails if all have ended.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Reads all, and keeps a little more than is allowed.
async fn read(from: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(MAX_OUTPUT + 1).read_to_end(&mut kept).await?;
        // The command must be able to end.
        let mut rest = [0; 4 << 10];
        while from.read(&mut rest).await? > 0 {}
    }
    Ok(kept)
}

/// Credentials, and when to ask for new ones; `None` if they do not end.
#[derive(Debug)]
struct Issued {
    credential: Arc<AwsCredential>,
    renew: Option<Timestamp>,
}

/// The JSON that the command prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: u64,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

impl Issued {
    /// Reads what the command has printed. The error does not quote it.
    fn parse(output: &[u8], now: Timestamp) -> Result<Self, String> {
        let printed: Printed = serde_json::from_slice(output).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!(
                "JSON with Version, AccessKeyId and SecretAccessKey was expected (line {line}, column {column})"
            )
        })?;
        if printed.version != 1 {
            return Err(format!("Version is {} instead of 1", printed.version));
        }
        // It becomes a header, and the library would panic.
        let texts =
            [Some(&printed.access_key_id), Some(&printed.secret_access_key), printed.session_token.as_ref()];
        if texts.into_iter().flatten().any(|text| text.is_empty() || text.contains(char::is_control)) {
            return Err("a key is empty, or holds a control character".to_owned());
        }
        let renew = printed.expiration.as_deref().map(|end| renewal(end, now)).transpose()?;
        let credential = Arc::new(AwsCredential {
            key_id: printed.access_key_id,
            secret_key: printed.secret_access_key,
            token: printed.session_token,
        });
        Ok(Self { credential, renew })
    }
}

/// Returns when to renew credentials that end at `end`.
fn renewal(end: &str, now: Timestamp) -> Result<Timestamp, String> {
    let end: Timestamp =
        end.parse().map_err(|_| "Expiration is not a time of ISO 8601 with its zone".to_owned())?;
    let left = end.duration_since(now);
    if !left.is_positive() {
        return Err(format!("Expiration is {end}, which has passed"));
    }
    end.checked_sub(IN_GOOD_TIME.min(left / 2)).map_err(|error| error.to_string())
}

/// Gives credentials until they end, and then runs the command again.
#[derive(Debug)]
pub(super) struct ProcessCredentials {
    process: CredentialProcess,
    issued: Mutex<Option<Issued>>,
}

impl ProcessCredentials {
    pub(super) fn new(process: CredentialProcess) -> Self {
        Self { process, issued: Mutex::default() }
    }
}

#[async_trait]
impl CredentialProvider for ProcessCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut issued = self.issued.lock().await;
        if let Some(Issued { credential, renew }) = &*issued
            && renew.is_none_or(|renew| Timestamp::now() < renew)
        {
            return Ok(Arc::clone(credential));
        }
        let new = self
            .process
            .run()
            .await
            .map_err(|error| object_store::Error::Generic { store: "", source: Box::new(error) })?;
        Ok(Arc::clone(&issued.insert(new).credential))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{chain, joined};

    fn words(line: &str) -> Result<Vec<String>, &'static str> {
        let CredentialProcess { program, arguments } = CredentialProcess::parse(line)?;
        Ok([vec![program], arguments].concat())
    }

    #[test]
    fn a_command_line_is_split_at_spaces_and_keeps_what_is_quoted() {
        assert_eq!(
            words(r#""/opt/my tools/get.sh"  --user 'a b' c\ d "$HOME" "#).unwrap(),
            ["/opt/my tools/get.sh", "--user", "a b", "c d", "$HOME"]
        );
        assert_eq!(words("aws; rm x | y").unwrap(), ["aws;", "rm", "x", "|", "y"], "no shell reads it");
        for (line, why) in [
            ("", "no program"),
            ("  ", "no program"),
            ("'' x", "no program"),
            ("a 'b", "not closed"),
            ("~/x", "whole path"),
        ] {
            assert!(words(line).unwrap_err().contains(why), "{line}");
        }
    }

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn parsed(json: &str) -> Result<Issued, String> {
        Issued::parse(json.as_bytes(), NOW.parse().unwrap())
    }

    fn ending(end: &str) -> Result<Option<String>, String> {
        let json = format!(
            r#"{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s3cret", "SessionToken": "t", "Expiration": "{end}"}}"#
        );
        parsed(&json).map(|issued| issued.renew.map(|renew| renew.to_string()))
    }

    #[test]
    fn credentials_are_renewed_before_they_end() {
        let forever = parsed(r#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s","Other":[]}"#).unwrap();
        assert!(forever.renew.is_none() && forever.credential.token.is_none());
        assert_eq!(ending("2026-01-01T01:00:00Z").unwrap().unwrap(), "2026-01-01T00:55:00Z");
        assert_eq!(ending("2026-01-01T01:00:00+00:00").unwrap().unwrap(), "2026-01-01T00:55:00Z");
        assert_eq!(ending("2026-01-01T00:04:00Z").unwrap().unwrap(), "2026-01-01T00:02:00Z", "a short time");
        assert!(ending("2025-12-31T23:59:59Z").unwrap_err().contains("has passed"));
        assert!(ending("soon").unwrap_err().contains("ISO 8601"));
    }

    #[test]
    fn what_is_no_credential_is_not_quoted() {
        for json in [
            "",
            "s3cret",
            "\"s3cret\"",
            r#"{"AccessKeyId": "A", "SecretAccessKey": "s3cret"}"#,
            r#"{"Version": "s3cret", "AccessKeyId": "A", "SecretAccessKey": "s3cret"}"#,
            r#"{"Version": 2, "AccessKeyId": "A", "SecretAccessKey": "s3cret"}"#,
            r#"{"Version": 1, "AccessKeyId": "", "SecretAccessKey": "s3cret"}"#,
            r#"{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s3cret\n"}"#,
            r#"{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": {"s3cret": 1}}"#,
        ] {
            let error = parsed(json).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    async fn ran(script: &str) -> Result<Arc<AwsCredential>, (ErrorKind, String)> {
        let line = format!("sh -c {}", shlex::try_quote(script).unwrap());
        let provider = ProcessCredentials::new(CredentialProcess::parse(&line).unwrap());
        provider.get_credential().await.map_err(|error| {
            let process = chain(&error).find_map(|error| error.downcast_ref::<ProcessError>()).unwrap();
            (process.kind(), joined(chain(process)))
        })
    }

    #[tokio::test]
    async fn a_command_that_fails_is_quoted_by_its_errors_alone() {
        let (kind, error) = ran("echo s3cret; echo 'token has\nexpired' >&2; exit 7").await.unwrap_err();
        assert_eq!(
            (kind, &*error),
            (ErrorKind::Unavailable, "sh ended with exit status: 7: token has expired")
        );
        let (kind, error) = ran("echo s3cret").await.unwrap_err();
        assert!(kind == ErrorKind::Refused && !error.contains("s3cret"), "{error}");
        let (kind, error) =
            ran("head -c 9000000 /dev/zero; head -c 9000000 /dev/zero >&2").await.unwrap_err();
        assert_eq!((kind, &*error), (ErrorKind::Refused, "sh printed more than 65536 bytes"));
        let nobody = ProcessCredentials::new(CredentialProcess::parse("/nowhere/at/all x").unwrap());
        let error = nobody.get_credential().await.unwrap_err().to_string();
        assert!(error.contains("cannot run /nowhere/at/all"), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_ends_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // The child's child holds the pipe open while it lives.
        let script = format!("exec >{}; sleep 20 & echo x; wait", fifo.display());
        let line = format!("sh -c {}", shlex::try_quote(&script).unwrap());
        let process = CredentialProcess::parse(&line).unwrap();
        let mut reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        let begun = std::time::Instant::now();
        let mut byte = [0; 2];
        tokio::select! {
            _ = process.run_apart(true) => panic!("it ended"),
            read = reader.read_exact(&mut byte) => drop(read.unwrap()),
        }
        assert_eq!(reader.read(&mut byte).await.unwrap(), 0);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_command_runs_again_only_when_its_credentials_end() {
        let directory = tempfile::tempdir().unwrap();
        let runs = directory.path().join("runs");
        for (end, expected) in [("", 1), (r#","Expiration":"2099-01-01T00:00:00Z""#, 1)] {
            let _ = std::fs::remove_file(&runs);
            let json = format!(r#"{{"Version":1,"AccessKeyId":"A","SecretAccessKey":"s"{end}}}"#);
            let script = format!("echo x >>{}; echo '{json}'", runs.display());
            let line = format!("sh -c {}", shlex::try_quote(&script).unwrap());
            let provider = ProcessCredentials::new(CredentialProcess::parse(&line).unwrap());
            for _ in 0..3 {
                assert_eq!(provider.get_credential().await.unwrap().key_id, "A");
            }
            assert_eq!(std::fs::read_to_string(&runs).unwrap().lines().count(), expected);
        }
    }
}
