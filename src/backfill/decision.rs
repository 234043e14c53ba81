//! Which files of `pg_wal` to archive, in which order, and why the others stay. Pure.
//!
//! A segment is complete if the next one of its timeline has begun, or if its own records end in a switch or at its
//! end, unless they prove that it is incomplete. `.done` files prove nothing: a standby marks the segment `.done`
//! that it was receiving when its primary failed. Nor does the size, which every file has from the start, nor the
//! last page, whose content may be left from an earlier use.

use std::fmt;

use crate::wal::{Lsn, PageError, RecordsEnd, TimelineId, WalName};

/// State of a file that the archive lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// A segment.
    Segment {
        /// `Ok` if its first page belongs to it and to this cluster.
        own: Result<(), PageError>,
        /// `true` if the next segment of its timeline starts with a page of its own.
        followed: bool,
        /// End of its records, if they could be read.
        records: Option<RecordsEnd>,
    },
    /// An empty segment, or one with the content of a much earlier one: the server renames files to later segments
    /// for reuse.
    Unused,
    /// A partial segment.
    Partial,
    /// A text file, with the problem if there is one.
    Text(Result<(), String>),
    /// No longer there: the server has removed it.
    Gone,
}

/// Reason to leave a file in `pg_wal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is a partial segment.
    Partial,
    /// No WAL was written to it under its current name.
    Unused,
    /// It is not what its name says.
    NotItsOwn(PageError),
    /// It is a malformed text file.
    Unsound(String),
    /// It is incomplete, or not provably complete.
    Records(RecordsEnd),
    /// Its records end here, although the next segment has begun: the file was not copied completely.
    Torn(Lsn),
    /// Its timeline has files of another server in the archive, or may descend from such a timeline.
    Conflict,
    /// Part of it was written after a later timeline left its own.
    BehindFork {
        /// The later timeline.
        child: TimelineId,
        /// Position of the fork.
        left_at: Lsn,
    },
    /// The archive has later segments of its timeline, but none that could be compared.
    NothingInCommon,
    /// It was removed before it could be read.
    Gone,
}

impl Reason {
    /// Returns `true` if somebody must act. That the current segment stays is no problem.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        match self {
            Self::Partial | Self::Unused => false,
            Self::Records(end) => matches!(end, RecordsEnd::SwitchAndMore(_)),
            Self::Torn(_)
            | Self::NotItsOwn(_)
            | Self::Unsound(_)
            | Self::Conflict
            | Self::BehindFork { .. }
            | Self::NothingInCommon
            | Self::Gone => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partial => f.write_str("a partial segment, which is archived by the server itself"),
            Self::Unused => f.write_str("no WAL has been written to it yet; the server keeps it for later"),
            Self::NotItsOwn(error) => write!(f, "it is not what its name says: {error}"),
            Self::Unsound(why) => write!(f, "it is damaged: {why}"),
            Self::Records(end) => records(*end, f),
            Self::Torn(at) => write!(
                f,
                "its records end at {at}, although the next segment has begun: it is damaged, or was copied while it was written"
            ),
            Self::Conflict => f.write_str(
                "the archive holds its timeline, or one that it descends from, of another server; find out which of the two \
                 is right",
            ),
            Self::BehindFork { child, left_at } => write!(
                f,
                "timeline {child} left its timeline at {left_at}, and this is what a server wrote there that went on; rewind \
                 that server with pg_rewind, and copy its data directory before if the rows matter"
            ),
            Self::NothingInCommon => f.write_str(
                "the archive has later segments of its timeline, and none that is here, too, so nothing shows that one server \
                 wrote both; if it did, archive it with walkeep-archive",
            ),
            Self::Gone => f.write_str(
                "the server has removed it meanwhile, and the archive lacks it; with wal_keep_size it keeps more",
            ),
        }
    }
}

fn records(end: RecordsEnd, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match end {
        RecordsEnd::Middle(at) => write!(f, "incomplete: its records end at {at}"),
        RecordsEnd::GoesOn(at) => {
            write!(
                f,
                "perhaps incomplete: its last record, at {at}, goes on in the next segment, which is missing"
            )
        }
        RecordsEnd::SwitchAndMore(at) => write!(
            f,
            "it ends in a switch at {at}, behind which lies what an earlier use has left; if the server that wrote it is \
             gone for good, archive it with walkeep-archive"
        ),
        RecordsEnd::Unproven => f.write_str("perhaps incomplete: too few records begin in it to tell"),
        // Complete segments are never left for this reason.
        RecordsEnd::Switch | RecordsEnd::End => f.write_str("complete"),
    }
}

