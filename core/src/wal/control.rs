//! `global/pg_control` (`ControlFileData` in `catalog/pg_control.h`), in native byte order.
//!
//! | offset | field | type |
//! | --- | --- | --- |
//! | 0 | system identifier | u64 |
//! | 8 | layout version | u32 |
//! | 12 | catalog version | u32 |
//! | 16 | state of the server (`DBState`) | u32 |
//! | 24 | time of the last update | u64 |
//! | 32 | position of the last checkpoint record | u64 |
//!
//! A copy of the last checkpoint follows. The offset of the sizes depends on the layout version. In every version
//! they follow `floatFormat`, a float8 that is always 1234567.0: page size u32, pages per file u32, from version 19 on
//! pages per SLRU segment u32, WAL page size u32, WAL segment size u32.

use super::{Lsn, SegmentSize, SystemIdentifier, TimelineId};

/// Number of leading bytes of `pg_control` that contain all fields read here. The server pads the file to more.
pub const CONTROL_FILE_BYTES: usize = 512;

/// `FLOATFORMAT_VALUE`.
const FLOAT_FORMAT: f64 = 1_234_567.0;

/// Error from reading `pg_control`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlFileError {
    /// The file is too short.
    #[error("it has only {0} bytes")]
    Short(usize),
    /// The layout version is implausible.
    #[error("it was written on a machine of another byte order, or is damaged (layout version {0})")]
    Version(u32),
    /// The system identifier is 0.
    #[error("it names no system identifier")]
    NoSystem,
}

/// `DB_IN_ARCHIVE_RECOVERY` and `DB_IN_PRODUCTION`; unchanged since 9.0.
const IN_ARCHIVE_RECOVERY: u32 = 5;
const IN_PRODUCTION: u32 = 6;

/// Reads the system identifier.
///
/// The checksum is not verified: a running server rewrites the file at any time, so a torn read is not damage, and
/// the identifier never changes.
pub fn system_identifier_of_control_file(bytes: &[u8]) -> Result<SystemIdentifier, ControlFileError> {
    SystemIdentifier::new(beginning(bytes)?.0).ok_or(ControlFileError::NoSystem)
}

/// Returns `true` if the server is in archive recovery, as a standby always is.
#[must_use]
pub fn control_file_says_recovery(bytes: &[u8]) -> bool {
    state(bytes) == Some(IN_ARCHIVE_RECOVERY)
}

/// Returns `true` if the server accepts writes, or did when it crashed.
#[must_use]
pub fn control_file_says_production(bytes: &[u8]) -> bool {
    state(bytes) == Some(IN_PRODUCTION)
}

fn state(bytes: &[u8]) -> Option<u32> {
    let (_, rest) = beginning(bytes).ok()?;
    Some(u32::from_ne_bytes(*rest.split_first_chunk::<8>()?.1.first_chunk::<4>()?))
}

