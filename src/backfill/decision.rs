//! Which files of `pg_wal` are to be archived, in which order, and why the others stay. Pure.
//!
//! The rule: a segment is complete if the next one of its timeline has begun, or if its own records end in a switch or at its
//! end; unless its own records show that it is not. Marks prove nothing: a standby marks the segment `.done` that it was receiving when its primary died. Nor does the
//! size, which every file has from the start, nor the last page, whose body may still be that of an earlier use.

use std::fmt;

use crate::wal::{Lsn, PageError, RecordsEnd, TimelineId, WalName};

/// What has been seen of a file that the archive lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// A segment.
    Segment {
        /// Whether its first page is its own, of this cluster.
        own: Result<(), PageError>,
        /// Whether the next segment of its timeline begins with its own first page.
        followed: bool,
        /// How its records end, as far as it could be looked at.
        records: Option<RecordsEnd>,
    },
    /// A segment that has nothing in it, or what belongs to one long before it: the server renames a file that it needs no
    /// more to the name of a later segment.
    Unused,
    /// A partial segment.
    Partial,
    /// A text file, and what is wrong with it.
    Text(Result<(), String>),
    /// Nothing any more: the server has removed it meanwhile.
    Gone,
}

/// Why a file is left where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is a partial segment.
    Partial,
    /// No WAL has been written to it since it was given its name.
    Unused,
    /// It is not what its name says.
    NotItsOwn(PageError),
    /// It is a text file that says nothing.
    Unsound(String),
    /// It is not complete, or cannot be proven to be.
    Records(RecordsEnd),
    /// Its records end there, although the next segment has begun: not all of it has been copied to where it is.
    Torn(Lsn),
    /// It is of a timeline that the archive holds of another server, or may descend from such a one.
    Conflict,
    /// Not all of it was written before a later timeline left its own.
    BehindFork {
        /// The later timeline.
        child: TimelineId,
        /// Where it left.
        left_at: Lsn,
    },
    /// The archive has later segments of its timeline, and none that could be compared.
    NothingInCommon,
    /// It went before it could be read.
    Gone,
}

impl Reason {
    /// Whether somebody has to look after it. That the segment which is being written stays is no problem.
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
        // Complete, and so never left for that.
        RecordsEnd::Switch | RecordsEnd::End => f.write_str("complete"),
    }
}

/// Whether the file is to be archived, or why not.
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

/// The order in which files are archived: what names the timelines first, then the oldest first, as the server does it.
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
    fn a_segment_goes_if_the_next_has_begun_or_its_records_reach_the_end() {
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
    fn what_follows_a_segment_is_no_proof_against_its_own_records() {
        let at = Lsn(0x16_B374_D848);
        let look =
            |followed, records| decide(&Look::Segment { own: Ok(()), followed, records: Some(records) });
        let torn = look(true, RecordsEnd::Middle(at)).unwrap_err();
        assert_eq!(torn, Reason::Torn(at));
        assert!(torn.is_problem());
        for followed in [false, true] {
            // Its primary would archive another content.
            let more = look(followed, RecordsEnd::SwitchAndMore(at)).unwrap_err();
            assert_eq!(more, Reason::Records(RecordsEnd::SwitchAndMore(at)));
            assert!(more.is_problem());
        }
    }

    #[test]
    fn what_is_not_its_own_is_never_taken_whatever_follows_it() {
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
