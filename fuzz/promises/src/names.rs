//! Names: what parses prints as it was, and is of one kind; nothing else passes for a name.

use walkeep_core::wal::{Lsn, SegmentSize, SystemIdentifier, WalName};

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = text.parse::<WalName>() {
        assert_eq!(name.to_string(), text, "one spelling a name");
        assert_eq!(name.archiving_order().1, text);
        if let Some(segment) = name.segment() {
            assert!(text.starts_with(&segment.to_string()));
            assert_eq!(segment.timeline(), name.timeline());
            check_places(segment);
        }
    }
    if let Ok(position) = text.parse::<Lsn>() {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
    if let Ok(system) = text.parse::<SystemIdentifier>() {
        assert_eq!(system.to_string().parse(), Ok(system));
    }
}

/// A segment is where its name says, whatever the size of segments.
fn check_places(segment: walkeep_core::wal::SegmentName) {
    for exponent in 20..=30 {
        let Ok(size) = SegmentSize::new(1 << exponent) else { panic!("2^{exponent} is a size") };
        let Some(number) = segment.number(size) else { continue };
        let back = walkeep_core::wal::SegmentName::from_number(segment.timeline(), number, size);
        assert_eq!(back, Some(segment));
        let Some(start) = segment.start(size) else { panic!("{segment} has a number and no place") };
        let there = walkeep_core::wal::SegmentName::containing(segment.timeline(), start, size);
        assert_eq!(there, Some(segment));
        if let Some(next) = segment.next(size) {
            assert!(next > segment && next.number(size) == Some(number + 1));
        }
    }
}
