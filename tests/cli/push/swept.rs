//! A push whose staging file is deleted in between continues: with a wrong clock, a prune takes it for a leftover of
//! the day before.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use support::{
    data_directory::SEGMENT,
    files::names_in,
    push::Pusher,
    running::{Outcome, Running},
    wait_until,
    wrapper::wrapped,
};

#[test]
fn a_vanished_staging_file_is_staged_again_by_the_same_call() {
    let pusher = Pusher::new();
    let content = pusher.data.segment(SEGMENT, 0);
    let mut strace = pusher.sandbox.command("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=link,linkat"]);
    // Long enough to find the staging file; each attempt pauses for it.
    strace.args(["-e", "inject=link,linkat:delay_enter=700000"]);
    let mut push = wrapped(strace, &pusher.push(SEGMENT));
    push.env_remove("LD_LIBRARY_PATH");
    let push = Running::start(push);
    let staged = pusher.file(SEGMENT).with_file_name(format!("{SEGMENT}#1"));
    wait_until("the file is staged", || fs::remove_file(&staged).is_ok());
    let Outcome { status, stderr } = push.end();
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(names_in(pusher.file(SEGMENT).parent().unwrap()), [SEGMENT]);
    assert!(pusher.original(SEGMENT) == content);
}
