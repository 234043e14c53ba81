//! Check that the archive's files of a timeline are from this server.
//!
//! Another server may use the same timeline: after two promotions, or because one is a copy of the other. Their files
//! must not be mixed, so the files on both sides of each hole are compared.

use std::collections::{BTreeMap, BTreeSet};

use super::Missing;
use super::decision::decide;
use super::look::PgWal;
use crate::archive::Archive;
use crate::archived_file::{header_of, read_text};
use crate::blocking::blocking;
use crate::catalog::{Reading, concerns_one_file};
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::frame::Digest;
use crate::push::Fence;
use crate::spool::FileIdentity;
use crate::wal::{SystemIdentifier, TimelineId, WalName};
use crate::whole_file::open_regular;

/// The archive and the `pg_wal` to compare.
pub(super) struct Both<'a> {
    pub(super) archive: &'a Archive,
    pub(super) wal: &'a PgWal,
    pub(super) system: SystemIdentifier,
    pub(super) reading: Reading,
}

impl Both<'_> {
    /// Excludes timelines whose history files differ. `held` are the files that both have.
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

    /// Excludes timelines with a different segment on either side of a hole. Returns those missing files
    /// whose timeline cannot be compared although the archive has segments after the hole, and excludes
    /// these, too. `held` are the files that both have.
    pub(super) async fn compare_segments(
        &self,
        held: &[WalName],
        archived: &BTreeSet<WalName>,
        goes: &[Missing],
        fence: &Fence,
    ) -> Result<BTreeSet<WalName>, Error> {
        let is_segment = |name: &&WalName| matches!(name, WalName::Segment(_));
        let held: BTreeSet<WalName> = held.iter().filter(is_segment).copied().collect();
        let archived: BTreeSet<WalName> = archived.iter().filter(is_segment).copied().collect();
        let mut holes: BTreeMap<(TimelineId, Option<WalName>), Vec<&Missing>> = BTreeMap::new();
        for file in goes.iter().filter(|file| is_segment(&&file.name)) {
            let timeline = file.name.timeline();
            let after = archived.range(file.name..).next().filter(|after| after.timeline() == timeline);
            holes.entry((timeline, after.copied())).or_default().push(file);
        }
        let mut unproven = BTreeSet::new();
        let mut compared = BTreeMap::new();
        for ((timeline, after), hole) in &holes {
            let (Some(first), Some(last)) = (hole.first(), hole.last()) else { continue };
            let of_timeline = |name: &&WalName| name.timeline() == *timeline;
            let before =
                self.nearest(held.range(..first.name).rev().take_while(of_timeline), &mut compared).await?;
            let behind =
                self.nearest(held.range(first.name..).take_while(of_timeline), &mut compared).await?;
            let same = [before, behind];
            if same.contains(&Some(false)) {
                fence.raise(first.name);
            } else if same == [None, None] && (after.is_some() || self.has_later(last.name).await?) {
                unproven.insert(*timeline);
            }
        }
        let stays = goes.iter().map(|file| file.name).filter(|name| unproven.contains(&name.timeline()));
        let stays: BTreeSet<WalName> = stays.filter(|name| is_segment(&name)).collect();
        for name in &stays {
            fence.raise(*name);
        }
        Ok(stays)
    }

    /// Returns `true` if the nearest of these segments that can be compared is the same in both; `None` if none can
    /// be compared.
    async fn nearest(
        &self,
        names: impl Iterator<Item = &WalName>,
        compared: &mut BTreeMap<WalName, Option<bool>>,
    ) -> Result<Option<bool>, Error> {
        for name in names {
            let same = match compared.get(name) {
                Some(same) => *same,
                None => self.has_same_segment(*name).await?,
            };
            compared.insert(*name, same);
            if same.is_some() {
                return Ok(same);
            }
        }
        Ok(None)
    }

    /// Returns `true` if the archive has later segments of the timeline in directories that were not listed.
    async fn has_later(&self, name: WalName) -> Result<bool, Error> {
        let newest = self.reading.retry(async || self.archive.newest_segments(self.system).await).await?;
        Ok(newest.iter().map(|file| file.name.wal()).any(|newest| {
            matches!(newest, WalName::Segment(_)) && newest.timeline() == name.timeline() && newest > name
        }))
    }

    /// An unreadable file in the archive may be another server's.
    async fn has_same_text(&self, name: WalName) -> Result<bool, Error> {
        let wal = self.wal.clone();
        let Some(ours) = blocking(move || wal.text(name)).await? else { return Ok(true) };
        match self.reading.retry(async || read_text(self.archive, self.system, name).await).await {
            Ok((_, theirs)) => Ok(theirs == ours),
            Err(error) if concerns_one_file(error.kind()) => {
                tracing::warn!("{}", error.report());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns `None` if the segments cannot be compared, because one is incomplete, damaged or missing.
    async fn has_same_segment(&self, name: WalName) -> Result<Option<bool>, Error> {
        let wal = self.wal.clone();
        let Some(ours) = blocking(move || digest_of_complete(&wal, name)).await? else { return Ok(None) };
        match self.reading.retry(async || self.archived_digest(name).await).await {
            Ok(theirs) => Ok(Some(theirs == ours)),
            Err(error) if concerns_one_file(error.kind()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn archived_digest(&self, name: WalName) -> Result<Digest, Error> {
        Ok(header_of(self.archive, self.system, name).await?.blake3)
    }
}

/// Returns the digest of a segment in `pg_wal`; `None` if it is incomplete, has disappeared, or changes.
fn digest_of_complete(wal: &PgWal, name: WalName) -> Result<Option<Digest>, Error> {
    let seen = wal.look(name)?;
    let (Ok(()), Some((identity, _))) = (decide(&seen.look), seen.file) else { return Ok(None) };
    let path = wal.path(name);
    let read = open_regular(&path).and_then(|file| {
        let mut digest = blake3::Hasher::new();
        digest.update_reader(file)?;
        let unchanged = FileIdentity::from(&std::fs::metadata(&path)?) == identity;
        Ok(unchanged.then(|| Digest::from(*digest.finalize().as_bytes())))
    });
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(denied::cannot_read(ErrorKind::Local, "", &path, Kept::ForOwner, error)),
        Ok(digest) => Ok(digest),
    }
}
