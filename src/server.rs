//! Queries to a running server, through psql: libpq supports every way to connect and authenticate that a site may
//! use.

use std::fmt;
use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::blocking::step;
use crate::cluster::{DataDirectory, ServerSettings};
use crate::error::{Error, ErrorKind};
use crate::wal::{Lsn, SegmentName, SystemIdentifier};

/// Someone who needs the WAL from a position on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The position.
    pub from: Lsn,
    /// Who it is, for messages.
    pub who: String,
}

/// Statistics of `archive_command`, as in `pg_stat_archiver`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archiver {
    /// Number of failed calls since the statistics began.
    pub failures: u64,
    /// `true` if the last call failed.
    pub fails: bool,
    /// File of the last failed call, and the time of the failure; empty if there is none.
    pub last_failed: (String, String),
}

impl Archiver {
    fn parse(answer: &str) -> Option<Self> {
        let [failures, fails, file, at] = answer.split('|').collect::<Vec<_>>().try_into().ok()?;
        let last_failed = (file.to_owned(), at.to_owned());
        Some(Self { failures: failures.parse().ok()?, fails: fails == "t", last_failed })
    }
}

/// A running server.
#[derive(Debug, Clone)]
pub struct Server {
    url: String,
}

/// Prints the URL as given.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl Server {
    /// Creates a server from a connection URL or string. A password in it is refused, because the command line of
    /// psql is visible to every user of the machine.
    pub fn new(url: &str) -> Result<Self, Error> {
        // Up to the first "@", as in libpq, whatever is before it.
        let user = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(user, _)| user);
        // In a string, spaces may surround the equals sign. In a URL, any character may be percent-encoded.
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

    /// Returns `true` if the server is in recovery, as a standby is.
    pub fn is_in_recovery(&self) -> Result<bool, Error> {
        Ok(self.ask("select pg_is_in_recovery()")? == "t")
    }

    /// Returns the system identifier of the cluster.
    pub fn system_identifier(&self) -> Result<SystemIdentifier, Error> {
        let answer = self.ask("select system_identifier from pg_control_system()")?;
        answer.parse().map_err(|error| self.failed().because(error))
    }

    /// Returns the positions from which WAL is needed: by the server itself, if it is in recovery and would restart
    /// there, and by the users of its replication slots.
    pub fn needs(&self) -> Result<Vec<Need>, Error> {
        let slots = self.ask(
            "select coalesce(restart_lsn::text, '-') || ' ' || slot_type || ' ' \
             || coalesce(to_json(slots)->>'wal_status', '-') || ' ' || slot_name from pg_replication_slots slots",
        )?;
        let own = self.ask("select redo_lsn from pg_control_checkpoint() where pg_is_in_recovery()")?;
        let mut needs = Vec::new();
        for slot in slots.lines() {
            needs.extend(self.need_of_slot(slot)?);
        }
        if !own.is_empty() {
            let from = own.parse().map_err(|error| self.failed().because(error))?;
            needs.push(Need { from, who: format!("the server at {self}, which would restart there") });
        }
        Ok(needs)
    }

    /// Parses one slot: position, kind, state of its WAL, and name.
    fn need_of_slot(&self, slot: &str) -> Result<Option<Need>, Error> {
        let mut words = slot.splitn(4, ' ');
        let (Some(from), Some(kind), Some(wal), Some(name)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(self.failed().because(format!("\"{slot}\" is no slot")));
        };
        match (from, kind, wal) {
            // Its user may continue from the archive, at a position that is no longer known.
            ("-", "physical", "lost") => {
                let what = format!("the slot \"{name}\" of the server at {self} has lost its place");
                Err(Error::new(ErrorKind::Local, what).hint(format!(
                    "drop it (select pg_drop_replication_slot('{name}')), and ask its standby by --pg-url instead"
                )))
            }
            // Never used so far, or no longer usable.
            ("-", ..) => Ok(None),
            _ => {
                let from = from.parse().map_err(|error| self.failed().because(error))?;
                Ok(Some(Need { from, who: format!("the {kind} slot \"{name}\" of the server at {self}") }))
            }
        }
    }

    /// Returns the effective settings of archiving and restoring.
    pub fn settings(&self) -> Result<ServerSettings, Error> {
        let answer = self.ask(
            "select name || '=' || setting from pg_settings where name like 'archive%' or name = 'restore_command' order by name",
        )?;
        let pairs = answer.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Ends the current segment and returns its name.
    pub fn switch_segment(&self) -> Result<SegmentName, Error> {
        // The server would not switch an empty segment.
        self.ask("select pg_create_restore_point('walkeep check')")?;
        let answer = self.ask("select pg_walfile_name(pg_switch_wal())")?;
        answer.parse().map_err(|error| self.failed().because(error))
    }

    /// Returns the data directory, if this user may know it and it is on this machine. May run as another user than the server's.
    #[must_use]
    pub fn local_data_directory(&self) -> Option<DataDirectory> {
        let path = self.ask("select setting from pg_settings where name = 'data_directory'").ok()?;
        let data = DataDirectory::named(Path::new(&path).to_owned());
        (Path::new(&path).is_absolute() && data.has_lock()).then_some(data)
    }

    /// Returns what the server says about calls of its `archive_command`.
    pub fn archiver(&self) -> Result<Archiver, Error> {
        let answer = self.ask(
            "select failed_count, coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false), \
             coalesce(last_failed_wal, ''), coalesce(to_char(last_failed_time at time zone 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '') from pg_stat_archiver",
        )?;
        Archiver::parse(&answer).ok_or_else(|| self.failed().because(format!("\"{answer}\" is no answer")))
    }

    fn failed(&self) -> Error {
        Error::new(ErrorKind::Local, format!("cannot ask the server at {}", self.url))
    }

    /// Runs one query and returns its output, one line per row.
    fn ask(&self, query: &str) -> Result<String, Error> {
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--quiet"]);
        psql.args(["--set=ON_ERROR_STOP=1", "--dbname", &self.url, "--command", query]);
        // Must not outlive a call that gives up.
        psql.env("PGOPTIONS", "-c statement_timeout=30s").stdin(Stdio::null());
        if std::env::var_os("PGCONNECT_TIMEOUT").is_none() {
            psql.env("PGCONNECT_TIMEOUT", "10");
        }
        let output = psql.output().map_err(|error| match error.kind() {
            IoErrorKind::NotFound => self.failed().because(error).hint("install psql, PostgreSQL's client"),
            _ => self.failed().because(error),
        })?;
        step();
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
    fn a_slot_needs_wal_from_its_position_and_a_lost_one_is_a_doubt() {
        let server = Server::new("host=h").unwrap();
        let need = |slot: &str| server.need_of_slot(slot);
        let need_of_slot = need("0/3000028 physical reserved one").unwrap().unwrap();
        let who = "the physical slot \"one\" of the server at host=h".to_owned();
        assert_eq!(need_of_slot, Need { from: Lsn(0x300_0028), who });
        for (slot, from) in [
            ("16/B374D848 logical extended two", Some(Lsn(0x16_B374_D848))),
            // Still present, but the next checkpoint may remove it from pg_wal.
            ("0/1000000 physical unreserved three", Some(Lsn(0x100_0000))),
            ("0/1000000 physical - of_version_12", Some(Lsn(0x100_0000))),
            ("- physical - never_used", None),
            ("- logical lost of_nobody", None),
        ] {
            assert_eq!(need(slot).unwrap().map(|need| need.from), from, "{slot}");
        }
        let lost = need("- physical lost four").unwrap_err().report();
        assert!(lost.contains("\"four\"") && lost.contains("pg_drop_replication_slot('four')"), "{lost}");
        for other in ["", "0/1", "x physical reserved five"] {
            assert!(need(other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn the_archivers_statistics_are_parsed() {
        let never = Archiver { last_failed: (String::new(), String::new()), ..Archiver::default() };
        assert_eq!(Archiver::parse("0|f||"), Some(never));
        let failed = Archiver::parse("3|t|000000010000000000000003|2026-01-02T03:04:05Z").unwrap();
        assert_eq!((failed.failures, failed.fails), (3, true));
        assert_eq!(failed.last_failed.0, "000000010000000000000003");
        assert_eq!((Archiver::parse(""), Archiver::parse("x|f||")), (None, None));
    }

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
