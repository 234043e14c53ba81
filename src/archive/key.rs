//! Which key of the store holds which file.
//!
//! The key follows from the system and the name alone, never from codec, encryption or content: one name, one key,
//! one request, and no two clusters ever meet.

use object_store::path::Path;

use crate::wal::{SystemIdentifier, WalName};

/// The key of `name` below the archive's prefix.
pub(super) fn key(system: SystemIdentifier, name: WalName) -> Path {
    Path::from(match name {
        WalName::Segment(segment) | WalName::Partial(segment) => {
            format!("{system}/wal/{}/{name}", segment.group())
        }
        WalName::History(_) => format!("{system}/timelines/{name}"),
        WalName::Backup { .. } => format!("{system}/backups/{name}"),
    })
}

/// What the keys of a system's segments begin with.
pub(super) fn wal(system: SystemIdentifier) -> Path {
    Path::from(format!("{system}/wal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_file_has_its_place() {
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
        assert_eq!(key("0000000A.history"), "7381092445103374871/timelines/0000000A.history");
        assert_eq!(
            key("0000000A000000160000003C.00C00028.backup"),
            "7381092445103374871/backups/0000000A000000160000003C.00C00028.backup"
        );
    }
}
