//! Asking a running server, by psql: libpq knows every way that a site connects and authenticates by.

use std::io::ErrorKind as IoErrorKind;
use std::process::{Command, Stdio};

use crate::cluster::ServerSettings;
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SystemIdentifier};

/// A running server.
#[derive(Debug, Clone)]
pub struct Server {
    url: String,
}

impl Server {
    /// The server at a connection URL or string. One with a password is refused: psql's command line would show it to
    /// every user of the machine.
    pub fn new(url: &str) -> Result<Self, Error> {
        // Up to the first "@", as libpq has it, whatever stands in between.
        let user = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
        // In a string there may be spaces around the equals sign; in a URL, any letter may be written as its number.
        let plain: String = url.to_ascii_lowercase().split_whitespace().collect();
        let decoded = || {
            url::form_urlencoded::parse(plain.as_bytes())
                .any(|(key, value)| [key, value].iter().any(|text| text.contains("password")))
        };
        let is_url = url.contains("://");
        if plain.contains("password=") || is_url && decoded() || user.is_some_and(|user| user.contains(':')) {
            let what = "the server's URL must not hold a password, which everyone on this machine could see";
            return Err(Error::new(ErrorKind::Configuration, what).hint("set PGPASSWORD, or use ~/.pgpass"));
        }
        Ok(Self { url: url.to_owned() })
    }

    /// Whether it is in recovery, as a standby is.
    pub fn is_in_recovery(&self) -> Result<bool, Error> {
        Ok(self.ask("select pg_is_in_recovery()")? == "t")
    }

    /// The cluster it serves.
    pub fn system_identifier(&self) -> Result<SystemIdentifier, Error> {
        let answer = self.ask("select system_identifier from pg_control_system()")?;
        answer.parse().map_err(|error| self.failed().because(error))
    }

    /// The settings of archiving that are in force.
    pub fn settings(&self) -> Result<ServerSettings, Error> {
        let answer = self
            .ask("select name || '=' || setting from pg_settings where name like 'archive%' order by name")?;
        let pairs = answer.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Ends the segment that is being written, and gives its name.
    pub fn switch_segment(&self) -> Result<SegmentName, Error> {
        // A segment with nothing in it would not be switched.
        self.ask("select pg_create_restore_point('walkeep check')")?;
        let answer = self.ask("select pg_walfile_name(pg_switch_wal())")?;
        answer.parse().map_err(|error| self.failed().because(error))
    }

    /// What the server says of its last failure to archive; `None` when it has had none since its last success.
    pub fn archiver_failure(&self) -> Result<Option<String>, Error> {
        let answer = self.ask(
            "select last_failed_wal || ' at ' || last_failed_time from pg_stat_archiver \
             where last_failed_time > coalesce(last_archived_time, '-infinity')",
        )?;
        Ok((!answer.is_empty()).then_some(answer))
    }

    fn failed(&self) -> Error {
        Error::new(ErrorKind::Local, format!("cannot ask the server at {}", self.url))
    }

    /// What one query answers, a line for each row.
    fn ask(&self, query: &str) -> Result<String, Error> {
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--quiet"]);
        psql.args(["--set=ON_ERROR_STOP=1", "--dbname", &self.url, "--command", query]);
        // It must not outlive a call that gives up.
        psql.env("PGOPTIONS", "-c statement_timeout=30s").stdin(Stdio::null());
        if std::env::var_os("PGCONNECT_TIMEOUT").is_none() {
            psql.env("PGCONNECT_TIMEOUT", "10");
        }
        let output = psql.output().map_err(|error| match error.kind() {
            IoErrorKind::NotFound => self.failed().because(error).hint("install psql, PostgreSQL's client"),
            _ => self.failed().because(error),
        })?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(self.failed().because(said.trim().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        for url in [
            "postgres://me:s3cret@host/db",
            "postgresql://me:s3cret@host",
            "host=h password=s3cret",
            "postgres://host/db?PASSWORD=s3cret",
        ] {
            let error = Server::new(url).unwrap_err().report();
            assert!(!error.contains("s3cret"), "{error}");
        }
        for url in [
            "postgres://me@host:5432/db",
            "postgres:///db?host=/run/postgresql",
            "service=main",
            "host=h port=5432",
        ] {
            assert!(Server::new(url).is_ok(), "{url}");
        }
    }
}
