//! Backup history files, `SEGMENT.OFFSET.backup` (`do_pg_backup_stop` in `access/transam/xlog.c`): what the server
//! archives when a base backup has ended. Lines of `KEY: value`, in a fixed order that is not relied on.

use super::{Lsn, SegmentName, TimelineId};

/// What a backup history file says of its base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupHistory {
    /// Where replay of this base backup starts.
    pub start: Lsn,
    /// The segment that holds `start`.
    pub start_segment: SegmentName,
    /// The position that replay must reach before the data is consistent; 9.3 and later write it.
    pub stop: Option<Lsn>,
    /// The timeline at the start; version 11 and later write it.
    pub start_timeline: Option<TimelineId>,
    /// The label that the backup was given.
    pub label: Option<String>,
    /// When it started, in the server's words and time zone.
    pub start_time: Option<String>,
    /// When it ended, in the server's words and time zone.
    pub stop_time: Option<String>,
}

/// What the `backup_label` of a base backup says (`do_pg_backup_start` in `access/transam/xlogbackup.c`); its lines are
/// those of a backup history file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupLabel {
    /// Where replay of this base backup starts.
    pub start: Lsn,
    /// The segment that holds `start`.
    pub start_segment: SegmentName,
}

impl BackupLabel {
    /// Reads the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, BackupHistoryError> {
        let text = String::from_utf8_lossy(bytes);
        let location = value(&text, "START WAL LOCATION").and_then(parse_location);
        let (start, start_segment) = location.ok_or(BackupHistoryError::NoStart)?;
        Ok(Self { start, start_segment })
    }
}

/// The text is not a backup history file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupHistoryError {
    /// The line that everything else hangs on is missing or not of its form.
    #[error("it has no line \"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\"")]
    NoStart,
    /// A later line has its key, but not its form.
    #[error("its line \"{0}\" cannot be read")]
    Line(&'static str),
    /// The file's name and its content speak of different segments.
    #[error("its name says segment {name}, its content {content}")]
    OtherSegment {
        /// The segment in the file's name.
        name: SegmentName,
        /// The segment in the file.
        content: SegmentName,
    },
}

impl BackupHistory {
    /// Reads the file of a backup that starts in `segment`. Labels may be in any encoding, so bytes come in.
    pub fn parse(segment: SegmentName, bytes: &[u8]) -> Result<Self, BackupHistoryError> {
        let text = String::from_utf8_lossy(bytes);
        let value = |key| value(&text, key);
        let (start, start_segment) =
            value("START WAL LOCATION").and_then(parse_location).ok_or(BackupHistoryError::NoStart)?;
        if start_segment != segment {
            return Err(BackupHistoryError::OtherSegment { name: segment, content: start_segment });
        }
        let stop = value("STOP WAL LOCATION")
            .map(|v| parse_location(v).ok_or(BackupHistoryError::Line("STOP WAL LOCATION")))
            .transpose()?;
        let start_timeline = value("START TIMELINE")
            .map(|v| {
                v.parse().ok().and_then(TimelineId::new).ok_or(BackupHistoryError::Line("START TIMELINE"))
            })
            .transpose()?;
        Ok(Self {
            start,
            start_segment,
            stop: stop.map(|(position, _)| position),
            start_timeline,
            label: value("LABEL").map(str::to_owned),
            start_time: value("START TIME").map(str::to_owned),
            stop_time: value("STOP TIME").map(str::to_owned),
        })
    }
}

/// What stands behind a key.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).map(str::trim_end)
}

/// Reads `0/2000028 (file 000000010000000000000002)`.
fn parse_location(value: &str) -> Option<(Lsn, SegmentName)> {
    let (position, file) = value.split_once(" (file ")?;
    Some((position.parse().ok()?, file.strip_suffix(')')?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "START WAL LOCATION: 0/3C00028 (file 00000001000000000000003C)
STOP WAL LOCATION: 0/3C00138 (file 00000001000000000000003C)
CHECKPOINT LOCATION: 0/3C00060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-01-02 03:04:05 UTC
LABEL: pg_basebackup base backup
START TIMELINE: 1
STOP TIME: 2026-01-02 03:04:06 UTC
STOP TIMELINE: 1
";

    fn parse(text: &str) -> Result<BackupHistory, BackupHistoryError> {
        BackupHistory::parse("00000001000000000000003C".parse().unwrap(), text.as_bytes())
    }

    #[test]
    fn the_servers_own_file_is_read() {
        let backup = parse(FILE).unwrap();
        assert_eq!(backup.start, Lsn(0x3C0_0028));
        assert_eq!(backup.stop, Some(Lsn(0x3C0_0138)));
        assert_eq!(backup.start_timeline, TimelineId::new(1));
        assert_eq!(backup.label.as_deref(), Some("pg_basebackup base backup"));
        assert_eq!(backup.start_time.as_deref(), Some("2026-01-02 03:04:05 UTC"));
        assert_eq!(backup.stop_time.as_deref(), Some("2026-01-02 03:04:06 UTC"));
    }

    #[test]
    fn files_of_versions_before_11_have_no_timelines() {
        let old: Vec<&str> = FILE.lines().filter(|line| !line.contains("TIMELINE")).collect();
        assert_eq!(parse(&old.join("\n")).unwrap().start_timeline, None);
    }

    #[test]
    fn what_is_no_backup_history_is_refused() {
        assert_eq!(parse(""), Err(BackupHistoryError::NoStart));
        assert_eq!(parse("LABEL: x\n"), Err(BackupHistoryError::NoStart));
        assert_eq!(parse("START WAL LOCATION: 0/3C00028\n"), Err(BackupHistoryError::NoStart));
        let stop = FILE.replace("STOP WAL LOCATION: 0/", "STOP WAL LOCATION: ");
        assert_eq!(parse(&stop), Err(BackupHistoryError::Line("STOP WAL LOCATION")));
        let other = FILE.replace("3C)", "3D)");
        assert!(matches!(parse(&other), Err(BackupHistoryError::OtherSegment { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = BackupHistory::parse("00000001000000000000003C".parse().unwrap(), &bytes);
        }
    }
}
