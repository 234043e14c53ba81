//! An archive whose every timeline is given up: `walkeep verify` says so, instead of nothing.

use support::{
    data_directory::SEGMENT,
    push::{Pusher, succeeds},
    store_cluster::CallOutput,
};

#[test]
fn an_archive_whose_every_timeline_is_given_up_is_a_failure() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    let verify = |given_up: &[&str]| {
        let mut verify = pusher.sandbox.walkeep();
        verify.args(["verify", "--archive", pusher.archive.url()]).args(given_up);
        CallOutput::of(verify)
    };
    assert_eq!(verify(&[]).status, 0);
    let output = verify(&["--give-up-timeline", "1"]);
    assert_eq!(output.status, 1, "{}", output.text());
    assert!(output.text().contains("every timeline in the archive is given up: 1"), "{}", output.text());
}
