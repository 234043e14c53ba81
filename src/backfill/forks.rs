//! Segments that contain WAL after the position where a later timeline left theirs.
//!
//! A recovery to the later timeline reads such a segment if its own is not archived, and diverges. A server that
//! continued to write after a promotion, and was not rewound, must therefore not archive it.

use std::collections::{BTreeMap, BTreeSet};

use super::decision::Reason;
use super::same::Both;
use crate::archived_file::read_text;
use crate::blocking::blocking;
use crate::catalog::concerns_one_file;
use crate::error::Error;
use crate::wal::{SegmentName, SegmentSize, TimelineHistory, TimelineId, WalName};

/// Contents of the timeline history files in the archive and in `pg_wal`.
pub(super) struct Forks {
    histories: BTreeMap<TimelineId, TimelineHistory>,
}

impl Forks {
    /// Reads the history files from archive and `pg_wal` of timelines after `oldest`.
    pub(super) async fn read(
        both: &Both<'_>,
        oldest: TimelineId,
        in_wal: &BTreeSet<WalName>,
        archived: &BTreeSet<WalName>,
    ) -> Result<Self, Error> {
        let mut histories = BTreeMap::new();
        for name in in_wal.union(archived) {
            if let WalName::History(timeline) = name
                && *timeline > oldest
                && let Some(text) = both.history(*name, archived.contains(name)).await?
                && let Ok(history) = TimelineHistory::parse(*timeline, &text)
            {
                histories.insert(*timeline, history);
            }
        }
        Ok(Self { histories })
    }

    /// Returns the reason to leave a segment, part of which was written after its timeline was left. If several
    /// timelines left it, the newest counts, because a recovery to the latest timeline follows it.
    pub(super) fn behind(&self, segment: SegmentName, size: SegmentSize) -> Option<Reason> {
        let mut newest_first = self.histories.iter().rev();
        let (left_at, child) =
            newest_first.find_map(|(child, history)| history.fork_of(segment.timeline(), *child))?;
        let end = segment.start(size)?.0.checked_add(size.bytes())?;
        (left_at.0 < end).then_some(Reason::BehindFork { child, left_at })
    }
}

impl Both<'_> {
    /// Returns the text of a history file. The archive's takes precedence, because recoveries read it. One that is
    /// unreadable and exists nowhere else is an error, because it may describe a fork.
    async fn history(&self, name: WalName, is_archived: bool) -> Result<Option<Vec<u8>>, Error> {
        let wal = self.wal.clone();
        let ours = async move || blocking(move || wal.text(name)).await;
        if !is_archived {
            return ours().await;
        }
        match self.reading.retry(async || read_text(self.archive, self.system, name).await).await {
            Ok((_, theirs)) => Ok(Some(theirs)),
            Err(error) if concerns_one_file(error.kind()) => {
                ours().await?.map_or(Err(error), |ours| Ok(Some(ours)))
            }
            Err(error) => Err(error),
        }
    }
}
