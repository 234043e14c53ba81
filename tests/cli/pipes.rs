//! Pipes, sockets, devices and directories where files are expected: nothing waits for them, and what they are is said.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::{
    data_directory::{DataDirectory, SEGMENT},
    files::make_fifo,
    push::{BACKUP, HISTORY, fails, succeeds},
    ready::{name, pusher_with},
    restore::{SYSTEM, Scene, TARGET},
    running::{Outcome, Running, outcome_of},
    user,
};

/// Much more than a busy machine needs, and less than the calls would be allowed to wait.
const PROMPTLY: Duration = Duration::from_secs(20);

type Make = fn(&Path);

/// What may be under a file's name, and what it is called.
const KINDS: [(Make, &str); 4] = [
    (make_fifo, "it is a named pipe, not a regular file"),
    (make_socket, "it is a socket, not a regular file"),
    (link_to_device, "it is a device, not a regular file"),
    (make_directory, "it is a directory, not a regular file"),
];

fn make_socket(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    user::hand_over(path);
}

fn link_to_device(path: &Path) {
    symlink("/dev/zero", path).unwrap();
}

fn make_directory(path: &Path) {
    fs::create_dir(path).unwrap();
    user::hand_over(path);
}

/// Returns a call of each program that reads the file, with its exit status on failure.
fn calls(scene: &Scene, name: &str) -> [(Command, i32); 4] {
    let with = |mut command: Command, rest: &[&str]| {
        command.args(rest).args(["--archive", scene.archive.url(), "--timeout", "1m"]);
        command.args(["--system-identifier", &SYSTEM.to_string()]).stdout(Stdio::null());
        command
    };
    [
        (with(scene.primary.run(scene.sandbox.walkeep_archive()), &[&format!("pg_wal/{name}")]), 3),
        (with(scene.recovery.run(scene.sandbox.walkeep_restore()), &[name, TARGET]), 255),
        (with(scene.standby.run(scene.sandbox.walkeep_restore()), &[name, TARGET]), 75),
        (with(scene.sandbox.walkeep(), &["cat", name]), 1),
    ]
}

/// Creates an archive with a file of each kind.
fn scene() -> Scene {
    let (scene, _) = Scene::with_segment();
    for (name, content) in
        [(HISTORY, support::push::HISTORY_CONTENT), (BACKUP, support::push::BACKUP_CONTENT)]
    {
        scene.primary.file(&format!("pg_wal/{name}"), content);
        scene.push(&scene.primary, name);
    }
    scene
}

#[test]
fn what_lies_under_an_archived_name_and_is_no_file_is_refused_at_once_and_named() {
    for name in [SEGMENT, HISTORY, BACKUP] {
        for (make, said) in KINDS {
            let scene = scene();
            let file = scene.file(name);
            fs::remove_file(&file).unwrap();
            make(&file);
            let started = Instant::now();
            let running = calls(&scene, name).map(|(call, status)| (Running::start(call), status));
            for (running, status) in running {
                let Outcome { status: ended, stderr } = running.end();
                assert_eq!((ended, stderr.lines().count()), (status, 1), "{name}, {said}: {stderr}");
                assert!(stderr.contains(file.to_str().unwrap()) && stderr.contains(said), "{stderr}");
                assert!(stderr.contains(" away, and"), "{stderr}");
            }
            assert!(started.elapsed() < PROMPTLY, "{name}, {said}: {:?}", started.elapsed());
            assert!(fs::symlink_metadata(&file).is_ok(), "it is left alone");
        }
    }
}

#[test]
fn a_pipe_under_the_name_of_one_segment_does_not_keep_others_from_being_archived() {
    let pusher = pusher_with(1..=4);
    succeeds(pusher.push(&name(1)));
    fs::remove_file(pusher.file(&name(3))).unwrap();
    make_fifo(&pusher.file(&name(3)));
    let started = Instant::now();
    succeeds(pusher.push(&name(2)));
    fails(3, pusher.push(&name(3)), &["it is a named pipe"]);
    succeeds(pusher.push(&name(4)));
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
}

#[test]
fn a_pipe_in_a_data_directory_is_not_waited_for() {
    let (scene, _) = Scene::with_segment();
    for file in ["postmaster.pid", "PG_VERSION", "backup_label", "postmaster.opts", "postgresql.auto.conf"] {
        let data = DataDirectory::new(&scene.sandbox, &format!("with-{file}"), SYSTEM);
        data.file("standby.signal", "");
        let _ = fs::remove_file(data.join(file));
        make_fifo(&data.join(file));
        let started = Instant::now();
        let mut restore = data.run(scene.sandbox.walkeep_restore());
        restore.args(["--archive", scene.archive.url(), "--timeout", "1m", SEGMENT, TARGET]);
        let Outcome { status, stderr } = outcome_of(restore);
        assert_eq!(status, 0, "{file}: {stderr}");
        for command in ["status", "check", "backfill"] {
            let mut call = scene.sandbox.walkeep();
            call.args([command, "--archive", scene.archive.url(), "--timeout", "1m", "--pgdata"]);
            call.arg(data.join("")).stdout(Stdio::null());
            let Outcome { stderr, .. } = outcome_of(call);
            assert!(!stderr.contains("gave up"), "{command}, {file}: {stderr}");
        }
        assert!(started.elapsed() < PROMPTLY, "{file}: {:?}", started.elapsed());
    }
}

#[test]
fn a_pipe_as_a_control_file_is_named() {
    let (scene, _) = Scene::with_segment();
    fs::remove_file(scene.standby.join("global/pg_control")).unwrap();
    make_fifo(&scene.standby.join("global/pg_control"));
    let started = Instant::now();
    let mut restore = scene.standby.run(scene.sandbox.walkeep_restore());
    restore.args(["--archive", scene.archive.url(), "--timeout", "1m", SEGMENT, TARGET]);
    let Outcome { status, stderr } = outcome_of(restore);
    assert_eq!(status, 75, "{stderr}");
    assert!(stderr.contains("global/pg_control: it is a named pipe"), "{stderr}");
    assert!(started.elapsed() < PROMPTLY, "{:?}", started.elapsed());
}
