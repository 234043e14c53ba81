//! Check of all pages of a segment: an order that no server writes is refused, leftovers are accepted, and a file
//! that changes while it is read is left to the next attempt.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, process::Command};

use support::{
    data_directory::{SEGMENT, SEGMENT_BYTES, long_header},
    push::{Pusher, SYSTEM, fails, succeeds},
    running::Running,
    wait_until,
    wrapper::wrapped,
};

const PAGE_BYTES: usize = 8192;
const PAGES: usize = SEGMENT_BYTES / PAGE_BYTES;

/// A segment of timeline 3, so that its pages may be of three timelines.
const CHILD: &str = "000000030000000000000001";
const NEXT: &str = "000000010000000000000002";

/// Kind of a page: of the segment, on that timeline; of an earlier use of the file; zeros.
#[derive(Clone, Copy)]
enum Page {
    Right(u32),
    Old,
    Zeros,
}
use Page::{Old, Right, Zeros};

/// Builds the segment `name` with these pages after the first; the last kind fills the rest.
fn segment(name: &str, pages: &[Page]) -> Vec<u8> {
    let mut content = long_header(name, SYSTEM, SEGMENT_BYTES as u64);
    let start = u64::from_ne_bytes(content[8..16].try_into().unwrap());
    content[4..8].copy_from_slice(&1u32.to_ne_bytes());
    content.resize(PAGE_BYTES, 0x5A);
    let rest = pages.iter().copied().chain(std::iter::repeat(*pages.last().unwrap()));
    for (number, page) in (1..PAGES as u64).zip(rest) {
        let address = start + number * PAGE_BYTES as u64;
        let header = match page {
            Right(timeline) => Some((timeline, address)),
            Old => Some((1, address + (4 << 20))),
            Zeros => None,
        };
        if let Some((timeline, address)) = header {
            content.extend(0xD110u16.to_ne_bytes());
            content.extend(0x0001u16.to_ne_bytes());
            content.extend(timeline.to_ne_bytes());
            content.extend(address.to_ne_bytes());
            content.resize(content.len() + 1000, 0x5A);
        }
        content.resize((usize::try_from(number).unwrap() + 1) * PAGE_BYTES, 0);
    }
    content
}

/// Returns pages in an order that no server writes, with words of the error.
fn impossible() -> [(Vec<Page>, &'static [&'static str]); 5] {
    [
        (vec![Right(1), Zeros, Right(1)], &["its page at 0/106000 is one of this segment", "0/104000"]),
        (vec![Right(1), Old, Zeros, Right(1)], &["its page at 0/108000 is one of this segment", "0/104000"]),
        (vec![Zeros; 100].into_iter().chain([Right(1)]).collect(), &["0/1CA000", "0/102000"]),
        (vec![Right(2), Right(1), Right(3)], &["its page at 0/104000 says timeline 1, after", "timeline 2"]),
        (vec![Right(1), Right(4)], &["its page at 0/104000 says timeline 4", CHILD, "of timeline 3"]),
    ]
}

#[test]
fn pages_in_an_order_that_no_server_writes_are_refused() {
    let pusher = Pusher::new();
    for (pages, words) in impossible() {
        pusher.data.file(&format!("pg_wal/{CHILD}"), segment(CHILD, &pages));
        let line = fails(4, pusher.push(CHILD), words);
        assert!(line.contains("not an acceptable WAL file") && line.contains("base backup"), "{line}");
        assert_eq!(pusher.files(), [""; 0]);
    }
}

#[test]
fn leftovers_after_the_last_page_are_accepted() {
    let pusher = Pusher::new();
    for pages in [
        vec![Right(1)],
        vec![Zeros],
        vec![Old],
        vec![Right(1), Right(2), Right(2), Right(3)],
        vec![Right(1), Zeros],
        vec![Right(1), Old],
        vec![Right(2), Old, Zeros, Old, Zeros],
    ] {
        let content = segment(CHILD, &pages);
        pusher.data.file(&format!("pg_wal/{CHILD}"), &content);
        succeeds(pusher.push(CHILD));
        assert!(pusher.original(CHILD) == content);
        fs::remove_file(pusher.file(CHILD)).unwrap();
    }
}

