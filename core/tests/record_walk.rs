//! Search for the end of records, by the bytes of a segment alone, whatever else they contain.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

/// The writer that the tests of the programs use as well.
#[path = "../../support/src/wal_writer.rs"]
#[allow(clippy::must_use_candidate, clippy::missing_panics_doc, reason = "of tests")]
pub mod wal_writer;

use proptest::prelude::*;
use wal_writer::WalWriter;
use walkeep_core::wal::{Lsn, RecordWalk, RecordsEnd, TimelineId};

const SYSTEM: u64 = 7_381_092_445_103_374_871;
const MIB: usize = 1 << 20;
const PAGE: usize = 8192;
/// Number of the first segment in a test.
const NUMBER: u64 = 5;

fn wal() -> WalWriter {
    WalWriter::new(SYSTEM, 1, NUMBER, MIB as u64)
}

/// Returns the end of the records in the last of these consecutive segments.
fn end_of_all(segments: &[&[u8]], timeline: u32) -> RecordsEnd {
    let mut walk = RecordWalk::new(segments[0], TimelineId::new(timeline).unwrap()).unwrap();
    for page in segments.iter().flat_map(|segment| segment.chunks(PAGE)) {
        walk.page(page);
    }
    walk.end()
}

fn end_of(segment: &[u8]) -> RecordsEnd {
    end_of_all(&[segment], 1)
}

fn is_complete(end: RecordsEnd) -> bool {
    matches!(end, RecordsEnd::Switch | RecordsEnd::End)
}

/// Builds one segment that records fill to its end, the first ones with these sizes.
fn filled(bodies: &[usize]) -> Vec<u8> {
    let mut wal = wal();
    wal.records(bodies);
    wal.fill();
    wal.segments().remove(0)
}

#[test]
fn a_segment_that_a_switch_ends_or_records_fill_is_complete() {
    assert_eq!(end_of(&filled(&[])), RecordsEnd::End);
    assert_eq!(end_of(&filled(&[1, 40_000, 7])), RecordsEnd::End);
    for with_page_headers in [false, true] {
        let mut wal = wal();
        wal.record(100);
        wal.record(20_000);
        wal.switch(with_page_headers);
        assert_eq!(end_of(&wal.segments()[0]), RecordsEnd::Switch, "page headers: {with_page_headers}");
    }
}

#[test]
fn a_walk_says_the_size_of_a_page_and_once_no_page_can_change_the_result() {
    let mut segment = filled(&[]);
    segment[3 * PAGE..4 * PAGE].fill(0);
    let mut walk = RecordWalk::new(&segment, TimelineId::FIRST).unwrap();
    assert_eq!(walk.page_bytes(), PAGE);
    let ended: Vec<bool> = segment
        .chunks(PAGE)
        .take(5)
        .map(|page| {
            walk.page(page);
            walk.has_ended()
        })
        .collect();
    assert_eq!(ended, [false, false, false, true, true]);
}

#[test]
fn the_last_page_proves_nothing() {
    let mut wal = wal();
    wal.record(100);
    let begun = wal.record(2 * MIB);
    wal.switch(false);
    let segments = wal.segments();
    let whole: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
    assert_eq!(end_of(whole[0]), RecordsEnd::GoesOn(Lsn(begun)));
    // The segment is one part of a record, which only later segments can verify.
    assert_eq!(end_of(whole[1]), RecordsEnd::Unproven);
    assert_eq!(end_of_all(&whole[..2], 1), RecordsEnd::GoesOn(Lsn(begun)));
    assert_eq!(end_of_all(&whole, 1), RecordsEnd::Switch);
    // Only an earlier record could prove that the switch is not a leftover.
    assert_eq!(end_of(whole[2]), RecordsEnd::Unproven);
}

#[test]
fn a_record_cut_off_in_a_segment_is_the_end_wherever_it_began() {
    let mut wal = wal();
    wal.record(100);
    wal.record(2 * MIB);
    let start = NUMBER * MIB as u64;
    let cut = 10 * PAGE;
    let mut first = WalWriter::new(SYSTEM, 1, NUMBER, MIB as u64);
    first.record(2 * MIB);
    for (segment, at) in
        [(&wal.segments()[1], start + (MIB + cut) as u64), (&first.segments()[0], start + 40)]
    {
        let mut damaged = segment.clone();
        damaged[cut..cut + PAGE].fill(0);
        assert_eq!(end_of(&damaged), RecordsEnd::Middle(Lsn(at)));
    }
    // The rest of a record, followed by zeros.
    let mut last = WalWriter::new(SYSTEM, 1, NUMBER, MIB as u64);
    last.record(MIB + 20_000);
    let end = last.position();
    assert_eq!(end_of(&last.segments()[1]), RecordsEnd::Middle(Lsn(end)));
}

