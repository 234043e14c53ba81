//! Races of calls, prefetchers and their ends: every call succeeds with the right bytes, and nothing is left.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{fs, process::Command, thread, time::Duration};

use rustix::process::Signal;
use support::{
    data_directory::{DataDirectory, SEGMENT_BYTES, segment},
    files::names_in,
    prefetcher::{From, PrefetchScene, content, left_in_spools, name, restored_as},
    push::{OTHER_SYSTEM, succeeds},
    restore::{SYSTEM, TARGET},
    running::Running,
    wait_until,
    wrapper::wrapped,
};

/// Returns a pause of up to `most` milliseconds, which differs between rounds and is the same in every run.
fn pause(round: usize, most: u64) -> Duration {
    let scattered = (round as u64 + 1).wrapping_mul(6_364_136_223_846_793_005) >> 33;
    Duration::from_micros(scattered % (most * 1000))
}

/// A call that restores a segment to its own target.
struct Call {
    running: Running,
    name: String,
    to: String,
}

impl Call {
    fn start(scene: &PrefetchScene, number: usize, to: usize) -> Self {
        let (name, to) = (name(number), format!("pg_wal/to-{to}"));
        let mut command = scene.scene.recovery.run(scene.scene.sandbox.walkeep_restore());
        command.args(["--archive", scene.scene.archive.url(), "-v", &name, &to]);
        Self { running: Running::start(command), name, to }
    }

    /// Asserts success with the right bytes.
    fn end(self, scene: &PrefetchScene) -> From {
        let outcome = self.running.end();
        assert_eq!(outcome.status, 0, "{}: {}", self.name, outcome.stderr);
        let path = scene.scene.recovery.join(&self.to);
        assert!(fs::read(&path).unwrap() == content(&self.name), "{}: {}", self.name, outcome.stderr);
        fs::remove_file(path).unwrap();
        From::logged_in(&outcome.stderr)
    }
}

/// Asserts that the prefetchers end or can be ended, and that nothing is left then.
fn nothing_is_left(scene: &PrefetchScene) {
    for prefetcher in scene.prefetchers.all() {
        prefetcher.kill();
    }
    scene.prefetchers.wait_until_none();
    scene.nothing_is_left();
}

#[test]
fn concurrent_calls_for_the_same_and_adjacent_segments_all_succeed() {
    let scene = PrefetchScene::with(1..=40);
    let mut from_prefetcher = 0;
    for round in 1..=36 {
        let offsets = [0, 0, 1, 2, 0, 4];
        let calls: Vec<_> = (0..offsets.len())
            .map(|at| {
                let call = Call::start(&scene, round + offsets[at], at);
                thread::sleep(pause(round * 7 + at, 4));
                call
            })
            .collect();
        let from = calls.into_iter().map(|call| call.end(&scene)).collect::<Vec<_>>();
        from_prefetcher += from.iter().filter(|from| **from == From::Prefetcher).count();
        assert!(scene.prefetchers.all().len() <= 2, "one, and one that has found it there");
    }
    assert!(from_prefetcher > 0);
    nothing_is_left(&scene);
}

#[test]
fn restores_succeed_while_the_prefetcher_is_killed_at_any_moment() {
    let scene = PrefetchScene::with(1..=80);
    let mut from = Vec::new();
    for number in 1..=80 {
        let call = Call::start(&scene, number, 0);
        thread::sleep(pause(number, 25));
        if number % 4 != 0 {
            scene.prefetchers.signal_all(Signal::KILL);
        }
        from.push(call.end(&scene));
    }
    let served = from.iter().filter(|from| **from == From::Prefetcher).count();
    assert!(served > 0 && served < 80, "{served}");
    nothing_is_left(&scene);
}

#[test]
fn restores_succeed_while_the_prefetcher_is_terminated_or_paused() {
    let scene = PrefetchScene::with(1..=60);
    for number in 1..=60 {
        let call = Call::start(&scene, number, 0);
        thread::sleep(pause(number, 20));
        if number % 3 == 0 {
            scene.prefetchers.signal_all(Signal::TERM);
        } else {
            scene.prefetchers.signal_all(Signal::STOP);
            thread::sleep(pause(number * 3, 20));
            scene.prefetchers.signal_all(Signal::CONT);
        }
        call.end(&scene);
    }
    nothing_is_left(&scene);
}

#[test]
fn the_call_after_one_that_was_killed_at_any_moment_succeeds() {
    let scene = PrefetchScene::with(1..=45);
    for number in 1..=45 {
        let call = Call::start(&scene, number, 0);
        thread::sleep(pause(number, 20));
        call.running.signal(Signal::KILL);
        call.running.end();
        let there = scene.scene.recovery.join("pg_wal/to-0");
        if there.exists() {
            assert!(fs::read(&there).unwrap() == content(&name(number)), "{number} is there in part");
        }
        Call::start(&scene, number, 0).end(&scene);
        for left in names_in(&scene.scene.recovery.join("pg_wal")) {
            // The server removes it, because it knows the prefix.
            assert!(left.starts_with("xlogtemp."), "{left}");
            fs::remove_file(scene.scene.recovery.join("pg_wal").join(left)).unwrap();
        }
    }
    nothing_is_left(&scene);
}

