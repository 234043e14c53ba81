//! Random events of a cluster and its archive. An event refers to "the third part of what exists", so it has a
//! meaning after any other events, and a history without some of its events is still valid.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

/// An event.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A server writes that many eighths of a segment.
    Write { on: Index, eighths: u8 },
    /// A server switches to the next segment (`pg_switch_wal`).
    Switch { on: Index },
    /// A server fails, and its standby takes over, which had that many eighths less.
    Promote { on: Index, lag: u8, place: ForkPlace, parent: ParentSegment, rescued: bool },
    /// A base backup is recovered to a part of its path to a timeline, and the server continues there: instead of the
    /// most recently written one, or in parallel.
    Return { backup: Index, to: Index, permille: u16, drill: bool },
    /// A server that is not the only one ends.
    Stop { on: Index },
    /// A base backup is started, on a standby that lags by that many eighths, at its last restartpoint.
    StartBackup { on: Index, standby_since: Option<u8>, checkpoint: u8 },
    /// A base backup ends. Its files may be in a directory known to walkeep.
    EndBackup { which: Index, found: bool },
    /// Archiving stops on a server.
    Stall { on: Index },
    /// Archiving continues; waiting files are archived late, or some of the oldest are lost.
    CatchUp { on: Index, lost: u8 },
    /// Some consecutive segments disappear from the archive.
    LoseSegments { from: Index, number: u8 },
    /// A segment that makes a base backup consistent disappears.
    LoseSegmentOfBackup { which: Index, part: Index },
    /// A timeline history file disappears.
    LoseHistory { which: Index },
    /// A backup history file disappears.
    LoseBackupFile { which: Index },
    /// The archive is copied without the times of its files.
    Copy,
    /// Two files swap their archiving times.
    Disorder { one: Index, other: Index },
    /// Some hours pass.
    Wait { hours: u16 },
    /// Somebody prunes.
    Prune(Wish),
}

/// Position of a promotion's fork, as far as it can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForkPlace {
    AsItComes,
    /// Between two segments.
    AtABoundary,
    /// In the segment in which the parent itself begins.
    InTheFirstSegment,
}

/// Treatment of the parent's last segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParentSegment {
    Partial,
    /// Archived under its full name, as with `archive_mode = always`.
    Full,
    Nothing,
}

/// A retention wish.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) keep_backups: usize,
    pub(crate) keep_days: Option<u32>,
    pub(crate) keep_wal_days: Option<u32>,
    pub(crate) before: Option<Index>,
    pub(crate) backup_may_take_hours: i64,
    pub(crate) accept_no_backup: bool,
    /// `true` to look for base backups in directories.
    pub(crate) looks_elsewhere: bool,
}

/// A cluster's history.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// Segment size in MB.
    pub(crate) segment_mb: u64,
    /// Number of the first segment.
    pub(crate) begins_in: u64,
    pub(crate) events: Vec<Event>,
    /// Prune at the end.
    pub(crate) last: Wish,
}

impl Event {
    /// Returns the name for counts.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Write { .. } => "writing",
            Self::Switch { .. } => "segment switch",
            Self::Promote { .. } => "promotion",
            Self::Return { drill: false, .. } => "recovery to the past",
            Self::Return { drill: true, .. } => "drill",
            Self::Stop { .. } => "end of a server",
            Self::StartBackup { standby_since: None, .. } => "backup begun on a primary",
            Self::StartBackup { .. } => "backup begun on a standby",
            Self::EndBackup { .. } => "backup ended",
            Self::Stall { .. } => "archiving stops",
            Self::CatchUp { .. } => "archiving goes on",
            Self::LoseSegments { .. } => "segments lost",
            Self::LoseSegmentOfBackup { .. } => "segment of a backup lost",
            Self::LoseHistory { .. } => "history file lost",
            Self::LoseBackupFile { .. } => "backup history file lost",
            Self::Copy => "archive copied",
            Self::Disorder { .. } => "times exchanged",
            Self::Wait { .. } => "waiting",
            Self::Prune(_) => "prune that deletes",
        }
    }
}

