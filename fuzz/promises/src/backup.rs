//! Backup history files and backup labels: both tell the same start, a label misleads neither, and `pg_control` is read in bounds.

use walkeep_core::wal::{
    BackupHistory, BackupHistoryError, BackupLabel, SegmentSize, control_file_says_recovery,
    recovery_end_of_control_file, restart_point_of_control_file, segment_size_of_control_file,
    system_identifier_of_control_file,
};

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    control(data);
    let label = BackupLabel::parse(data);
    let Ok(label) = label else {
        if let Ok(any) = "000000010000000000000001".parse() {
            assert_eq!(
                BackupHistory::parse(any, data),
                Err(BackupHistoryError::NoStart),
                "no start for one, none for the other"
            );
        }
        return;
    };
    assert!(label.begins_with(label.start_segment, SegmentSize::DEFAULT));
    let Ok(history) = BackupHistory::parse(label.start_segment, data) else { return };
    assert_eq!((history.wal.start, history.wal.start_segment), (label.start, label.start_segment));
    // Whatever a label says, it comes after what counts.
    let text = String::from_utf8_lossy(data);
    let Some((before, _)) = text.split_once("\nLABEL: ") else { return };
    let misled = format!(
        "{before}\nLABEL: x\nSTART WAL LOCATION: 0/9C00028 (file 00000001000000000000009C)\n\
         STOP WAL LOCATION: 0/9C00028 (file 00000001000000000000009C)\nSTOP TIME: 1\n"
    );
    let misled = BackupHistory::parse(label.start_segment, misled.as_bytes());
    assert_eq!(
        misled.map(|found| (found.wal.start, found.wal.end)),
        Ok((history.wal.start, history.wal.end))
    );
}

fn control(bytes: &[u8]) {
    let system = system_identifier_of_control_file(bytes);
    assert!(system.is_ok() || bytes.len() < 12 || !control_file_says_recovery(bytes) || bytes[..8] == [0; 8]);
    if let Some((_, position)) = restart_point_of_control_file(bytes) {
        assert_ne!(position.0, 0);
    }
    if recovery_end_of_control_file(bytes).is_some() {
        assert!(control_file_says_recovery(bytes));
    }
    if let Some(size) = segment_size_of_control_file(bytes) {
        assert!(size.bytes().is_power_of_two());
    }
}
