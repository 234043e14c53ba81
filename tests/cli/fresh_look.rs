//! Lookups in an archive directory that make a network file system ask its server. `scripts/test nfs` shows that it
//! then does.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::path::Path;

use support::{
    data_directory::SEGMENT,
    push::{pusher_with_archived_segment, succeeds},
    ready::{name, pusher_with},
    restore::Scene,
    strace::{Call, trace_calls},
};

/// System calls that look up names.
const LOOKS: &str = "statx,openat";

/// Asserts that each directory from `root` to that of `file` is compared with the server's, in that order, before the
/// call that decides, which `decides` recognizes.
fn is_fresh(calls: &[Call], root: &Path, file: &Path, decides: impl Fn(&Call) -> bool) {
    let deciding = calls.iter().rfind(|call| decides(call)).unwrap();
    let mut way: Vec<&Path> = file.ancestors().skip(1).take_while(|above| above.starts_with(root)).collect();
    way.reverse();
    assert_eq!(way.len(), 4, "{way:?}");
    let mut before: Option<&Call> = None;
    for directory in way {
        let is_next = |call: &&Call| {
            call.compares(directory)
                && call.is_before(deciding)
                && before.is_none_or(|before| before.is_before(call))
        };
        let compared = calls.iter().find(is_next);
        assert!(compared.is_some(), "{} is not compared: {calls:#?}", directory.display());
        before = compared;
    }
}

#[test]
fn a_segment_is_absent_only_after_the_server_was_asked_for_every_directory() {
    let (scene, _) = Scene::with_segment();
    let absent = name(2);
    let command = scene.restore(&scene.recovery, &absent);
    let (outcome, calls) = trace_calls(LOOKS, &scene.sandbox, &command);
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    let file = scene.file(&absent);
    is_fresh(&calls, Path::new(scene.archive.url()), &file, |call| {
        call.name == "statx" && call.path() == Some(&file)
    });
}

#[test]
fn a_name_is_taken_only_after_the_server_was_asked_for_every_directory() {
    let (pusher, _) = pusher_with_archived_segment();
    let (outcome, calls) = trace_calls(LOOKS, &pusher.sandbox, &pusher.push(SEGMENT));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let file = pusher.file(SEGMENT);
    let first = calls.iter().position(|call| call.opens(&file)).unwrap();
    is_fresh(&calls[..=first], Path::new(pusher.archive.url()), &file, |call| call.opens(&file));
}

#[test]
fn an_acknowledged_file_counts_only_after_the_server_was_asked_for_every_directory() {
    let pusher = pusher_with([1, 2]);
    succeeds(pusher.push(&name(1)));
    let file = pusher.file(&name(2));
    assert!(file.exists(), "it is taken along");
    let (outcome, calls) = trace_calls(LOOKS, &pusher.sandbox, &pusher.push(&name(2)));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let first = calls.iter().position(|call| call.opens(&file)).unwrap();
    is_fresh(&calls[..=first], Path::new(pusher.archive.url()), &file, |call| call.opens(&file));
}
