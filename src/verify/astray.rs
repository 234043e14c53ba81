//! Recovery to the newest timeline that would follow the wrong one.
//!
//! While a timeline has archived no segment, the server reads its parent's instead, even after the fork, and replays
//! what somebody wanted to get rid of. The WAL written now is therefore not recoverable so far.

use std::collections::BTreeSet;

use super::names::finding;
use crate::coverage::Coverage;
use crate::reports::{Finding, FindingKind, Severity};
use crate::wal::TimelineId;

/// Returns the finding about the newest timeline that is not given up.
pub(super) fn astray(coverage: &Coverage, given_up: &[TimelineId]) -> Option<Finding> {
    let newest = coverage.known().filter(|timeline| !given_up.contains(timeline)).max()?;
    let last = |of: TimelineId| coverage.timelines().find(|(timeline, _)| *timeline == of)?.1.last();
    let parent = coverage.history(newest).filter(|_| last(newest).is_none())?.ancestors.last()?;
    let beyond = last(parent.timeline).filter(|last| *last > coverage.segment_before(parent.left_at))?;
    let file = format!("{:08X}.history", newest.get());
    let beyond = coverage.name(parent.timeline, beyond)?;
    let (left, left_at) = (parent.timeline, parent.left_at);
    let what = format!(
        "timeline {newest} has archived no segment, and timeline {left} goes on to {beyond}, behind {left_at}, where timeline \
         {newest} left it"
    );
    let meaning = format!(
        "a recovery to timeline {newest} brings back what was left behind on timeline {left}; end a segment of the server that \
         writes timeline {newest} by select pg_switch_wal(), then take a base backup; or give the timeline up, if nobody wants it"
    );
    Some(finding(Severity::Failure, FindingKind::Astray, file, what, meaning))
}

/// Returns the finding about an archive whose every timeline is given up.
pub(super) fn nothing_left(coverage: &Coverage, given_up: &[TimelineId]) -> Option<Finding> {
    let known: BTreeSet<TimelineId> = coverage.known().collect();
    if known.is_empty() || !known.iter().all(|timeline| given_up.contains(timeline)) {
        return None;
    }
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    let what = format!("every timeline in the archive is given up: {}", names.join(", "));
    let meaning = "nobody can tell whether what is written now can be recovered; take the timeline that the server writes out of \
                   given_up_timelines, or leave its --give-up-timeline out";
    Some(finding(Severity::Failure, FindingKind::Present, "timelines".to_owned(), what, meaning.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::wal::{SegmentSize, TimelineHistory, WalName};

    #[test]
    fn an_archive_whose_every_timeline_is_given_up_is_a_finding() {
        let id = |number| TimelineId::new(number).unwrap();
        let names = ["000000010000000000000005", "000000020000000000000006"];
        let found = |given_up: &[u32], names: &[&str]| {
            let names = names.iter().map(|name| name.parse::<WalName>().unwrap());
            let given_up: Vec<TimelineId> = given_up.iter().map(|number| id(*number)).collect();
            let coverage = Coverage::new(SegmentSize::DEFAULT, names, BTreeMap::new());
            nothing_left(&coverage, &given_up).map(|finding| finding.what)
        };
        assert_eq!(found(&[1, 2, 3], &names).unwrap(), "every timeline in the archive is given up: 1, 2");
        assert_eq!(found(&[1], &names), None);
        assert_eq!(found(&[1], &[]), None);
    }

    #[test]
    fn a_newest_timeline_without_segments_follows_its_parents_tail() {
        let id = |number| TimelineId::new(number).unwrap();
        let found = |names: &[&str], left_at: &str, given_up: &[TimelineId]| {
            let names = names.iter().map(|name| name.parse::<WalName>().unwrap());
            let text = format!("1\t{left_at}\tx\n");
            let history = TimelineHistory::parse(id(2), text.as_bytes()).unwrap();
            let coverage = Coverage::new(SegmentSize::DEFAULT, names, BTreeMap::from([(id(2), history)]));
            astray(&coverage, given_up).is_some()
        };
        let [fifth, sixth] = ["000000010000000000000005", "000000010000000000000006"];
        assert!(found(&[fifth, sixth], "0/5000100", &[]));
        assert!(found(&[fifth], "0/5000000", &[]), "at the boundary of two segments");
        assert!(!found(&[fifth], "0/5000100", &[]), "both have that one");
        assert!(!found(&[fifth, sixth], "0/5000100", &[id(2)]));
        assert!(!found(&[fifth, sixth, "000000020000000000000005"], "0/5000100", &[]));
    }
}
