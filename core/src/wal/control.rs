//! `global/pg_control` (`ControlFileData` in `catalog/pg_control.h`): system identifier u64 at 0, version of the
//! file's layout u32 at 8, catalog version u32 at 12, the server's state (`DBState`) u32 at 16, native byte order; then the last
//! checkpoint.
//!
//! Where the sizes are depends on the version. In each they follow `floatFormat`, a float8 that is always 1234567.0: page
//! size u32, pages a file u32, WAL page size u32, WAL segment size u32.

use super::{Lsn, SegmentSize, SystemIdentifier, TimelineId};

/// How many bytes of `pg_control` hold everything that is read of it; the server pads the file to more.
pub const CONTROL_FILE_BYTES: usize = 512;

/// `FLOATFORMAT_VALUE`.
const FLOAT_FORMAT: f64 = 1_234_567.0;

/// The bytes are not those of a `pg_control` that this machine can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlFileError {
    /// Too few bytes.
    #[error("it has only {0} bytes")]
    Short(usize),
    /// The layout's version is not a plausible one.
    #[error("it was written on a machine of another byte order, or is damaged (layout version {0})")]
    Version(u32),
    /// The system identifier is 0.
    #[error("it names no system identifier")]
    NoSystem,
}

/// `DB_IN_ARCHIVE_RECOVERY`, the same since 9.0.
const IN_ARCHIVE_RECOVERY: u32 = 5;

/// Reads the system identifier from the beginning of `pg_control`.
///
/// The file's checksum is left alone: a running server rewrites the file at any time, so a torn read is no damage,
/// and the identifier at its very beginning never changes.
pub fn system_identifier_of_control_file(bytes: &[u8]) -> Result<SystemIdentifier, ControlFileError> {
    SystemIdentifier::new(beginning(bytes)?.0).ok_or(ControlFileError::NoSystem)
}

/// Whether the beginning of `pg_control` says that its server is in archive recovery, as a standby always is.
#[must_use]
pub fn control_file_says_recovery(bytes: &[u8]) -> bool {
    let state =
        beginning(bytes).ok().and_then(|(_, rest)| rest.split_first_chunk::<8>()?.1.first_chunk::<4>());
    state.is_some_and(|state| u32::from_ne_bytes(*state) == IN_ARCHIVE_RECOVERY)
}

