//! Backup manifests: what is believed of one is what a reader finds that keeps all of it, and the WAL ranges lead one way.

use serde_json::Value;
use walkeep_core::wal::{BackupManifest, Lsn, SystemIdentifier, TimelineId};

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    // As a file is read: in parts.
    let read: Result<BackupManifest, _> = serde_json::from_reader(std::io::BufReader::with_capacity(7, data));
    assert_eq!(read.as_ref().ok(), serde_json::from_slice(data).ok().as_ref(), "however it is read");
    let Ok(manifest) = read else { return };
    let ends = manifest.ends();
    if let Some(((oldest, start), (newest, stop))) = ends {
        assert!(oldest <= newest && start <= stop, "{ends:?}");
    }
    // Strings and numbers that are skipped are not looked at as closely.
    let Ok(whole) = serde_json::from_slice::<Value>(data) else { return };
    assert_eq!(ends, naive_ends(&whole), "{whole}");
    let system = whole.get("System-Identifier").and_then(Value::as_u64).and_then(SystemIdentifier::new);
    assert_eq!(manifest.system(), system);
}

/// Follows the ranges from the oldest timeline to the newest, one by one.
fn naive_ends(manifest: &Value) -> Option<((TimelineId, Lsn), (TimelineId, Lsn))> {
    // A struct may also be written as a list of its fields, in order.
    let field = |of: &Value, index: usize, name: &str| of.get(name).or_else(|| of.get(index)).cloned();
    let mut ranges = Vec::new();
    for range in field(manifest, 0, "WAL-Ranges")?.as_array()? {
        let position = |index, name| -> Option<Lsn> { field(range, index, name)?.as_str()?.parse().ok() };
        let timeline = u32::try_from(field(range, 0, "Timeline")?.as_u64()?).ok()?;
        ranges.push((TimelineId::new(timeline)?, position(1, "Start-LSN")?, position(2, "End-LSN")?));
    }
    ranges.sort_by_key(|(timeline, ..)| *timeline);
    let (first, mut last) = (*ranges.first()?, None::<(TimelineId, Lsn, Lsn)>);
    for range in ranges {
        if range.1 > range.2 || last.is_some_and(|last| last.0 == range.0 || last.2 > range.1) {
            return None;
        }
        last = Some(range);
    }
    last.map(|last| ((first.0, first.1), (last.0, last.2)))
}