#[test]
fn without_one_sound_record_nothing_but_zeros_proves_the_end() {
    let start = NUMBER * MIB as u64;
    let mut other_layout = filled(&[300]);
    other_layout[40 + 100] ^= 1;
    assert_eq!(end_of(&other_layout), RecordsEnd::Unproven);
    other_layout[PAGE..2 * PAGE].fill(0);
    assert_eq!(end_of(&other_layout), RecordsEnd::Unproven);
    let mut empty = filled(&[300]);
    empty[40..].fill(0);
    assert_eq!(end_of(&empty), RecordsEnd::Middle(Lsn(start + 40)));
}

#[test]
fn only_zeros_may_follow_a_switch() {
    let mut wal = wal();
    wal.record(100);
    let switch = wal.switch(false);
    let segment = wal.segments().remove(0);
    for at in [300, PAGE - 1, PAGE, MIB / 2, MIB - 1] {
        let mut changed = segment.clone();
        changed[at] ^= 1;
        assert_eq!(end_of(&changed), RecordsEnd::SwitchAndMore(Lsn(switch)), "{at}");
    }
}

#[test]
fn an_empty_page_after_a_switch_continues_and_replaces_no_record() {
    let mut wal = wal();
    wal.record(100);
    let switch = wal.switch(true);
    let segment = wal.segments().remove(0);
    for (at, bit) in [(2, 1), (2, 8), (16, 1)] {
        let mut changed = segment.clone();
        changed[3 * PAGE + at] ^= bit;
        assert_eq!(end_of(&changed), RecordsEnd::SwitchAndMore(Lsn(switch)), "byte {at}, {bit}");
    }
}

#[test]
fn only_zeros_may_fill_the_last_bytes_behind_a_record() {
    let mut wal = wal();
    let end = wal.position() + MIB as u64;
    while end - wal.position() > 4096 {
        wal.record(2024);
    }
    wal.record(usize::try_from(end - wal.position()).unwrap() - 24 - 3);
    let mut segment = wal.segments().remove(0);
    assert_eq!(end_of(&segment), RecordsEnd::End);
    segment[MIB - 1] = 1;
    assert_eq!(end_of(&segment), RecordsEnd::Middle(Lsn(end)));
}

#[test]
fn records_go_on_in_the_segment_after_a_switch() {
    let mut wal = wal();
    wal.record(100);
    wal.switch(false);
    wal.record(100);
    let middle = wal.position();
    let segments = wal.segments();
    assert_eq!(end_of_all(&[&segments[0], &segments[1]], 1), RecordsEnd::Middle(Lsn(middle)));
}

#[test]
fn a_page_that_does_not_continue_the_record_before_it_ends_the_records() {
    let start = NUMBER * MIB as u64;
    let changed = |segment: &[u8], page: usize, at: usize| {
        let mut changed = segment.to_vec();
        changed[page * PAGE + at] ^= 1;
        end_of(&changed)
    };
    // Bytes 2 and 16: whether a record goes on there, and with how many bytes.
    let mut wal = wal();
    wal.record(PAGE - 40 - 24);
    wal.record(100);
    let begun = wal.record(40_000);
    wal.record(2 * MIB);
    let segments = wal.segments();
    assert_eq!(changed(&segments[0], 1, 2), RecordsEnd::Middle(Lsn(start + PAGE as u64)));
    for at in [2, 16] {
        assert_eq!(changed(&segments[0], 3, at), RecordsEnd::Middle(Lsn(begun)), "byte {at}");
        let skipped = start + (MIB + 3 * PAGE) as u64;
        assert_eq!(changed(&segments[1], 3, at), RecordsEnd::Middle(Lsn(skipped)), "byte {at}");
    }
    // On the first page, nothing goes on with no bytes, and a number of bytes alone says nothing.
    let first = filled(&[]);
    assert_eq!((changed(&first, 0, 2), changed(&first, 0, 16)), (RecordsEnd::Unproven, RecordsEnd::End));
}

