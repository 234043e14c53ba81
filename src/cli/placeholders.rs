//! Mistakes in the server's commands, recognized by the two names that they pass: `%p` and `%f` mixed up, a path without quotes,
//! an argument as `cp` takes it.

use std::ffi::OsStr;
use std::path::Path;

use crate::wal::WalName;

/// Returns what is probably wrong with `archive_command`, whose arguments were PATH and perhaps NAME.
pub(super) fn hint_for_archive(path: &Path, name: Option<&OsStr>) -> Option<String> {
    match name {
        Some(name) if is_wal(path.as_os_str()) && ends_in_wal(name) => Some(
            "are %p and %f the wrong way round? archive_command = 'walkeep-archive %p'".to_owned(),
        ),
        Some(name) if ends_in_wal(path.as_os_str()) && Path::new(name).is_absolute() => Some(
            "walkeep is given the archive's directory, not the file's path in it: archive_command = 'walkeep-archive \
             --archive /mnt/archive %p'"
                .to_owned(),
        ),
        Some(name) if ends_in_wal(name) && !is_wal(name) => Some(format!(
            "two names were given, {:?} and {:?}; a path with a space needs quotes: --archive \"/mnt/my archive\"",
            path.display().to_string(),
            name.to_string_lossy()
        )),
        _ => None,
    }
}

/// Returns what is probably wrong with `restore_command`, whose arguments were NAME and PATH.
pub(super) fn hint_for_restore(name: &OsStr, path: &Path) -> Option<String> {
    let is_swapped = is_wal(path.as_os_str()) && Path::new(name).components().count() > 1;
    is_swapped
        .then(|| "are %f and %p the wrong way round? restore_command = 'walkeep-restore %f %p'".to_owned())
}

/// Returns what is wrong if a file that is not there, but in `pg_wal`, was given by its name alone. Looks at nothing if the path
/// has a directory, as the server's has.
pub(super) fn hint_for_absent(path: &Path) -> Option<&'static str> {
    (is_wal(path.as_os_str()) && !path.exists() && Path::new("pg_wal").join(path).exists())
        .then_some("archive_command needs %p, the path, and not %f, the name")
}

fn is_wal(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.parse::<WalName>().is_ok())
}

fn ends_in_wal(path: &OsStr) -> bool {
    Path::new(path).file_name().is_some_and(is_wal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: &str = "000000010000000000000001";

    fn archive(path: &str, name: Option<&str>) -> String {
        hint_for_archive(Path::new(path), name.map(OsStr::new)).unwrap_or_default()
    }

    #[test]
    fn a_mistake_in_archive_command_is_recognized() {
        let in_pg_wal = format!("pg_wal/{SEGMENT}");
        assert!(archive(SEGMENT, Some(&in_pg_wal)).contains("the wrong way round"));
        assert!(
            archive(&in_pg_wal, Some(&format!("/mnt/a/{SEGMENT}"))).contains("--archive /mnt/archive %p")
        );
        let half = archive("archive", Some(&in_pg_wal));
        assert!(half.contains("two names were given, \"archive\" and ") && half.contains("quotes"), "{half}");
        assert_eq!(archive(&in_pg_wal, None), "");
        assert_eq!(archive(&in_pg_wal, Some(SEGMENT)), "");
        assert_eq!(archive("pg_wal/odd", None), "");
    }

    #[test]
    fn a_mistake_in_restore_command_is_recognized() {
        let restore = |name: &str, path: &str| hint_for_restore(OsStr::new(name), Path::new(path));
        assert!(restore("pg_wal/RECOVERYXLOG", SEGMENT).is_some_and(|hint| hint.contains("%f %p")));
        assert_eq!(restore(SEGMENT, "pg_wal/RECOVERYXLOG"), None);
        assert_eq!(restore("odd", "pg_wal/RECOVERYXLOG"), None);
    }
}
