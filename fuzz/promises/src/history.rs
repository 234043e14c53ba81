//! Timeline history files: ancestors ascend, places never descend, and what was read can be written and read again.

use walkeep_core::wal::{TimelineHistory, TimelineId};

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    let Some((number, text)) = data.split_first_chunk::<4>() else { return };
    let Some(timeline) = TimelineId::new(u32::from_le_bytes(*number)) else { return };
    let Ok(history) = TimelineHistory::parse(timeline, text) else { return };
    assert!(!history.ancestors.is_empty());
    assert!(history.ancestors.is_sorted_by(|a, b| a.timeline < b.timeline && a.left_at <= b.left_at));
    assert!(history.ancestors.iter().all(|ancestor| ancestor.timeline < timeline));
    assert_eq!(history.begins_at(), history.ancestors.last().map(|parent| parent.left_at));
    for ancestor in &history.ancestors {
        assert_eq!(history.left(ancestor.timeline), Some(ancestor.left_at));
        let Some((at, next)) = history.fork_of(ancestor.timeline, timeline) else {
            panic!("nobody left {:?}", ancestor.timeline)
        };
        assert!(at == ancestor.left_at && next > ancestor.timeline && next <= timeline);
    }
    assert_eq!(history.left(timeline), None, "nobody is its own ancestor");
    let written: String = history
        .ancestors
        .iter()
        .map(|ancestor| format!("{}\t{}\ta reason\n", ancestor.timeline.get(), ancestor.left_at))
        .collect();
    assert_eq!(TimelineHistory::parse(timeline, written.as_bytes()), Ok(history));
}