#[test]
fn a_record_that_a_crash_left_incomplete_is_skipped() {
    let mut wal = wal();
    wal.record(100);
    wal.break_off(20_000);
    wal.record(100);
    wal.switch(false);
    assert_eq!(end_of(&wal.segments()[0]), RecordsEnd::Switch);
}

#[test]
fn the_first_segment_of_a_timeline_starts_with_pages_of_its_parent() {
    let mut wal = wal();
    wal.record(30_000);
    wal.timeline = 3;
    wal.record(30_000);
    wal.switch(false);
    let segment = wal.segments().remove(0);
    assert_eq!(end_of_all(&[&segment], 3), RecordsEnd::Switch);
    assert!(!is_complete(end_of_all(&[&segment], 2)), "a page of a later timeline cannot be in it");
    wal.timeline = 2;
    wal.record(30_000);
    wal.switch(false);
    let segments = wal.segments();
    let both: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
    assert!(!is_complete(end_of_all(&both, 3)), "timelines never decrease");
}

/// Returns the same pages with content from an earlier use from byte `cut` on.
fn recycled(new: &[u8], old: &[u8], cut: usize) -> Vec<u8> {
    [&new[..cut], &old[cut..]].concat()
}

#[test]
fn old_content_of_a_recycled_file_does_not_continue_the_records() {
    let new = filled(&[]);
    let mut old_log = WalWriter::new(SYSTEM, 1, NUMBER - 3, MIB as u64);
    old_log.fill();
    let old = old_log.segments().remove(0);
    assert_eq!((end_of(&new), end_of(&old)), (RecordsEnd::End, RecordsEnd::End));
    let zeros = vec![0; MIB];
    // Cuts where pages, records and their headers end, and around these.
    let at_the_end = (MIB - PAGE..MIB).step_by(11);
    let cuts = (40..MIB).step_by(8191).chain((1..128).map(|page| page * PAGE)).chain(at_the_end);
    for cut in cuts {
        for other in [&old, &zeros] {
            let end = end_of(&recycled(&new, other, cut));
            // A few bytes of the old content may be the same.
            let same = recycled(&new, other, cut) == new;
            assert!(same || !is_complete(end), "{cut}: {end:?}");
        }
    }
}

#[test]
fn a_flipped_bit_ends_the_records() {
    let segment = filled(&[300, 12_000]);
    // The last four bytes of a page header are unused, even by the server.
    for at in (0..MIB).step_by(4093).filter(|at| *at > 40 && !(20..24).contains(&(at % PAGE))) {
        let mut changed = segment.clone();
        changed[at] ^= 0x10;
        assert!(!is_complete(end_of(&changed)), "{at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_of_any_size_are_followed_across_pages_and_segments(
        bodies in prop::collection::vec(prop_oneof![0usize..200, 8_000..9_000usize, 0..400_000usize], 1..12),
        with_page_headers: bool,
    ) {
        let mut wal = wal();
        wal.records(&bodies);
        let end = wal.position();
        // Two records, so that the second proves the first at any position.
        wal.record(10);
        wal.switch(with_page_headers);
        let segments = wal.segments();
        let all: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(end_of_all(&all, 1), RecordsEnd::Switch);
        // Without the part after the bodies, the records end there.
        let last = usize::try_from(end - NUMBER * MIB as u64).unwrap();
        let mut whole = segments.concat();
        whole[last.next_multiple_of(8)..].fill(0);
        let until: Vec<&[u8]> = whole.chunks(MIB).take(last.div_ceil(MIB)).collect();
        let found = end_of_all(&until, 1);
        if last.is_multiple_of(MIB) {
            prop_assert_eq!(found, RecordsEnd::End);
        } else {
            prop_assert_eq!(found, RecordsEnd::Middle(Lsn(end)));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        damage in prop::collection::vec((0..MIB, any::<u8>()), 1..200),
        pages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..4),
    ) {
        let mut segment = filled(&[5_000, 100]);
        for (at, byte) in damage {
            segment[at] = byte;
        }
        if let Some(mut walk) = RecordWalk::new(&segment, TimelineId::FIRST) {
            for page in segment.chunks(walk.page_bytes()).chain(pages.iter().map(Vec::as_slice)) {
                walk.page(page);
            }
            let _ = walk.end();
        }
    }
}
