//! Pages and records of segments: whatever their bytes, the same is found however they are cut, and places stay in the segment.

use walkeep_core::wal::{LONG_HEADER_BYTES, LongPageHeader, Pages, RecordWalk, SegmentName};

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    let Some((cut, segment)) = data.split_first_chunk::<2>() else { return };
    let cut = usize::from(u16::from_le_bytes(*cut)).min(segment.len());
    let Ok(first) = LongPageHeader::parse(segment) else { return };
    assert!(segment.len() >= LONG_HEADER_BYTES);
    assert!(first.page_size.is_power_of_two());
    let Some(name) = SegmentName::containing(first.timeline, first.address, first.segment_size) else {
        return;
    };
    // Nothing goes on to look at pages before the first one is known to be that of the segment.
    if first.check(name, first.segment_size.bytes()).is_err() {
        return;
    }
    let segment =
        &segment[..segment.len().min(usize::try_from(first.segment_size.bytes()).unwrap_or_default())];

    let mut whole = Pages::of(&first, name);
    whole.feed(segment);
    let mut parts = Pages::of(&first, name);
    let (front, back) = segment.split_at(cut.min(segment.len()));
    parts.feed(front);
    let early = parts.fault();
    parts.feed(back);
    assert_eq!(whole.fault(), parts.fault());
    assert!(early.is_none() || early == whole.fault(), "the first fault stays the first");
    if let Some(fault) = whole.fault() {
        let at = fault.begins_at().0 - first.address.0;
        assert!(at < segment.len() as u64 && at.is_multiple_of(u64::from(first.page_size)), "{fault}");
    }

    let Some(mut walk) = RecordWalk::new(segment, name.timeline()) else { return };
    assert_eq!(walk.page_bytes(), first.page_size as usize);
    for page in segment.chunks_exact(walk.page_bytes()) {
        let ended = walk.has_ended();
        let end = walk.end();
        walk.page(page);
        assert!(!ended || (walk.has_ended() && walk.end() == end), "{end:?}, then {:?}", walk.end());
    }
}