#[test]
fn leftovers_after_a_fork_and_in_a_partial_segment_are_accepted() {
    let pusher = Pusher::new();
    let partial = format!("{CHILD}.partial");
    // The last one is refused despite the fork: up to there, it belongs to this timeline.
    let after_two_pages = "3\t0/104000\tno recovery target specified\n";
    let after_one_page = "3\t0/102000\tno recovery target specified\n";
    for (pages, words) in impossible().into_iter().filter(|(pages, _)| matches!(pages[1], Zeros | Old)) {
        let content = segment(CHILD, &pages);
        for name in [CHILD, &partial] {
            pusher.data.file(&format!("pg_wal/{name}"), &content);
        }
        let gap = if words.contains(&"0/102000") { after_one_page } else { after_two_pages };
        succeeds(pusher.push(&partial));
        fs::remove_file(pusher.file(&partial)).unwrap();
        fails(4, pusher.push(CHILD), words);

        pusher.data.file("pg_wal/00000004.history", gap);
        for name in [CHILD, &partial] {
            succeeds(pusher.push(name));
            assert!(pusher.original(name) == content);
            fs::remove_file(pusher.file(name)).unwrap();
        }

        pusher.data.file("pg_wal/00000004.history", "3\t0/104FF0\tno recovery target specified\n");
        for name in [CHILD, &partial] {
            fails(4, pusher.push(name), words);
        }
        fs::remove_file(pusher.data.join("pg_wal/00000004.history")).unwrap();
    }
}

#[test]
fn an_additional_file_with_impossible_pages_is_left_to_its_own_call() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    fs::create_dir(pusher.data.join("pg_wal/archive_status")).unwrap();
    support::user::hand_over(&pusher.data.join("pg_wal/archive_status"));
    for name in [SEGMENT, NEXT] {
        pusher.data.file(&format!("pg_wal/archive_status/{name}.ready"), "");
    }
    pusher.data.file(&format!("pg_wal/{NEXT}"), segment(NEXT, &[Zeros, Right(1)]));
    succeeds(pusher.push(SEGMENT));
    assert!(pusher.file(SEGMENT).exists() && !pusher.file(NEXT).exists());
    fails(4, pusher.push(NEXT), &["its page at"]);
}

/// Returns the push of a segment that pauses once it has read a part of it.
fn held_while_it_reads(pusher: &Pusher) -> Command {
    let mut strace = pusher.sandbox.command("strace");
    strace.args(["-D", "-f", "-qq", "-y", "-o"]).arg(pusher.sandbox.join("reads")).args(["-P"]);
    strace.arg(pusher.data.join(&format!("pg_wal/{SEGMENT}")));
    strace.args(["-e", "trace=read", "-e", "inject=read:delay_exit=1500000:when=3"]);
    wrapped(strace, &pusher.push_with(&["--timeout", "60s"], SEGMENT))
}

#[test]
fn a_segment_that_changes_while_it_is_read_is_left_to_the_next_attempt() {
    for change in ["written", "renamed", "replaced"] {
        let pusher = Pusher::new();
        let content = segment(SEGMENT, &[Right(1)]);
        let path = pusher.data.file(&format!("pg_wal/{SEGMENT}"), &content);
        let reads = pusher.sandbox.join("reads");
        let call = Running::start(held_while_it_reads(&pusher));
        wait_until("a part has been read", || {
            fs::read_to_string(&reads).is_ok_and(|log| log.lines().count() >= 2)
        });
        // As the server recycles it: renamed, and written from its start.
        let new = segment("00000001000000000000000A", &[Right(1)]);
        match change {
            "written" => drop(pusher.data.file(&format!("pg_wal/{SEGMENT}"), &new)),
            "renamed" => fs::rename(&path, pusher.data.join("pg_wal/00000001000000000000000A")).unwrap(),
            _ => {
                fs::rename(&path, pusher.data.join("pg_wal/old")).unwrap();
                pusher.data.file(&format!("pg_wal/{SEGMENT}"), &content);
            }
        }
        let outcome = call.end();
        assert_eq!(outcome.status, 1, "{change}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(SEGMENT), "{change}: {}", outcome.stderr);
        assert_eq!(pusher.files(), [""; 0], "{change}");
        pusher.data.file(&format!("pg_wal/{SEGMENT}"), &content);
        succeeds(pusher.push(SEGMENT));
        assert!(pusher.original(SEGMENT) == content, "{change}");
    }
}
