//! `walkeep backfill` into an object store: few requests, several files at a time, and failures of the store.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::process::{Command, Stdio};

use rustix::process::Signal;
use support::{
    kept::name,
    push::{HISTORY, SYSTEM, succeeds},
    running::{Outcome, Running},
    store::fault::{Fault, Matching},
    store_cluster::CallOutput,
    store_scene::StoreScene,
    wait_until,
    wal_writer::WalWriter,
};

/// Number of full segments. An incomplete one follows.
const FULL: u64 = 12;

/// Creates a store that has the second of a server's segments.
fn scene() -> StoreScene {
    let scene = StoreScene::with_conditional_put("yes");
    let mut wal = WalWriter::new(SYSTEM, 1, 1, 1 << 20);
    (0..FULL).for_each(|_| wal.fill());
    wal.record(100);
    for (segment, number) in wal.segments().iter().zip(1..) {
        scene.primary.file(&format!("pg_wal/{}", name(1, number)), segment);
    }
    scene.primary.file(&format!("pg_wal/{HISTORY}"), "1\t0/D00000\tno recovery target specified\n");
    succeeds(scene.push(&name(1, 2)));
    scene.store.forget_requests();
    scene
}

fn backfill(scene: &StoreScene, options: &[&str]) -> Command {
    let mut command = scene.command(&scene.primary, scene.sandbox.walkeep());
    command.args(["backfill", "--pgdata"]).arg(scene.primary.join("")).args(options);
    command
}

/// Returns the numbers of listings, and of objects that the store was asked for or received.
fn asked(scene: &StoreScene) -> (usize, usize) {
    let requests = scene.store.requests();
    let listings =
        requests.iter().filter(|request| request.query.as_deref().unwrap_or("").contains("list-type"));
    (listings.count(), requests.iter().filter(|request| request.path.contains("main/")).count())
}

#[test]
fn missing_files_are_found_with_one_listing_per_directory_and_sent_once() {
    let scene = scene();
    let would = CallOutput::of(backfill(&scene, &["--dry-run"]));
    // Two listings: of the segments and of the history files.
    // The one segment that both have is compared.
    assert_eq!((asked(&scene), scene.store.requests().len()), ((2, 1), 3));
    scene.store.forget_requests();
    let done = CallOutput::of(backfill(&scene, &[]));
    assert_eq!((done.status, done.stderr.as_str()), (0, ""));
    assert_eq!(would.text().replace("would archive", "archived"), done.text());
    assert_eq!(asked(&scene), (2, 13));
    let archived: Vec<_> = done.text().lines().take(12).map(str::to_owned).collect();
    let expected = [HISTORY.to_owned()].into_iter().chain((1..=FULL).filter(|n| *n != 2).map(|n| name(1, n)));
    assert_eq!(archived, expected.map(|name| format!("archived {name}")).collect::<Vec<_>>(), "in order");
    for number in 1..=FULL {
        let content = std::fs::read(scene.primary.join(&format!("pg_wal/{}", name(1, number)))).unwrap();
        assert!(scene.original(&name(1, number)) == content, "{number}");
    }
    assert_eq!(scene.stored(&name(1, FULL + 1)), None);
}

#[test]
fn temporary_failures_are_retried_and_a_refusal_stops_it() {
    for fault in [Fault::Answer { status: 503, code: "SlowDown", message: "Slow down." }, Fault::AnswerLost] {
        let scene = scene();
        scene.store.break_times(3, Matching::Puts, fault.clone());
        let output = CallOutput::of(backfill(&scene, &[]));
        assert_eq!(output.status, 0, "{fault:?}: {}", output.text());
        assert!((1..=FULL).all(|number| scene.stored(&name(1, number)).is_some()), "{fault:?}");
    }
    let scene = scene();
    let fault = Fault::Answer { status: 403, code: "AccessDenied", message: "Access Denied" };
    scene.store.break_with(Matching::Puts, fault);
    let output = CallOutput::of(backfill(&scene, &[]));
    assert_eq!(output.status, 2, "{}", output.text());
    assert!(
        output.stderr.contains("cannot archive ") && output.stderr.contains("AccessDenied"),
        "{}",
        output.stderr
    );
    assert!(output.text().contains("12 not archived"), "{}", output.text());
}

#[test]
fn a_prefix_without_files_of_this_cluster_receives_nothing() {
    let mut scene = scene();
    scene.set("WALKEEP_TIMEOUT", "1s");
    let mut command = backfill(&scene, &["--archive", "s3://wal/mian"]);
    command.env_remove("WALKEEP_ARCHIVE");
    CallOutput::of(command)
        .is_error(1, &["s3://wal/mian", "holds no file of system", "this cluster's archive"]);
    assert_eq!(asked(&scene).1, 0);
}

#[test]
fn a_signal_stops_it_despite_a_hanging_store_and_the_rest_is_listed() {
    let scene = scene();
    scene.store.break_with(Matching::Puts, Fault::Hang);
    let mut command = backfill(&scene, &[]);
    command.stdout(Stdio::null());
    let running = Running::start(command);
    wait_until("files are on their way", || asked(&scene).1 > 1);
    running.signal(Signal::TERM);
    let Outcome { status, stderr } = running.end();
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.contains("stopped with 12 files not archived, 00000002.history the first"), "{stderr}");
}
