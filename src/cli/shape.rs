//! How timelines and base backups look in JSON, whichever command prints them.

use serde::Serialize;

use crate::coverage::{Coverage, Gap, Reach, Timeline};
use crate::wal::{Lsn, TimelineId};

/// A timeline.
#[derive(Serialize)]
pub(super) struct TimelineShape {
    pub(super) timeline: u32,
    pub(super) parent: Option<u32>,
    /// Where it left its parent.
    pub(super) left_at: Option<String>,
    pub(super) ranges: Vec<Range>,
    pub(super) gaps: Vec<Range>,
    pub(super) partials: Vec<String>,
}

/// Segments in a row.
#[derive(Serialize)]
pub(super) struct Range {
    pub(super) first: String,
    pub(super) last: String,
    pub(super) segments: u64,
}

/// How far a base backup can be recovered on one timeline.
#[derive(Serialize)]
pub(super) struct ReachShape {
    pub(super) timeline: u32,
    /// The last segment that replay can have; none where not even the first is there.
    pub(super) last_segment: Option<String>,
    /// Whether that is the newest one of the timeline.
    pub(super) to_the_end: bool,
}

impl TimelineShape {
    /// Of a timeline of which so much is held, and that has left its parent there.
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

/// Beyond all positions there are no names, and nothing is there either.
fn name(coverage: &Coverage, timeline: TimelineId, number: u64) -> String {
    coverage.name(timeline, number).map(|name| name.to_string()).unwrap_or_default()
}