/// Returns the system identifier, and the bytes from the layout version on, after checking that the version is
/// plausible.
fn beginning(bytes: &[u8]) -> Result<(u64, &[u8]), ControlFileError> {
    let short = || ControlFileError::Short(bytes.len());
    let (identifier, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    let version = u32::from_ne_bytes(*rest.first_chunk::<4>().ok_or_else(short)?);
    // 937 (9.3) to 1905 (19). In the other byte order the value is a multiple of 65536.
    if !(900..65_536).contains(&version) {
        return Err(ControlFileError::Version(version));
    }
    Ok((u64::from_ne_bytes(*identifier), rest))
}

/// First layout version (PostgreSQL 11) without the position of the previous checkpoint.
const FIRST_WITHOUT_PREVIOUS: u32 = 1100;

/// Returns the position from which a server in recovery would restart, with its timeline: `checkPointCopy.redo`,
/// which follows the position of the last checkpoint record.
#[must_use]
pub fn restart_point_of_control_file(bytes: &[u8]) -> Option<(TimelineId, Lsn)> {
    let (_, rest) = beginning(bytes).ok()?;
    let version = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
    let at = if version < FIRST_WITHOUT_PREVIOUS { 48 } else { 40 };
    let (redo, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
    let timeline = TimelineId::new(u32::from_ne_bytes(*rest.first_chunk::<4>()?))?;
    Some((timeline, Lsn(u64::from_ne_bytes(*redo)))).filter(|(_, redo)| redo.0 != 0)
}

/// Returns `minRecoveryPoint`, the position that a server in archive recovery must reach before its data is
/// consistent, with its timeline. A base backup taken from a standby ends there.
///
/// The field follows the checkpoint copy and `unloggedLSN`. Returns `None` for a server that is not in archive
/// recovery, and for layout versions whose offset is unknown.
#[must_use]
pub fn recovery_end_of_control_file(bytes: &[u8]) -> Option<(TimelineId, Lsn)> {
    let (_, rest) = beginning(bytes).ok().filter(|_| control_file_says_recovery(bytes))?;
    let at = match u32::from_ne_bytes(*rest.first_chunk::<4>()?) {
        1100 => 128,
        // 10, with the position of the previous checkpoint; 12 to 18, with transaction IDs of 64 bits in the checkpoint copy.
        1002 | 1201 | 1300 | 1700 | 1800 => 136,
        // 19, with offsets of 64 bits there.
        1905 => 144,
        _ => return None,
    };
    let (end, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
    let timeline = TimelineId::new(u32::from_ne_bytes(*rest.first_chunk::<4>()?))?;
    Some((timeline, Lsn(u64::from_ne_bytes(*end)))).filter(|(_, end)| end.0 != 0)
}

/// Reads the cluster's WAL segment size; `None` if the bytes do not contain it.
#[must_use]
pub fn segment_size_of_control_file(bytes: &[u8]) -> Option<SegmentSize> {
    let (words, _) = bytes.as_chunks::<4>();
    let format = FLOAT_FORMAT.to_ne_bytes();
    // A float8 is aligned to 8 bytes, on some 32-bit machines to 4.
    let after = bytes.windows(8).step_by(4).position(|eight| eight == format)? + 2;
    let word = |at: usize| words.get(after + at).map(|word| u32::from_ne_bytes(*word));
    let is_page = |page: u32| page.is_power_of_two() && (1 << 9..=1 << 16).contains(&page);
    let with_wal_page_at = |at: usize| {
        let pages = is_page(word(0)?) && is_page(word(at)?);
        pages.then(|| SegmentSize::new(word(at + 1)?.into()).ok()).flatten()
    };
    // No segment is as small as a page, so that neither layout is taken for the other.
    with_wal_page_at(2).or_else(|| with_wal_page_at(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_size_is_found_after_the_float_format() {
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
        for (page, is_one) in [(1 << 8, false), (1 << 9, true), (1 << 16, true), (1 << 17, false)] {
            assert_eq!(with(264, [page, 131_072, 8192, 1 << 24]).is_some(), is_one, "{page}");
            assert_eq!(with(264, [8192, 131_072, page, 1 << 24]).is_some(), is_one, "{page}");
        }
        for slru_pages in [32u32, 512, 8192, 1 << 16] {
            let of_19 = [8192, 131_072, slru_pages, 8192, 1 << 24].map(u32::to_ne_bytes).concat();
            let of_19 = [&[7; 216][..], &FLOAT_FORMAT.to_ne_bytes(), &of_19].concat();
            assert_eq!(segment_size_of_control_file(&of_19), Some(SegmentSize::DEFAULT), "{slru_pages}");
        }
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
        let writes = |state: u32| {
            control_file_says_production(&[&control(7, 1300)[..], &state.to_ne_bytes()].concat())
        };
        assert!((0..99).all(|state| writes(state) == (state == 6)));
        assert!(!control_file_says_recovery(&control(7, 1300)), "too few bytes");
        let other_order = [&control(7, 1300u32.swap_bytes())[..], &5u32.to_ne_bytes()].concat();
        assert!(!control_file_says_recovery(&other_order));
    }

    #[test]
    fn the_restart_point_is_read_in_every_layout() {
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
    fn the_end_of_recovery_is_read_in_every_known_layout() {
        let with = |version: u32, before: usize, end: u64, timeline: u32| {
            let mut bytes = [&control(7, version)[..], &IN_ARCHIVE_RECOVERY.to_ne_bytes()].concat();
            bytes.extend(vec![9; before - bytes.len()]);
            bytes.extend(end.to_ne_bytes());
            bytes.extend(timeline.to_ne_bytes());
            recovery_end_of_control_file(&bytes).map(|(timeline, end)| (timeline.get(), end.0))
        };
        let layouts =
            [(1002, 136), (1100, 128), (1201, 136), (1300, 136), (1700, 136), (1800, 136), (1905, 144)];
        for (version, before) in layouts {
            assert_eq!(with(version, before, 0x0300_0138, 2), Some((2, 0x0300_0138)), "{version}");
            assert_eq!(with(version, before, 0, 2), None, "{version}");
            assert_eq!(with(version, before, 1, 0), None, "{version}");
        }
        for unknown in [1003, 1301, 1900] {
            assert_eq!(with(unknown, 136, 1, 1), None, "{unknown}");
        }
        assert_eq!(recovery_end_of_control_file(&control(7, 1300)), None, "too few bytes");
        let of_primary = [&control(7, 1300)[..], &6u32.to_ne_bytes(), &[1; 256]].concat();
        assert_eq!(recovery_end_of_control_file(&of_primary), None);
    }

    #[test]
    fn malformed_control_files_are_refused() {
        let read = |bytes: &[u8]| system_identifier_of_control_file(bytes).unwrap_err();
        assert_eq!(read(b""), ControlFileError::Short(0));
        assert_eq!(read(&control(7, 1300)[..11]), ControlFileError::Short(11));
        assert_eq!(read(&control(7, 1300u32.swap_bytes())), ControlFileError::Version(1300u32.swap_bytes()));
        assert_eq!(read(&[0; 8192]), ControlFileError::Version(0));
        assert_eq!(read(&control(0, 1300)), ControlFileError::NoSystem);
    }
}
