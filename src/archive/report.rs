//! Reports of walkeep in the archive, for readers on other machines: one JSON document per kind of work, replaced by
//! the next. No other file in an archive is ever replaced.

use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};

use super::failure::Asked;
use super::local::despite_sweepers;
use super::{Archive, Backend};
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;

/// Kind of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The last `walkeep prune`.
    Prune,
    /// The last `walkeep verify`.
    Verify,
    /// Findings of `verify` that somebody has acknowledged.
    Acknowledged,
}

/// Maximum size of a report in bytes.
const MAX_REPORT_BYTES: u64 = 16 << 20;

const TOO_LONG: &str = "is too long for a report";

impl Report {
    /// All kinds.
    pub(super) const ALL: [Self; 3] = [Self::Prune, Self::Verify, Self::Acknowledged];

    /// Returns the key below the archive's prefix.
    pub(super) fn key(self, system: SystemIdentifier) -> Key {
        Key::from(format!("{system}/reports/{}.json", self.name()))
    }

    /// Returns the name of the command, or of the report's content.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prune => "prune",
            Self::Verify => "verify",
            Self::Acknowledged => "acknowledged",
        }
    }
}

impl Archive {
    /// Reads the report; `None` if it does not exist.
    pub async fn read_report(
        &self,
        system: SystemIdentifier,
        report: Report,
    ) -> Result<Option<String>, Error> {
        let key = report.key(system);
        let unusable = |why: &str| Error::new(ErrorKind::Damaged, format!("{}/{key} {why}", self.url));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map(Some).map_err(|_| unusable("is not text"));
        if let Backend::Local(local) = &self.backend {
            return match local.read_report(&key, MAX_REPORT_BYTES + 1).await? {
                None => Ok(None),
                Some(bytes) if bytes.len() as u64 > MAX_REPORT_BYTES => Err(unusable(TOO_LONG)),
                Some(bytes) => text(bytes),
            };
        }
        let found = match self.objects().get(&key).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => {
                let error = self.failure("cannot read", &key, Asked::Read, error).into_error();
                return if error.kind() == ErrorKind::Absent { Ok(None) } else { Err(error) };
            }
        };
        if found.meta.size > MAX_REPORT_BYTES {
            return Err(unusable(TOO_LONG));
        }
        let bytes = found
            .bytes()
            .await
            .map_err(|e| self.failure("cannot read", &key, Asked::Read, e).into_error())?;
        text(bytes.into())
    }

    /// Replaces the report.
    pub async fn write_report(
        &self,
        system: SystemIdentifier,
        report: Report,
        text: String,
    ) -> Result<(), Error> {
        let key = report.key(system);
        despite_sweepers(async || {
            if let Backend::Local(local) = &self.backend {
                return local.write_report(system, &key, text.clone()).await;
            }
            let written = self.objects().put(&key, PutPayload::from(text.clone())).await;
            written.map(drop).map_err(|e| self.failure("cannot write", &key, Asked::Write, e).into_error())
        })
        .await
    }
}