/// Number of occurrences by kind.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

fn event() -> impl Strategy<Value = Event> {
    let index = any::<Index>;
    let place = prop_oneof![
        4 => Just(ForkPlace::AsItComes),
        2 => Just(ForkPlace::AtABoundary),
        1 => Just(ForkPlace::InTheFirstSegment),
    ];
    let parent = prop_oneof![
        4 => Just(ParentSegment::Partial),
        1 => Just(ParentSegment::Full),
        1 => Just(ParentSegment::Nothing),
    ];
    prop_oneof![
        12 => (index(), 1..40u8).prop_map(|(on, eighths)| Event::Write { on, eighths }),
        2 => index().prop_map(|on| Event::Switch { on }),
        4 => (index(), prop_oneof![3 => Just(0), 1 => 1..20u8], place, parent, any::<bool>()).prop_map(
            |(on, lag, place, parent, rescued)| Event::Promote { on, lag, place, parent, rescued }
        ),
        4 => (index(), index(), 0..=1000u16, prop::bool::weighted(0.4)).prop_map(
            |(backup, to, permille, drill)| Event::Return { backup, to, permille, drill }
        ),
        1 => index().prop_map(|on| Event::Stop { on }),
        11 => (index(), prop::option::weighted(0.3, 0..20u8), 0..12u8).prop_map(
            |(on, standby_since, checkpoint)| Event::StartBackup { on, standby_since, checkpoint }
        ),
        12 => (index(), prop::bool::weighted(0.3)).prop_map(|(which, found)| Event::EndBackup { which, found }),
        1 => index().prop_map(|on| Event::Stall { on }),
        2 => (index(), prop_oneof![2 => Just(0), 1 => 1..4u8]).prop_map(|(on, lost)| Event::CatchUp { on, lost }),
        1 => (index(), 1..4u8).prop_map(|(from, number)| Event::LoseSegments { from, number }),
        1 => (index(), index()).prop_map(|(which, part)| Event::LoseSegmentOfBackup { which, part }),
        1 => index().prop_map(|which| Event::LoseHistory { which }),
        1 => index().prop_map(|which| Event::LoseBackupFile { which }),
        1 => Just(Event::Copy),
        1 => (index(), index()).prop_map(|(one, other)| Event::Disorder { one, other }),
        6 => prop_oneof![0..24u16, 24..400u16].prop_map(|hours| Event::Wait { hours }),
        2 => wish().prop_map(Event::Prune),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let keep_backups = prop_oneof![1 => Just(0), 3 => 1..4usize];
    let days = || prop::option::weighted(0.4, 0..20u32);
    let wal_days = prop::option::weighted(0.05, 0..20u32);
    let before = prop::option::weighted(0.1, any::<Index>());
    let hours = prop_oneof![Just(0), Just(24)];
    let often = prop::bool::weighted(0.8);
    (keep_backups, days(), wal_days, before, hours, prop::bool::weighted(0.1), often).prop_map(
        |(keep_backups, keep_days, keep_wal_days, before, hours, accept_no_backup, looks_elsewhere)| Wish {
            keep_backups,
            keep_days,
            keep_wal_days,
            before,
            backup_may_take_hours: hours,
            accept_no_backup,
            looks_elsewhere,
        },
    )
}

/// Generates histories of clusters.
pub(crate) fn histories() -> impl Strategy<Value = History> {
    // Near and far from a change of the first eight digits after the timeline.
    let size = prop_oneof![
        (Just(1u64), prop_oneof![Just(1u64), Just(4090)]),
        (Just(16), prop_oneof![Just(1u64), Just(250)]),
    ];
    (size, prop::collection::vec(event(), 1..40), wish())
        .prop_map(|((segment_mb, begins_in), events, last)| History { segment_mb, begins_in, events, last })
}
