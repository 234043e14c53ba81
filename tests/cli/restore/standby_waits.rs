//! Waits of a standby's calls: for brief failures to pass, once for an archive that hangs, and for anything that
//! moves. No answer depends on notes of earlier calls.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use support::{
    data_directory::SEGMENT,
    push::files_below,
    restore::{Scene, TARGET},
    running::{Outcome, Running, outcome_of},
    store::{
        dead_end::DeadEnd,
        fault::{Fault, Matching::Any},
    },
    store_scene::{StoreScene, at_once},
    strace::{end_of_hanging, hanging_at},
};

/// Half of the time of a call that waits until its time limit, and much more than one that does not.
const SOON: Duration = Duration::from_secs(15);

const BUSY: Fault = Fault::Answer { status: 503, code: "SlowDown", message: "Please reduce" };

/// Creates a store with a segment, and sets only the time after which it counts as hanging.
fn scene(read_timeout: &str) -> (StoreScene, Vec<u8>) {
    let (mut scene, content) = StoreScene::with_segment();
    scene.set("AWS_READ_TIMEOUT", read_timeout);
    (scene, content)
}

fn call(scene: &StoreScene) -> Outcome {
    outcome_of(scene.restore(&scene.standby, SEGMENT))
}

/// Asserts that a restore on the standby succeeds.
fn restores(scene: &StoreScene, content: &[u8]) {
    let Outcome { status, stderr } = call(scene);
    assert_eq!(status, 0, "{stderr}");
    let target = scene.standby.join(TARGET);
    assert!(fs::read(&target).unwrap() == content);
    fs::remove_file(target).unwrap();
}

/// Asserts that a call on the standby reports a hanging store after that many seconds.
fn hangs(scene: &StoreScene, seconds: u32) {
    let Outcome { status, stderr } = call(scene);
    let words = format!("nothing was sent or received for {seconds} seconds");
    assert_eq!(status, 75, "{stderr}");
    assert!(stderr.contains(&words) && stderr.lines().count() == 1, "{seconds}: {stderr}");
}

/// Returns the note on a hanging archive.
fn note(spool: &Path) -> Option<PathBuf> {
    let notes: Vec<_> = files_below(spool).into_iter().filter(|file| file.contains(".note")).collect();
    assert!(notes.len() < 2, "{notes:?}");
    notes.first().map(|note| spool.join(note))
}

#[test]
fn an_unavailable_archive_delays_a_standby_only_briefly() {
    let refused = DeadEnd::refused();
    let refusing = || {
        let (mut scene, _) = scene("10s");
        scene.move_to(&refused.http());
        call(&scene)
    };
    let resetting = || {
        let (scene, _) = scene("10s");
        scene.store.break_with(Any, Fault::ResetBeforeReading);
        call(&scene)
    };
    let busy = || {
        let (scene, _) = scene("10s");
        scene.store.break_with(Any, BUSY);
        call(&scene)
    };
    let missing = || {
        let (scene, _) = Scene::with_segment();
        scene.archive.vanish();
        let mut command = scene.standby.run(scene.sandbox.walkeep_restore());
        command.args(["--archive", scene.archive.url(), SEGMENT, TARGET]);
        outcome_of(command)
    };
    let cases: [&(dyn Fn() -> Outcome + Sync); 4] = [&refusing, &resetting, &busy, &missing];
    at_once(&cases, |case| {
        let started = Instant::now();
        let Outcome { status, stderr } = case();
        assert_eq!(status, 75, "{stderr}");
        assert!(started.elapsed() < SOON, "{:?}: {stderr}", started.elapsed());
        assert!(stderr.contains("trying again for up to 2s"), "{stderr}");
    });
}

#[test]
fn brief_failures_are_waited_out() {
    let (scene, content) = scene("10s");
    for fault in [BUSY, Fault::ResetBeforeReading, Fault::CutBody(500)] {
        scene.store.break_times(2, Any, fault);
        restores(&scene, &content);
        scene.store.heal();
    }
}

#[test]
fn a_store_that_hangs_is_waited_for_once_and_asked_by_every_call() {
    let (scene, content) = scene("4s");
    scene.store.break_with(Any, Fault::Hang);
    hangs(&scene, 4);
    scene.store.forget_requests();
    for _ in 0..2 {
        hangs(&scene, 2);
    }
    assert_eq!(scene.store.requests().len(), 2, "each call has asked");
    scene.store.heal();
    restores(&scene, &content);
    assert_eq!(note(&scene.sandbox.join("spool")), None, "success clears it");
    scene.store.break_with(Any, Fault::Hang);
    hangs(&scene, 4);
}

#[test]
fn a_note_counts_for_one_run_of_the_server_and_half_a_minute() {
    let (scene, _) = scene("4s");
    let spool = || scene.sandbox.join("spool");
    let lock = |started: u32| scene.standby.file("postmaster.pid", format!("17\n/data\n{started}\n"));
    lock(1_700_000_000);
    scene.store.break_with(Any, Fault::Hang);
    hangs(&scene, 4);
    // The next run of the server.
    lock(1_700_000_001);
    hangs(&scene, 4);
    hangs(&scene, 2);
    // A call that waits less does not renew the note. Otherwise a merely slow store would starve the standby.
    let noted = note(&spool()).unwrap();
    let written = SystemTime::now() - Duration::from_secs(29);
    File::options().write(true).open(&noted).unwrap().set_modified(written).unwrap();
    hangs(&scene, 2);
    assert_eq!(fs::metadata(&noted).unwrap().modified().unwrap(), written);
    std::thread::sleep(Duration::from_secs(1));
    hangs(&scene, 4);
    fs::remove_dir_all(spool()).unwrap();
    hangs(&scene, 4);
}

#[test]
fn a_failure_that_is_an_answer_leaves_no_note() {
    let (scene, _) = scene("4s");
    for fault in [BUSY, Fault::ResetBeforeReading] {
        scene.store.break_with(Any, fault);
        assert_eq!(call(&scene).status, 75);
        assert_eq!(note(&scene.sandbox.join("spool")), None);
        scene.store.heal();
    }
}

#[test]
fn recovery_waits_for_its_full_time_despite_any_note() {
    let (scene, content) = scene("3s");
    scene.recovery.file("standby.signal", "");
    scene.store.break_with(Any, Fault::Hang);
    assert_eq!(outcome_of(scene.restore(&scene.recovery, SEGMENT)).status, 75);
    fs::remove_file(scene.recovery.join("standby.signal")).unwrap();
    scene.store.heal();
    scene.store.break_times(2, Any, Fault::Hang);
    let restored = scene.restored(SEGMENT, "nothing was sent or received for 3 seconds");
    assert!(restored == content);
}

#[test]
fn a_directory_that_hangs_is_waited_for_once() {
    let (scene, _) = Scene::with_segment();
    for seconds in [10, 2] {
        let mut command = scene.standby.run(scene.sandbox.walkeep_restore());
        command.args(["--archive", scene.archive.url(), SEGMENT, TARGET]);
        let hanging = hanging_at(&scene.file(SEGMENT), &scene.sandbox, &command);
        let Outcome { status, stderr } = end_of_hanging(Running::start(hanging));
        assert_eq!(status, 75, "{stderr}");
        assert!(stderr.contains(&format!("has not moved for {seconds} seconds")), "{stderr}");
    }
}
