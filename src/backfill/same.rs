//! Whether the archive's files of a timeline are this server's.
//!
//! Another server may have taken the same timeline: after a promotion of two, or because one is a clone of the other. Their
//! files must not be mixed, so what both places have right before a hole is compared.

use std::collections::BTreeSet;
use std::fs::File;

use super::decision::decide;
use super::look::PgWal;
use crate::archive::Archive;
use crate::blocking::blocking;
use crate::catalog::{Reading, says_something_of_the_file};
use crate::error::{Error, ErrorKind};
use crate::frame::{Archived, Digest};
use crate::push::Fence;
use crate::restore::{read_text, unusable};
use crate::spool::FileIdentity;
use crate::wal::{SystemIdentifier, TimelineId, WalName};

/// The two places, and whose files are compared.
pub(super) struct Both<'a> {
    pub(super) archive: &'a Archive,
    pub(super) wal: &'a PgWal,
    pub(super) system: SystemIdentifier,
    pub(super) reading: Reading,
}

impl Both<'_> {
    /// Raises the fence for timelines whose history file is another one in the archive. `held` is what both have.
    pub(super) async fn compare_histories(&self, held: &[WalName], fence: &Fence) -> Result<(), Error> {
        for name in held {
            if let WalName::History(_) = name
                && !self.has_same_text(*name).await?
            {
                fence.raise(*name);
            }
        }
        Ok(())
    }

    /// Raises the fence for timelines whose last segment before the first that is to be archived is another one in the archive.
    pub(super) async fn compare_segments(
        &self,
        held: &[WalName],
        goes: &[WalName],
        fence: &Fence,
    ) -> Result<(), Error> {
        let segments_of = |timeline: TimelineId, names: &[WalName]| -> BTreeSet<WalName> {
            let is_one = |name: &&WalName| matches!(name, WalName::Segment(_)) && name.timeline() == timeline;
            names.iter().filter(is_one).copied().collect()
        };
        let timelines: BTreeSet<TimelineId> = goes.iter().map(|name| name.timeline()).collect();
        for timeline in timelines {
            let Some(first) = segments_of(timeline, goes).first().copied() else { continue };
            let before = segments_of(timeline, held).range(..first).next_back().copied();
            if let Some(before) = before
                && !self.has_same_segment(before).await?
            {
                fence.raise(before);
            }
        }
        Ok(())
    }

    /// One that the archive has, and that cannot be read, may be another server's.
    async fn has_same_text(&self, name: WalName) -> Result<bool, Error> {
        let wal = self.wal.clone();
        let Some(ours) = blocking(move || wal.text(name)).await? else { return Ok(true) };
        match self.reading.patiently(async || read_text(self.archive, self.system, name).await).await {
            Ok((_, theirs)) => Ok(theirs == ours),
            Err(error) if says_something_of_the_file(error.kind()) => {
                tracing::warn!("{}", error.report());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// What cannot be compared, because it is incomplete here, damaged there, or gone, says nothing.
    async fn has_same_segment(&self, name: WalName) -> Result<bool, Error> {
        let wal = self.wal.clone();
        let Some(ours) = blocking(move || digest_of_complete(&wal, name)).await? else { return Ok(true) };
        match self.reading.patiently(async || self.archived_digest(name).await).await {
            Ok(theirs) => Ok(theirs == ours),
            Err(error) if says_something_of_the_file(error.kind()) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn archived_digest(&self, name: WalName) -> Result<Digest, Error> {
        let mut fetched = self.archive.fetch(self.system, name).await?;
        let _transfer = fetched.transfer.take();
        blocking(move || {
            let archived = Archived::open(fetched.reader, fetched.stored_size);
            let archived = archived.map_err(|error| unusable(&fetched.location, error))?;
            Ok(archived.header().blake3)
        })
        .await
    }
}

/// The digest of a segment in `pg_wal`; `None` where it is not complete, has gone, or changes.
fn digest_of_complete(wal: &PgWal, name: WalName) -> Result<Option<Digest>, Error> {
    let seen = wal.look(name)?;
    let (Ok(()), Some((identity, _))) = (decide(&seen.look), seen.file) else { return Ok(None) };
    let path = wal.path(name);
    let read = File::open(&path).and_then(|file| {
        let mut digest = blake3::Hasher::new();
        digest.update_reader(file)?;
        let unchanged = FileIdentity::from(&std::fs::metadata(&path)?) == identity;
        Ok(unchanged.then(|| Digest::from(*digest.finalize().as_bytes())))
    });
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Error::new(ErrorKind::Local, format!("cannot read {}", path.display())).because(error))
        }
        Ok(digest) => Ok(digest),
    }
}