/// The identifier, and what follows it, from the layout's version on, which is a plausible one.
fn beginning(bytes: &[u8]) -> Result<(u64, &[u8]), ControlFileError> {
    let short = || ControlFileError::Short(bytes.len());
    let (identifier, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    let version = u32::from_ne_bytes(*rest.first_chunk::<4>().ok_or_else(short)?);
    // 9.3 has 937, version 18 has 1800; the other byte order shows as a multiple of 65536.
    if !(900..65_536).contains(&version) {
        return Err(ControlFileError::Version(version));
    }
    Ok((u64::from_ne_bytes(*identifier), rest))
}

/// From this version of the layout on (PostgreSQL 11), the position of the checkpoint before the last one is not in it.
const FIRST_WITHOUT_PREVIOUS: u32 = 1100;

/// Where a server that recovers would begin again: the position from which the last checkpoint replays (`checkPointCopy.redo`),
/// and its timeline. They follow the time u64 at 24 and the checkpoint's own position u64 at 32.
#[must_use]
pub fn restart_point_of_control_file(bytes: &[u8]) -> Option<(TimelineId, Lsn)> {
    let (_, rest) = beginning(bytes).ok()?;
    let version = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
    let at = if version < FIRST_WITHOUT_PREVIOUS { 48 } else { 40 };
    let (redo, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
    let timeline = TimelineId::new(u32::from_ne_bytes(*rest.first_chunk::<4>()?))?;
    Some((timeline, Lsn(u64::from_ne_bytes(*redo)))).filter(|(_, redo)| redo.0 != 0)
}

/// What a server in archive recovery must replay before its data is consistent (`minRecoveryPoint`), and on which timeline that is;
/// a base backup of a standby ends there. It follows the last checkpoint and `unloggedLSN`. `None` of any other server, and of
/// layouts that are not known to have it there.
#[must_use]
pub fn recovery_end_of_control_file(bytes: &[u8]) -> Option<(TimelineId, Lsn)> {
    let (_, rest) = beginning(bytes).ok().filter(|_| control_file_says_recovery(bytes))?;
    let at = match u32::from_ne_bytes(*rest.first_chunk::<4>()?) {
        1100 => 128,
        // Of 12 to 18, in which transactions are counted by 64 bits.
        1201 | 1300 | 1700 | 1800 => 136,
        _ => return None,
    };
    let (end, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
    let timeline = TimelineId::new(u32::from_ne_bytes(*rest.first_chunk::<4>()?))?;
    Some((timeline, Lsn(u64::from_ne_bytes(*end)))).filter(|(_, end)| end.0 != 0)
}

/// Reads the size of the cluster's WAL segments; `None` where the bytes do not tell it.
#[must_use]
pub fn segment_size_of_control_file(bytes: &[u8]) -> Option<SegmentSize> {
    let (words, _) = bytes.as_chunks::<4>();
    let format = FLOAT_FORMAT.to_ne_bytes();
    // Aligned as a float8, which is 8 bytes on every machine that the server runs on but some of 32 bits.
    let after = bytes.windows(8).step_by(4).position(|eight| eight == format)? + 2;
    let word = |at: usize| words.get(after + at).map(|word| u32::from_ne_bytes(*word));
    let pages = [word(0)?, word(2)?];
    let plausible = pages.iter().all(|page| page.is_power_of_two() && (1 << 9..=1 << 16).contains(page));
    plausible.then(|| SegmentSize::new(word(3)?.into()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_segments_follows_the_format_of_numbers() {
        let with = |before: usize, words: [u32; 4]| {
            let mut bytes = vec![7; before];
            bytes.extend(FLOAT_FORMAT.to_ne_bytes());
            bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            segment_size_of_control_file(&bytes)
        };
        for before in [16, 160, 212, 264] {
            let words = [8192, 131_072, 8192, 1 << 24];
            assert_eq!(with(before, words), Some(SegmentSize::DEFAULT), "{before}");
        }
        assert_eq!(with(264, [8192, 131_072, 8192, 12_345]), None);
        assert_eq!(with(264, [8000, 131_072, 8192, 1 << 24]), None);
        assert_eq!(segment_size_of_control_file(&FLOAT_FORMAT.to_ne_bytes()), None, "cut off");
        assert_eq!(segment_size_of_control_file(&[0; CONTROL_FILE_BYTES]), None);
    }

    fn control(identifier: u64, version: u32) -> Vec<u8> {
        [&identifier.to_ne_bytes()[..], &version.to_ne_bytes(), &[0; 4]].concat()
    }

    #[test]
    fn the_identifier_is_at_the_beginning() {
        let identifier =
            system_identifier_of_control_file(&control(7_381_092_445_103_374_871, 1300)).unwrap();
        assert_eq!(identifier.to_string(), "7381092445103374871");
    }

    #[test]
    fn the_state_is_after_the_versions() {
        let says = |state: u32| {
            control_file_says_recovery(&[&control(7, 1300)[..], &state.to_ne_bytes(), &[9; 40]].concat())
        };
        assert!((0..99).all(|state| says(state) == (state == 5)));
        assert!(!control_file_says_recovery(&control(7, 1300)), "too few bytes");
        let other_order = [&control(7, 1300u32.swap_bytes())[..], &5u32.to_ne_bytes()].concat();
        assert!(!control_file_says_recovery(&other_order));
    }

    #[test]
    fn the_restart_point_is_where_the_version_has_it() {
        let with = |version: u32, before: usize, redo: u64, timeline: u32| {
            let mut bytes = control(7, version);
            bytes.extend(vec![9; before - bytes.len()]);
            bytes.extend(redo.to_ne_bytes());
            bytes.extend(timeline.to_ne_bytes());
            restart_point_of_control_file(&bytes).map(|(timeline, redo)| (timeline.get(), redo.0))
        };
        for (version, before) in [(1100, 40), (1300, 40), (1800, 40), (1002, 48), (960, 48)] {
            assert_eq!(with(version, before, 0x0300_0028, 2), Some((2, 0x0300_0028)), "{version}");
            assert_eq!(with(version, before, 0, 2), None, "{version}");
            assert_eq!(with(version, before, 1, 0), None, "{version}");
        }
        assert_eq!(with(1300u32.swap_bytes(), 40, 1, 1), None);
        assert_eq!(restart_point_of_control_file(&control(7, 1300)), None, "too few bytes");
    }

    #[test]
    fn the_end_of_recovery_is_where_the_version_has_it() {
        let with = |version: u32, before: usize, end: u64, timeline: u32| {
            let mut bytes = [&control(7, version)[..], &IN_ARCHIVE_RECOVERY.to_ne_bytes()].concat();
            bytes.extend(vec![9; before - bytes.len()]);
            bytes.extend(end.to_ne_bytes());
            bytes.extend(timeline.to_ne_bytes());
            recovery_end_of_control_file(&bytes).map(|(timeline, end)| (timeline.get(), end.0))
        };
        for (version, before) in [(1100, 128), (1201, 136), (1300, 136), (1700, 136), (1800, 136)] {
            assert_eq!(with(version, before, 0x0300_0138, 2), Some((2, 0x0300_0138)), "{version}");
            assert_eq!(with(version, before, 0, 2), None, "{version}");
            assert_eq!(with(version, before, 1, 0), None, "{version}");
        }
        for unknown in [1002, 1301, 1900] {
            assert_eq!(with(unknown, 136, 1, 1), None, "{unknown}");
        }
        assert_eq!(recovery_end_of_control_file(&control(7, 1300)), None, "too few bytes");
        let of_primary = [&control(7, 1300)[..], &6u32.to_ne_bytes(), &[1; 256]].concat();
        assert_eq!(recovery_end_of_control_file(&of_primary), None);
    }

    #[test]
    fn what_is_no_control_file_is_refused() {
        let read = |bytes: &[u8]| system_identifier_of_control_file(bytes).unwrap_err();
        assert_eq!(read(b""), ControlFileError::Short(0));
        assert_eq!(read(&control(7, 1300)[..11]), ControlFileError::Short(11));
        assert_eq!(read(&control(7, 1300u32.swap_bytes())), ControlFileError::Version(1300u32.swap_bytes()));
        assert_eq!(read(&[0; 8192]), ControlFileError::Version(0));
        assert_eq!(read(&control(0, 1300)), ControlFileError::NoSystem);
    }
}