#[test]
fn servers_that_restart_at_any_moment_get_the_right_bytes() {
    let scene = PrefetchScene::with(1..=45);
    let run = |number: usize| {
        scene.scene.recovery.file("postmaster.pid", format!("{number}\n/data\n1700000000\n"));
    };
    for number in 1..=45 {
        let call = Call::start(&scene, number, 0);
        thread::sleep(pause(number, 20));
        if number % 2 == 0 {
            run(number);
        }
        call.end(&scene);
    }
    // A prefetcher that was just started belongs to the run that it finds.
    let mut number = 1000;
    wait_until("no prefetcher is left", || {
        number += 1;
        run(number);
        scene.prefetchers.all().is_empty()
    });
    scene.nothing_is_left();
}

#[test]
fn a_spool_that_is_removed_at_any_moment_fails_no_call() {
    let scene = PrefetchScene::with(1..=45);
    for number in 1..=45 {
        let call = Call::start(&scene, number, 0);
        thread::sleep(pause(number, 20));
        // Fails while something is being created in it.
        let _ = fs::remove_dir_all(scene.spool_base());
        call.end(&scene);
    }
    let _ = fs::create_dir(scene.spool_base());
    nothing_is_left(&scene);
}

#[test]
fn a_segment_archived_while_it_is_missed_is_found() {
    let scene = PrefetchScene::with(1..=2);
    let (file, kept) = (scene.scene.file(&name(2)), scene.scene.sandbox.join("kept"));
    fs::rename(&file, &kept).unwrap();
    // The call looks for neighbours once it has found the segment absent.
    let around = scene.scene.archive.url().to_owned() + "/" + &SYSTEM.to_string();
    let mut strace = scene.scene.sandbox.command("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-P", &around]);
    strace.args(["-e", "inject=?stat,statx,newfstatat:delay_enter=700000"]);
    let call = scene.call_with(&["--prefetch-size=0MB"], &scene.scene.standby, &name(2));
    let mut call = wrapped(strace, &call);
    call.env_remove("LD_LIBRARY_PATH");
    let call = Running::start(call);
    // Nothing outside shows that it has got there. If this is too early, the test proves less.
    thread::sleep(Duration::from_millis(500));
    fs::rename(&kept, &file).unwrap();
    let outcome = call.end();
    assert_eq!((outcome.status, outcome.stderr.lines().count()), (0, 1), "{}", outcome.stderr);
    assert_eq!(From::logged_in(&outcome.stderr), From::Archive);
    assert!(fs::read(scene.scene.standby.join(TARGET)).unwrap() == content(&name(2)));
}

#[test]
fn two_servers_with_one_spool_directory_do_not_disturb_each_other() {
    let scene = PrefetchScene::with(1..=40);
    let (sandbox, archive) = (&scene.scene.sandbox, &scene.scene.archive);
    let other = DataDirectory::new(sandbox, "other", OTHER_SYSTEM);
    let others: Vec<_> = (1..=40)
        .map(|number| segment(&name(number), OTHER_SYSTEM, SEGMENT_BYTES, u8::try_from(number).unwrap()))
        .collect();
    for (number, content) in (1..=40).zip(&others) {
        other.file(&format!("pg_wal/{}", name(number)), content);
        let mut push = other.run(sandbox.walkeep_archive());
        push.args(["--archive", archive.url()]).arg(format!("pg_wal/{}", name(number)));
        succeeds(push);
        fs::remove_file(other.join("pg_wal").join(name(number))).unwrap();
    }
    let call_of = |server: &DataDirectory, number| -> Command {
        let mut call = server.run(sandbox.walkeep_restore());
        call.args(["--archive", archive.url(), "-v", &name(number), TARGET]);
        call
    };
    let recover = |server: &DataDirectory, content_of: &dyn Fn(usize) -> Vec<u8>, pauses: usize| {
        let mut served = 0;
        for number in 1..=40 {
            let from = restored_as(call_of(server, number), server, &name(number), &content_of(number));
            served += usize::from(from == From::Prefetcher);
            thread::sleep(pause(number * pauses, 10));
        }
        served
    };
    let served = thread::scope(|scope| {
        let one = scope.spawn(|| recover(&scene.scene.recovery, &|number| content(&name(number)), 3));
        let two = scope.spawn(|| recover(&other, &|number| others[number - 1].clone(), 5));
        [one.join().unwrap(), two.join().unwrap()]
    });
    assert!(served.iter().all(|served| *served > 5), "{served:?}");
    scene.prefetchers.wait_until_none();
    assert_eq!(names_in(&other.join("pg_wal")), [""; 0]);
    scene.nothing_is_left();
}

#[test]
fn of_prefetchers_started_at_the_same_time_one_remains() {
    for round in 0..30 {
        let scene = PrefetchScene::with(1..=3);
        let calls: Vec<_> = (0..4).map(|at| Call::start(&scene, 1, at)).collect();
        thread::sleep(pause(round, 5));
        for call in calls {
            call.end(&scene);
        }
        scene.prefetchers.wait_until_held(2);
        assert_eq!(scene.restored_all(2..=3), 2);
        scene.prefetchers.wait_until_none();
        assert_eq!(left_in_spools(&scene.spool_base()), [""; 0]);
    }
}
