//! Signals to a server's command have the same meaning from start to end, and meaningless ones end neither it nor the
//! prefetcher: a server that is the first process of a container takes that for a crash.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs::File, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, process::Command};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat},
    process::Signal,
};
use support::{
    data_directory::SEGMENT,
    prefetcher::{From, PrefetchScene, name},
    restore::{Scene, TARGET},
    running::Running,
    sandbox::Sandbox,
    store::fault::{Fault, Matching::Any},
    store_scene::StoreScene,
    wait_until,
    wrapper::in_shell,
};

/// Signals that end a process by default and mean nothing here.
const MEANINGLESS: [Signal; 8] = [
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::POWER,
];

/// Sends all meaningless signals.
fn send_all(send: impl Fn(Signal)) {
    MEANINGLESS.into_iter().for_each(send);
}

/// A configuration file whose reading the test controls.
struct Configuration(PathBuf);

impl Configuration {
    fn new(sandbox: &Sandbox) -> Self {
        let path = sandbox.join("configuration");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        Self(path)
    }

    /// Waits until a process reads it and blocks.
    fn wait_until_it_is_read(&self) -> File {
        let mut found = None;
        wait_until("the configuration is read", || {
            let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
            found = File::options().write(true).custom_flags(flags).open(&self.0).ok();
            found.is_some()
        });
        found.unwrap()
    }

    fn of(&self, mut command: Command) -> Command {
        command.env("WALKEEP_CONFIG", &self.0);
        command
    }
}

/// Ignores signals as the archiver does; its children inherit that.
fn as_the_server_does(scene: &Scene, command: &Command) -> Command {
    in_shell(&scene.sandbox, "trap '' INT ALRM XFSZ; exec \"$@\"", command)
}

fn push(scene: &Scene) -> Command {
    let mut push = scene.primary.run(scene.sandbox.walkeep_archive());
    push.args(["--archive", scene.archive.url()]).arg(format!("pg_wal/{SEGMENT}"));
    push
}

#[test]
fn a_call_that_still_reads_its_configuration_ends_with_the_status_of_the_table() {
    let (scene, _) = Scene::with_segment();
    let configuration = Configuration::new(&scene.sandbox);
    for (signal, name, of_push, of_recovery, of_standby) in [
        (Signal::TERM, "SIGTERM", 1, 143, 143),
        (Signal::INT, "SIGINT", 1, 255, 75),
        (Signal::QUIT, "SIGQUIT", 1, 255, 75),
    ] {
        for (call, status) in [
            (push(&scene), of_push),
            (scene.restore(&scene.recovery, SEGMENT), of_recovery),
            (scene.restore(&scene.standby, SEGMENT), of_standby),
        ] {
            let running = Running::start(configuration.of(as_the_server_does(&scene, &call)));
            let _open = configuration.wait_until_it_is_read();
            running.signal(signal);
            let outcome = running.end();
            assert_eq!(outcome.status, status, "{name} {call:?}: {}", outcome.stderr);
            let said = outcome.stderr.contains(name) && outcome.stderr.contains(": error: stopped by ");
            assert!(said && outcome.stderr.lines().count() == 1, "{}", outcome.stderr);
        }
    }
}

#[test]
fn meaningless_signals_do_not_end_a_call_that_reads_its_configuration() {
    let (scene, _) = Scene::with_segment();
    let configuration = Configuration::new(&scene.sandbox);
    for call in [push(&scene), scene.restore(&scene.recovery, SEGMENT)] {
        let running = Running::start(configuration.of(call));
        let mut open = configuration.wait_until_it_is_read();
        send_all(|signal| running.signal(signal));
        open.write_all(b"prefetch_size = '0MB'\n").unwrap();
        drop(open);
        let outcome = running.end();
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    }
}

#[test]
fn meaningless_signals_do_not_end_a_running_call() {
    let (mut scene, _) = StoreScene::with_segment();
    scene.set("WALKEEP_TIMEOUT", "1h");
    scene.set("AWS_READ_TIMEOUT", "1h");
    scene.store.break_with(Any, Fault::Hang);
    let calls = [(scene.push(SEGMENT), 1), (scene.restore(&scene.recovery, SEGMENT), 143)];
    for (call, status) in calls {
        let running = Running::start(call);
        running.wait_until_it_heeds_signals();
        send_all(|signal| running.signal(signal));
        running.signal(Signal::TERM);
        let outcome = running.end();
        assert_eq!(outcome.status, status, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("SIGTERM"), "{}", outcome.stderr);
    }
}

#[test]
fn meaningless_signals_do_not_end_a_prefetcher() {
    let scene = PrefetchScene::with(1..=3);
    let prefetcher = scene.prefetched(1, 2);
    send_all(|signal| prefetcher.signal(signal));
    assert_eq!(scene.restored(&name(2)), From::Prefetcher);
    assert_eq!(scene.prefetchers.all(), [prefetcher]);
    assert!(!scene.scene.recovery.join(TARGET).exists());
}
