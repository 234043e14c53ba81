//! Backup history files, `SEGMENT.OFFSET.backup`, which the server archives when a base backup ends. Source:
//! `do_pg_backup_stop` in `access/transam/xlog.c`.
//!
//! The lines have the form `KEY: value` and a fixed order: `START WAL LOCATION`, `STOP WAL LOCATION`, `CHECKPOINT
//! LOCATION`, `BACKUP METHOD`, `BACKUP FROM`, `START TIME`, `LABEL`, `START TIMELINE` (11 and later), `STOP TIME`,
//! `STOP TIMELINE` (11 and later), and those of an incremental backup (17 and later), `INCREMENTAL FROM LSN` and
//! `INCREMENTAL FROM TLI`.
//!
//! A label is free text and may contain line feeds, so it may imitate any of these lines. The keys that precede the
//! label are therefore searched only before it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::{Lsn, SegmentName, SegmentSize, TimelineId};

/// WAL that replay of a base backup must read before the data is consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupWal {
    /// Segment that contains `start`.
    pub start_segment: SegmentName,
    /// Position from which replay starts.
    pub start: Lsn,
    /// Position that replay must reach, with its timeline; `None` if unknown.
    pub end: Option<(TimelineId, Lsn)>,
}

/// Contents of a backup history file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupHistory {
    /// WAL that the base backup needs. 9.3 and later write its end.
    pub wal: BackupWal,
    /// Label of the backup; may have several lines.
    pub label: Option<String>,
    /// End of the backup by the server's clock. `None` unless the time zone is a number, `UTC` or `GMT`: other
    /// abbreviations are ambiguous ("CST" stands for three zones).
    pub stop_time: Option<Timestamp>,
    /// Start of the backup on whose files an incremental one builds.
    pub builds_on: Option<(TimelineId, Lsn)>,
}

/// Contents of a `backup_label` file (`do_pg_backup_start` in `access/transam/xlogbackup.c`). Its lines are those of
/// a backup history file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupLabel {
    /// Position from which replay of the base backup starts.
    pub start: Lsn,
    /// Segment that contains `start`.
    pub start_segment: SegmentName,
    /// Position of the checkpoint record that replay starts from. The server reads it first.
    pub checkpoint: Option<Lsn>,
    /// `true` if the backup was taken from a standby, which writes no backup history file.
    pub from_standby: bool,
    /// Start of the backup on whose files an incremental one builds.
    pub builds_on: Option<(TimelineId, Lsn)>,
}

impl BackupLabel {
    /// Parses a `backup_label` file.
    pub fn parse(bytes: &[u8]) -> Result<Self, BackupHistoryError> {
        let text = String::from_utf8_lossy(bytes);
        let parts = Parts::of(&text);
        let location = parts.value("START WAL LOCATION").and_then(parse_location);
        let (start, start_segment) = location.ok_or(BackupHistoryError::NoStart)?;
        let checkpoint = parts.value("CHECKPOINT LOCATION").and_then(|position| position.parse().ok());
        let from_standby = parts.value("BACKUP FROM") == Some("standby");
        Ok(Self { start, start_segment, checkpoint, from_standby, builds_on: parts.builds_on() })
    }

    /// Returns `true` if the server needs `segment` to start recovery: any segment from `start` to `checkpoint`.
    #[must_use]
    pub fn begins_with(&self, segment: SegmentName, size: SegmentSize) -> bool {
        let last =
            self.checkpoint.and_then(|at| SegmentName::containing(self.start_segment.timeline(), at, size));
        (self.start_segment..=last.unwrap_or(self.start_segment).max(self.start_segment)).contains(&segment)
    }
}

/// Error from parsing a backup history file or a `backup_label` file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupHistoryError {
    /// The `START WAL LOCATION` line is missing or malformed.
    #[error("it has no line \"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\"")]
    NoStart,
    /// A line before the label has a known key and a malformed value. No server writes this.
    #[error("its line \"{0}\" cannot be read")]
    Line(&'static str),
    /// The file's name and its content name different segments.
    #[error("its name says segment {name}, its content {content}")]
    OtherSegment {
        /// Segment in the file's name.
        name: SegmentName,
        /// Segment in the file's content.
        content: SegmentName,
    },
}

