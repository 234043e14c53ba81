//! JSON form of timelines and base backups, shared by several commands.

use serde::Serialize;

use crate::coverage::{Below, Chain, Coverage, Gap, Reach, Timeline};
use crate::wal::{Lsn, SegmentName, TimelineId};

/// A timeline.
#[derive(Serialize)]
pub(super) struct TimelineShape {
    pub(super) timeline: u32,
    pub(super) parent: Option<u32>,
    /// Position at which it left its parent.
    pub(super) left_at: Option<String>,
    pub(super) ranges: Vec<Range>,
    pub(super) gaps: Vec<Range>,
    pub(super) partials: Vec<String>,
}

/// Consecutive segments.
#[derive(Serialize)]
pub(super) struct Range {
    pub(super) first: String,
    pub(super) last: String,
    pub(super) segments: u64,
}

/// Reach of a base backup's recovery on one timeline.
#[derive(Serialize)]
pub(super) struct ReachShape {
    pub(super) timeline: u32,
    /// Last segment that replay can read; `null` if even the first one is missing.
    pub(super) last_segment: Option<String>,
    /// `true` if that is the newest segment of the timeline.
    pub(super) to_the_end: bool,
}

/// The base backup on whose files an incremental one builds.
#[derive(Serialize)]
pub(super) struct BuildsOn {
    /// Its name; `null` if the archive does not know it.
    backup: Option<String>,
    start_segment: Option<String>,
    /// `null` if nothing says where it starts.
    start: Option<String>,
}

impl BuildsOn {
    /// Creates the form of that backup, at the top of the chain below the incremental one.
    pub(super) fn new(coverage: &Coverage, below: Below, chain: &Chain) -> Self {
        let at = match below {
            Below::StartsAt(timeline, start) => Some((timeline, start)),
            Below::Unknown => None,
        };
        let segment =
            at.and_then(|(timeline, start)| SegmentName::containing(timeline, start, coverage.size()));
        Self {
            backup: chain.known.first().map(|backup| backup.file()),
            start_segment: segment.map(|segment| segment.to_string()),
            start: at.map(|(_, start)| start.to_string()),
        }
    }
}

impl TimelineShape {
    /// Creates the form of a timeline with these segments and parent.
    pub(super) fn new<'a>(
        coverage: &Coverage,
        timeline: TimelineId,
        parent: Option<(TimelineId, Lsn)>,
        held: &Timeline,
        gaps: impl IntoIterator<Item = &'a Gap>,
    ) -> Self {
        let range = |first: u64, last: u64| Range {
            first: name(coverage, timeline, first),
            last: name(coverage, timeline, last),
            segments: last - first + 1,
        };
        let partial = |number: &u64| name(coverage, timeline, *number) + ".partial";
        Self {
            timeline: timeline.get(),
            parent: parent.map(|(parent, _)| parent.get()),
            left_at: parent.map(|(_, position)| position.to_string()),
            ranges: held.stretches.iter().map(|stretch| range(*stretch.start(), *stretch.end())).collect(),
            gaps: gaps.into_iter().map(|gap| range(gap.first, gap.last)).collect(),
            partials: held.partials.iter().map(partial).collect(),
        }
    }
}

impl ReachShape {
    pub(super) fn new(coverage: &Coverage, reach: Reach) -> Self {
        Self {
            timeline: reach.timeline.get(),
            last_segment: reach.last.map(|(timeline, number)| name(coverage, timeline, number)),
            to_the_end: reach.to_the_end,
        }
    }
}

/// Returns the name of a segment; empty if its positions exceed 64 bits, where no segment exists.
fn name(coverage: &Coverage, timeline: TimelineId, number: u64) -> String {
    coverage.name(timeline, number).map(|name| name.to_string()).unwrap_or_default()
}
