//! Names, positions, page headers, records and text files of PostgreSQL's write-ahead log (WAL).
//!
//! All functions are pure: they take bytes and strings and return values, without access to files, clock or
//! environment.

mod backup;
mod control;
mod history;
mod lsn;
mod manifest;
mod name;
mod page;
mod pages;
mod record_walk;
mod segment;
mod system;
mod system_name;
mod timeline;

pub use backup::{BackupHistory, BackupHistoryError, BackupLabel, BackupWal};
pub use control::{
    CONTROL_FILE_BYTES, ControlFileError, control_file_says_production, control_file_says_recovery,
    recovery_end_of_control_file, restart_point_of_control_file, segment_size_of_control_file,
    system_identifier_of_control_file,
};
pub use history::{Ancestor, HistoryError, TimelineHistory};
pub use lsn::{Lsn, ParseLsnError};
pub use manifest::BackupManifest;
pub use name::{NameError, WalName};
pub use page::{LONG_HEADER_BYTES, LongPageHeader, PageError, WalMagic};
pub use pages::{PageFault, Pages};
pub use record_walk::{RecordWalk, RecordsEnd};
pub use segment::{SegmentName, SegmentSize, SegmentSizeError};
pub use system::{ParseSystemIdentifierError, SystemIdentifier};
pub use system_name::{SystemChoice, SystemChoiceError, SystemName, SystemNameError, SystemNames};
pub use timeline::TimelineId;

/// Parses 1 to `max_digits` hexadecimal digits. Unlike `from_str_radix`, it accepts no sign.
fn parse_hex(text: &str, max_digits: usize) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= max_digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    if plain { u64::from_str_radix(text, 16).ok() } else { None }
}

/// Parses exactly eight upper-case hexadecimal digits, the unit of all WAL file names.
fn parse_name_field(text: &str) -> Option<u32> {
    let strict = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    if strict { u32::from_str_radix(text, 16).ok() } else { None }
}
