//! `backup_manifest`, which `pg_basebackup` writes beside a base backup since version 13: the WAL that the backup needs and,
//! since version 17, its cluster.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Lsn, SystemIdentifier, TimelineId};

/// Contents of a manifest that concern WAL. All else is skipped as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BackupManifest {
    #[serde(rename = "WAL-Ranges")]
    wal_ranges: Vec<Range>,
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
    /// `true` if any file holds only what has changed.
    #[serde(rename = "Files", default, deserialize_with = "is_any_incremental")]
    incremental: bool,
}

/// A file of the backup. One whose name is no UTF-8 has another key for it.
#[derive(Deserialize)]
struct ListedFile {
    #[serde(rename = "Path")]
    path: Option<String>,
}

/// Looks at the files one by one: there may be millions.
fn is_any_incremental<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Files;

    impl<'de> Visitor<'de> for Files {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of files")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut files: A) -> Result<bool, A::Error> {
            let mut any = false;
            while let Some(ListedFile { path }) = files.next_element()? {
                any |= path.is_some_and(|path| is_incremental(&path));
            }
            Ok(any)
        }
    }

    deserializer.deserialize_seq(Files)
}

/// Returns `true` for the path of a file that holds only the blocks that have changed.
fn is_incremental(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.strip_prefix("INCREMENTAL.")
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Range {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

impl BackupManifest {
    /// Returns the start of replay, on the oldest timeline, and the position that it must reach, on the newest: a standby may
    /// have followed its primary during the backup. `None` if any range is malformed.
    #[must_use]
    pub fn ends(&self) -> Option<((TimelineId, Lsn), (TimelineId, Lsn))> {
        let of = |range: &Range| -> Option<(TimelineId, Lsn, Lsn)> {
            let (start, end) = (range.start.parse().ok()?, range.end.parse().ok()?);
            (start <= end).then_some((TimelineId::new(range.timeline)?, start, end))
        };
        let mut ranges = self.wal_ranges.iter().map(of).collect::<Option<Vec<_>>>()?;
        ranges.sort_unstable();
        let on_one_way = |pair: &[_]| matches!(pair, [(older, _, end), (newer, start, _)] if older < newer && end <= start);
        let (first, last) = (ranges.first()?, ranges.last()?);
        ranges.windows(2).all(on_one_way).then_some(((first.0, first.1), (last.0, last.2)))
    }

    /// Returns `true` for an incremental backup. Of what it builds on, a manifest says nothing.
    #[must_use]
    pub fn is_incremental(&self) -> bool {
        self.incremental
    }

    /// Returns the system identifier of the cluster; `None` if the manifest has none.
    #[must_use]
    pub fn system(&self) -> Option<SystemIdentifier> {
        self.system_identifier.and_then(SystemIdentifier::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_of(ranges: &[(u32, &str, &str)]) -> Option<((u32, u64), (u32, u64))> {
        let range = |(timeline, start, end): &(u32, &str, &str)| Range {
            timeline: *timeline,
            start: (*start).to_owned(),
            end: (*end).to_owned(),
        };
        let ranges = ranges.iter().map(range).collect();
        let number = |(timeline, position): (TimelineId, Lsn)| (timeline.get(), position.0);
        let manifest = BackupManifest { wal_ranges: ranges, system_identifier: None, incremental: false };
        manifest.ends().map(|(start, stop)| (number(start), number(stop)))
    }

    #[test]
    fn it_begins_on_the_oldest_timeline_and_ends_on_the_newest() {
        assert_eq!(ends_of(&[(1, "0/20", "0/40")]), Some(((1, 0x20), (1, 0x40))));
        // The server writes the newest first.
        let followed = [(3, "0/60", "0/90"), (2, "0/40", "0/60"), (1, "0/20", "0/40")];
        assert_eq!(ends_of(&followed), Some(((1, 0x20), (3, 0x90))));
    }

    #[test]
    fn the_system_is_that_of_the_manifest_if_it_has_one() {
        let system = |system_identifier| {
            BackupManifest { wal_ranges: Vec::new(), system_identifier, incremental: false }.system()
        };
        assert_eq!(system(Some(7)), SystemIdentifier::new(7));
        assert!(system(Some(7)).is_some());
        assert_eq!([system(None), system(Some(0))], [None, None]);
    }

    #[test]
    fn a_file_with_only_what_has_changed_makes_it_incremental() {
        let is_incremental = |files: &str| {
            let text = format!(r#"{{"WAL-Ranges": [], "Files": {files}, "Manifest-Checksum": "x"}}"#);
            let read: BackupManifest = serde_json::from_reader(text.as_bytes()).unwrap();
            read.is_incremental()
        };
        let file = |path: &str| format!(r#"{{"Path": "{path}", "Size": 3}}"#);
        for path in ["base/1/INCREMENTAL.1259", "pg_tblspc/16384/PG_17_202406281/5/INCREMENTAL.1259_vm"] {
            assert!(is_incremental(&format!("[{}, {}]", file(path), file("backup_label"))), "{path}");
        }
        for path in ["base/1/1259", "INCREMENTAL.txt", "INCREMENTAL.9/x", "a\\tINCREMENTAL.1"] {
            assert!(!is_incremental(&format!("[{}]", file(path))), "{path}");
        }
        assert!(!is_incremental(r#"[{"Encoded-Path": "ff", "Size": 3}]"#));
        assert!(!serde_json::from_str::<BackupManifest>(r#"{"WAL-Ranges": []}"#).unwrap().is_incremental());
    }

    #[test]
    fn malformed_ranges_have_no_ends() {
        for odd in [
            &[][..],
            &[(0, "0/20", "0/40")],
            &[(1, "0/20", "x")],
            &[(1, "", "0/40")],
            &[(1, "0/40", "0/20")],
            &[(1, "0/20", "0/40"), (2, "0/40", "x")],
            &[(1, "0/20", "0/40"), (1, "0/40", "0/60")],
            // The range on the newer timeline starts before that on the older one ends.
            &[(1, "0/20", "0/40"), (2, "0/30", "0/60")],
        ] {
            assert_eq!(ends_of(odd), None, "{odd:?}");
        }
    }
}
