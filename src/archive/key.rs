//! Mapping from file names to keys.
//!
//! A key depends only on cluster and name, never on codec, encryption or content. Each name therefore has one key and
//! takes one request, and clusters never conflict. The one exception is a second `.partial` ([`ArchivedName`]).

use object_store::path::Path;

use super::name::ArchivedName;
use super::report::Report;
use crate::wal::{SystemIdentifier, WalName};

/// Returns the key of `name` below the archive's prefix.
pub(super) fn key(system: SystemIdentifier, name: ArchivedName) -> Path {
    Path::from(match name.wal() {
        WalName::Segment(segment) | WalName::Partial(segment) => {
            format!("{system}/wal/{}/{name}", segment.group())
        }
        WalName::History(_) => format!("{system}/timelines/{name}"),
        WalName::Backup { .. } => format!("{system}/backups/{name}"),
    })
}

/// Kind of a file below a cluster's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An archived file.
    File(ArchivedName),
    /// A staging file of a push or of a report.
    Staged,
    /// A report of walkeep's.
    Report,
    /// Not a file of walkeep's.
    Unknown,
}

/// Returns the kind of the file with that key.
pub(super) fn classify(system: SystemIdentifier, key: &str) -> Kind {
    let last = key.rsplit('/').next().unwrap_or_default();
    let (stem, staged) = match last.split_once('#') {
        Some((stem, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            (stem, true)
        }
        Some(_) => return Kind::Unknown,
        None => (last, false),
    };
    let whole = key.strip_suffix(last).map(|above| format!("{above}{stem}")).unwrap_or_default();
    let kind = match stem.parse() {
        Ok(name) if self::key(system, name).as_ref() == whole => Kind::File(name),
        _ if Report::ALL.iter().any(|report| report.key(system).as_ref() == whole) => Kind::Report,
        _ => return Kind::Unknown,
    };
    if staged { Kind::Staged } else { kind }
}

/// Returns `true` for the name of an archived file, or of a directory above one.
pub(super) fn is_of_an_archive(name: &str) -> bool {
    name.parse::<ArchivedName>().is_ok()
        || name.parse::<SystemIdentifier>().is_ok()
        || DIRECTORIES.contains(&name)
        || is_group(name)
}

/// Names of the directories in that of a cluster.
pub(super) const DIRECTORIES: [&str; 4] = ["wal", "timelines", "backups", "reports"];

/// Returns `true` for the name of a directory of segments: timeline and middle third of their names.
pub(super) fn is_group(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'))
}

/// Returns the prefix of all keys of a cluster.
pub(super) fn of_system(system: SystemIdentifier) -> Path {
    Path::from(system.to_string())
}

/// Returns the prefix of all keys of a cluster's segments.
pub(super) fn wal(system: SystemIdentifier) -> Path {
    Path::from(format!("{system}/wal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_file_has_its_key() {
        let system = SystemIdentifier::new(7_381_092_445_103_374_871).unwrap();
        let key = |name: &str| key(system, name.parse().unwrap()).to_string();
        assert_eq!(
            key("0000000A000000160000003C"),
            "7381092445103374871/wal/0000000A00000016/0000000A000000160000003C"
        );
        assert_eq!(
            key("0000000A000000160000003C.partial"),
            "7381092445103374871/wal/0000000A00000016/0000000A000000160000003C.partial"
        );
        let second = format!("0000000A000000160000003C.partial.{}", "ab".repeat(32));
        assert_eq!(key(&second), format!("7381092445103374871/wal/0000000A00000016/{second}"));
        assert_eq!(key("0000000A.history"), "7381092445103374871/timelines/0000000A.history");
        assert_eq!(
            key("0000000A000000160000003C.00C00028.backup"),
            "7381092445103374871/backups/0000000A000000160000003C.00C00028.backup"
        );
    }

    #[test]
    fn a_file_under_another_key_is_unknown() {
        let system = SystemIdentifier::new(7).unwrap();
        let kind = |key: &str| classify(system, key);
        let segment = "7/wal/0000000A00000016/0000000A000000160000003C";
        let second = format!("{segment}.partial.{}", "ab".repeat(32));
        for file in [
            segment,
            "7/timelines/0000000A.history",
            "7/wal/0000000A00000016/0000000A000000160000003C.partial",
            &second,
        ] {
            assert!(matches!(kind(file), Kind::File(_)), "{file}");
            assert_eq!(kind(&format!("{file}#17")), Kind::Staged);
        }
        assert_eq!(kind("7/reports/prune.json"), Kind::Report);
        assert_eq!(kind("7/reports/verify.json#3"), Kind::Staged);
        for unknown in [
            "7/wal/0000000A00000017/0000000A000000160000003C",
            "8/wal/0000000A00000016/0000000A000000160000003C",
            "7/0000000A000000160000003C",
            "7/wal/0000000A00000016/0000000A000000160000003C#",
            "7/wal/0000000A00000016/0000000A000000160000003C#1x",
            "7/wal/0000000A00000016/0000000A000000160000003C.tmp",
            "7/wal/0000000A00000016/0000000A000000160000003C.partial.ab",
            &format!("{segment}.{}", "ab".repeat(32)),
            &format!("7/wal/0000000A00000017/0000000A000000160000003C.partial.{}", "ab".repeat(32)),
            "7/wal/0000000A00000016/0000000A000000160000003c",
            "7/timelines/0000000A.history/x",
            "7/reports/other.json",
            "7/reports/prune.json.bak",
            "7/README#1",
            "7/",
            "",
        ] {
            assert_eq!(kind(unknown), Kind::Unknown, "{unknown}");
        }
    }
}