impl BackupHistory {
    /// Parses the history file of a backup that starts in `segment`. Takes bytes, because a label may be in any
    /// encoding.
    pub fn parse(segment: SegmentName, bytes: &[u8]) -> Result<Self, BackupHistoryError> {
        let text = String::from_utf8_lossy(bytes);
        let parts = Parts::of(&text);
        let location = parts.value("START WAL LOCATION").and_then(parse_location);
        let (start, start_segment) = location.ok_or(BackupHistoryError::NoStart)?;
        if start_segment != segment {
            return Err(BackupHistoryError::OtherSegment { name: segment, content: start_segment });
        }
        // A malformed value is an error, not `None`: the end decides whether the backup is complete.
        let stop = parts
            .value("STOP WAL LOCATION")
            .map(|value| parse_location(value).ok_or(BackupHistoryError::Line("STOP WAL LOCATION")))
            .transpose()?;
        let end = stop.map(|(position, file)| (file.timeline(), position));
        Ok(Self {
            wal: BackupWal { start_segment, start, end },
            label: parts.label.map(str::to_owned),
            stop_time: parts.stop_time().and_then(parse_moment),
            builds_on: parts.builds_on(),
        })
    }
}

/// A file's text, split around its label.
struct Parts<'a> {
    /// Lines before the label.
    before: &'a str,
    label: Option<&'a str>,
    /// The label and the lines after it.
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        const LABEL: &str = "\nLABEL: ";
        let Some((before, rest)) = text.split_once(LABEL) else {
            return Self { before: text, label: None, rest: "" };
        };
        // The last match is the server's own line: the label may contain the same keys, but ends before them.
        let after = ["\nSTART TIMELINE: ", "\nSTOP TIME: "].iter().find_map(|key| rest.rfind(key));
        let label = after.and_then(|end| rest.get(..end)).unwrap_or(rest);
        Self { before, label: Some(label.trim_end()), rest }
    }

    /// Returns the value of `key` among the lines before the label.
    fn value(&self, key: &str) -> Option<&'a str> {
        let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix(": ");
        self.before.lines().find_map(value).map(str::trim_end)
    }

    /// Returns the value of `STOP TIME`, taken from its last occurrence.
    fn stop_time(&self) -> Option<&'a str> {
        let (_, after) = self.rest.rsplit_once("\nSTOP TIME: ")?;
        after.lines().next()
    }

    /// Returns the start of the backup that an incremental one builds on, from the lines after the server's last one of any
    /// backup: a label may contain the same keys, but ends before it.
    fn builds_on(&self) -> Option<(TimelineId, Lsn)> {
        let last = ["\nSTART TIMELINE: ", "\nSTOP TIMELINE: "]
            .iter()
            .filter_map(|key| self.rest.rfind(key))
            .max()?;
        let lines = self.rest.get(last..)?.lines();
        let value = |key: &str| {
            let value = lines.clone().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))?;
            Some(value.trim_end())
        };
        let timeline = value("INCREMENTAL FROM TLI")?.parse().ok().and_then(TimelineId::new)?;
        Some((timeline, value("INCREMENTAL FROM LSN")?.parse().ok()?))
    }
}

/// Parses `2026-01-02 03:04:06 +0530`.
fn parse_moment(value: &str) -> Option<Timestamp> {
    let (time, zone) = value.trim_end().rsplit_once(' ')?;
    let time = DateTime::strptime("%Y-%m-%d %H:%M:%S", time).ok()?;
    Offset::from_seconds(seconds_east(zone)?).ok()?.to_timestamp(time).ok()
}