/// Returns `Ok` to archive the file, or the reason to leave it.
pub(super) fn decide(look: &Look) -> Result<(), Reason> {
    match look {
        Look::Gone => Err(Reason::Gone),
        Look::Partial => Err(Reason::Partial),
        Look::Text(sound) => sound.clone().map_err(Reason::Unsound),
        Look::Unused => Err(Reason::Unused),
        Look::Segment { own: Err(error), .. } => Err(Reason::NotItsOwn(error.clone())),
        Look::Segment { records: Some(end @ RecordsEnd::SwitchAndMore(_)), .. } => Err(Reason::Records(*end)),
        Look::Segment { followed: true, records: Some(RecordsEnd::Middle(at)), .. } => Err(Reason::Torn(*at)),
        Look::Segment { followed: true, .. }
        | Look::Segment { records: Some(RecordsEnd::Switch | RecordsEnd::End), .. } => Ok(()),
        Look::Segment { records, .. } => Err(Reason::Records(records.unwrap_or(RecordsEnd::Unproven))),
    }
}

/// Sorts files into archiving order: timeline history files first, then oldest first, as the server does.
pub(super) fn in_order(names: &mut [WalName]) {
    names.sort_unstable_by_key(|name| (!matches!(name, WalName::History(_)), name.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WalName {
        text.parse().unwrap()
    }

    #[test]
    fn a_segment_is_archived_if_the_next_has_begun_or_its_records_reach_the_end() {
        let look = |followed, records| Look::Segment { own: Ok(()), followed, records };
        let at = Lsn(0x16_B374_D848);
        let unsure =
            [RecordsEnd::Unproven, RecordsEnd::GoesOn(at), RecordsEnd::Switch, RecordsEnd::End].map(Some);
        for end in unsure.into_iter().chain([None]) {
            assert_eq!(decide(&look(true, end)), Ok(()), "{end:?}");
        }
        for end in [RecordsEnd::Switch, RecordsEnd::End] {
            assert_eq!(decide(&look(false, Some(end))), Ok(()));
        }
        for end in [RecordsEnd::Middle(at), RecordsEnd::GoesOn(at), RecordsEnd::Unproven] {
            let reason = decide(&look(false, Some(end))).unwrap_err();
            assert_eq!(reason, Reason::Records(end));
            assert!(!reason.is_problem(), "one segment is always being written");
            assert!(end == RecordsEnd::Unproven || reason.to_string().contains("16/B374D848"), "{reason}");
        }
        assert_eq!(decide(&look(false, None)), Err(Reason::Records(RecordsEnd::Unproven)));
    }

    #[test]
    fn a_following_segment_does_not_outweigh_incomplete_records() {
        let at = Lsn(0x16_B374_D848);
        let look =
            |followed, records| decide(&Look::Segment { own: Ok(()), followed, records: Some(records) });
        let torn = look(true, RecordsEnd::Middle(at)).unwrap_err();
        assert_eq!(torn, Reason::Torn(at));
        assert!(torn.is_problem());
        for followed in [false, true] {
            // Its primary would archive different content.
            let more = look(followed, RecordsEnd::SwitchAndMore(at)).unwrap_err();
            assert_eq!(more, Reason::Records(RecordsEnd::SwitchAndMore(at)));
            assert!(more.is_problem());
        }
    }

    #[test]
    fn a_file_with_foreign_content_is_never_archived() {
        let own = Err(PageError::Impossible("timeline"));
        let look = Look::Segment { own, followed: true, records: Some(RecordsEnd::Switch) };
        assert!(decide(&look).unwrap_err().is_problem());
        assert_eq!(decide(&Look::Unused), Err(Reason::Unused));
        assert_eq!(decide(&Look::Partial), Err(Reason::Partial));
        assert_eq!(decide(&Look::Text(Ok(()))), Ok(()));
        assert!(decide(&Look::Text(Err("it is empty".to_owned()))).unwrap_err().is_problem());
        assert!(decide(&Look::Gone).unwrap_err().is_problem());
        let fork = Reason::BehindFork { child: TimelineId::FIRST, left_at: Lsn(0x16_B374_D848) };
        assert!(
            fork.is_problem() && fork.to_string().contains("timeline 1 left its timeline at 16/B374D848")
        );
        assert!(Reason::NothingInCommon.is_problem());
    }

    #[test]
    fn history_files_come_first_and_then_the_oldest() {
        let mut names = [
            "000000020000000000000003",
            "000000010000000000000002.00000028.backup",
            "00000003.history",
            "000000010000000000000002",
            "000000010000000100000000",
            "00000002.history",
        ]
        .map(name);
        in_order(&mut names);
        let expected = [
            "00000002.history",
            "00000003.history",
            "000000010000000000000002",
            "000000010000000000000002.00000028.backup",
            "000000010000000100000000",
            "000000020000000000000003",
        ];
        assert_eq!(names, expected.map(name));
    }
}