/// Parses `+02`, `-0530` or `UTC` into seconds east of UTC.
fn seconds_east(zone: &str) -> Option<i32> {
    if matches!(zone, "UTC" | "GMT") {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "0"),
        4 => digits.split_at_checked(2)?,
        _ => return None,
    };
    // `i32::from_str` alone would accept another sign.
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let [hours, minutes]: [i32; 2] = [number(hours)?, number(minutes)?];
    (minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

/// Parses `0/2000028 (file 000000010000000000000002)`.
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
        assert_eq!(backup.wal.start, Lsn(0x3C0_0028));
        assert_eq!(backup.wal.end, Some((TimelineId::FIRST, Lsn(0x3C0_0138))));
        assert_eq!(backup.label.as_deref(), Some("pg_basebackup base backup"));
        assert_eq!(backup.stop_time, Some("2026-01-02T03:04:06Z".parse().unwrap()));
        let label = BackupLabel::parse(FILE.as_bytes()).unwrap();
        assert!(!label.from_standby);
        let of_standby = FILE.replacen("BACKUP FROM: primary", "BACKUP FROM: standby", 1);
        assert!(BackupLabel::parse(of_standby.as_bytes()).unwrap().from_standby);
    }

    #[test]
    fn the_stop_timeline_comes_from_the_segment_name_beside_the_position() {
        let other = FILE.replacen(
            "STOP WAL LOCATION: 0/3C00138 (file 00000001",
            "STOP WAL LOCATION: 0/3C00138 (file 00000003",
            1,
        );
        let backup = parse(&other).unwrap();
        assert_eq!(backup.wal.end.map(|(timeline, _)| timeline.get()), Some(3));
        assert_eq!(backup.wal.start_segment.timeline().get(), 1);
    }

    #[test]
    fn an_incremental_backup_says_where_the_one_started_on_which_it_builds() {
        let incremental = "INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n";
        let of_history = |text: &str| parse(text).unwrap().builds_on;
        let of_label = |text: &str| BackupLabel::parse(text.as_bytes()).unwrap().builds_on;
        let (label, _) = FILE.split_once("STOP TIME").unwrap();
        let expected = Some((TimelineId::FIRST, Lsn(0x200_0028)));
        assert_eq!((of_history(FILE), of_label(label)), (None, None), "a full one");
        assert_eq!(of_history(&format!("{FILE}{incremental}")), expected);
        assert_eq!(of_label(&format!("{label}{incremental}")), expected);
        for text in ["nightly\nSTART TIMELINE: 1\n", "nightly\nSTOP TIMELINE: 1\n", ""] {
            let imitated = format!("{text}{}", incremental.replace("TLI: 1", "TLI: 7").trim_end());
            let imitating = |text: &str| text.replace("pg_basebackup base backup", &imitated);
            assert_eq!(
                (of_history(&imitating(FILE)), of_label(&imitating(label))),
                (None, None),
                "{imitated}"
            );
            let both = imitating(FILE) + incremental;
            assert_eq!(of_history(&both), expected, "{imitated}");
        }
        for odd in ["0/200002X", "", "odd"] {
            let text = format!("{FILE}{}", incremental.replace("0/2000028", odd));
            assert_eq!(of_history(&text), None, "{odd:?}");
        }
    }

    #[test]
    fn a_recovery_begins_with_the_segments_up_to_that_of_the_checkpoint() {
        let segments = [0x3B, 0x3C, 0x3D, 0x3E, 0x3F]
            .map(|number| SegmentName::from_number(TimelineId::FIRST, number, SegmentSize::MIN).unwrap());
        let begins_with = |checkpoint: &str| {
            let text = FILE.replacen("CHECKPOINT LOCATION: 0/3C00060", checkpoint, 1);
            let label = BackupLabel::parse(text.as_bytes()).unwrap();
            assert_eq!(label.start_segment, segments[1]);
            segments.map(|segment| label.begins_with(segment, SegmentSize::MIN))
        };
        assert_eq!(begins_with("CHECKPOINT LOCATION: 0/3C00060"), [false, true, false, false, false]);
        assert_eq!(begins_with("CHECKPOINT LOCATION: 0/3E00060"), [false, true, true, true, false]);
        for odd in ["CHECKPOINT LOCATION: odd", "CHECKPOINT LOCATION: 0/60", "X: 0/3E00060"] {
            assert_eq!(begins_with(odd), [false, true, false, false, false], "{odd}");
        }
    }

    #[test]
    fn a_stop_time_is_read_only_with_a_numeric_zone() {
        let at =
            |zone: &str| parse(&FILE.replace("03:04:06 UTC", &format!("03:04:06 {zone}"))).unwrap().stop_time;
        for (zone, utc) in [("GMT", "03:04:06"), ("+02", "01:04:06"), ("-0130", "04:34:06"), ("+0545", "-")] {
            let expected =
                format!("2026-01-02T{utc}Z").parse().unwrap_or("2026-01-01T21:19:06Z".parse().unwrap());
            assert_eq!(at(zone), Some(expected), "{zone}");
        }
        for zone in
            ["CET", "CST", "", "Europe/Berlin", "+2", "+002", "+0260", "+0275", "+-2", "+2é", "é02", "-99999"]
        {
            assert_eq!(at(zone), None, "{zone}");
        }
        assert_eq!(
            parse(&FILE.replace("2026-01-02 03:04:06", "2026-02-30 03:04:06")).unwrap().stop_time,
            None
        );
        assert_eq!(parse(&FILE.replace("STOP TIME: ", "STOP: ")).unwrap().stop_time, None);
    }

    #[test]
    fn a_label_that_imitates_other_lines_changes_nothing() {
        let other = "0/9C00028 (file 00000001000000000000009C)";
        for label in [
            "nightly\nSTART TIMELINE: one".to_owned(),
            "nightly\nSTOP TIME: x\nSTOP TIMELINE: y".to_owned(),
            format!("nightly\nSTART WAL LOCATION: {other}\nSTOP WAL LOCATION: {other}"),
            "a\nSTOP WAL LOCATION: nowhere".to_owned(),
            "a\nLABEL: b".to_owned(),
            "a\n\nb".to_owned(),
        ] {
            let whole = FILE.replace("pg_basebackup base backup", &label);
            let before_11: Vec<&str> = FILE.lines().filter(|line| !line.contains("TIMELINE")).collect();
            let before_11 = before_11.join("\n").replace("pg_basebackup base backup", &label);
            for text in [&whole, &before_11] {
                let backup = parse(text).unwrap();
                let end = (TimelineId::FIRST, Lsn(0x3C0_0138));
                assert_eq!((backup.wal.start, backup.wal.end), (Lsn(0x3C0_0028), Some(end)), "{text}");
                assert_eq!(backup.stop_time, Some("2026-01-02T03:04:06Z".parse().unwrap()), "{text}");
            }
            assert_eq!(parse(&whole).unwrap().label.as_deref(), Some(&*label));
            let without_stop = whole.replacen("STOP WAL LOCATION", "SOMETHING ELSE", 1);
            assert_eq!(parse(&without_stop).unwrap().wal.end, None, "{label}");
            assert_eq!(BackupLabel::parse(whole.as_bytes()).unwrap().start, Lsn(0x3C0_0028), "{label}");
        }
        let fake = FILE.replacen("START WAL LOCATION", "SOMETHING ELSE", 1);
        let fake = fake.replace("pg_basebackup", &format!("x\nSTART WAL LOCATION: {other}\n"));
        assert_eq!(parse(&fake), Err(BackupHistoryError::NoStart), "a label is no beginning");
    }

    #[test]
    fn malformed_values_of_unused_keys_are_ignored() {
        for line in FILE.lines().skip(2) {
            let (key, _) = line.split_once(": ").unwrap();
            for changed in [String::new(), format!("{key}: odd\n"), format!("{key}\n")] {
                let text = FILE.replace(&format!("{line}\n"), &changed);
                assert_eq!(parse(&text).unwrap().wal.start, Lsn(0x3C0_0028), "{changed:?}");
            }
        }
    }

    #[test]
    fn malformed_backup_history_is_refused() {
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
