//! What ends a command for all systems early, and what does not: a system that hangs, an archive that hangs, limits, signals.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{
    kept::{archived_segment_of, days_ago, name},
    running::Running,
    several::{LAST, SECOND, SYSTEMS, Several, document, in_a_store, in_store, key_of},
    store::fault::{Fault, Matching},
    store_cluster::CallOutput,
    store_scene::StoreScene,
    wait_until,
};

const COMMANDS: [&[&str]; 3] = [&["verify"], &["prune", "--keep-backups", "1"], &["status"]];

/// Much less than any time limit that must not be reached, and much more than a busy machine needs.
const PROMPTLY: Duration = Duration::from_secs(20);

/// Creates a store of which requests that name this never get an answer.
fn hanging(naming: &'static str) -> StoreScene {
    let mut scene = in_a_store();
    scene.set("AWS_READ_TIMEOUT", "1h");
    scene.store.break_with(Matching::Naming(naming), Fault::Hang);
    scene
}

fn all(scene: &StoreScene, command: &[&str], options: &[&str]) -> Command {
    in_store(scene, command[0], &[&command[1..], &["--all-systems"], options].concat())
}

/// Returns the JSON of a command that is stopped by a signal once the store was asked for what names this.
fn stopped(scene: &StoreScene, command: &[&str], naming: &str, signal: Signal) -> (CallOutput, Duration) {
    let mut all = all(scene, command, &["--json", "--timeout", "1h"]);
    let mut child = all.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the system is asked for", || {
        let named = |text: &String| text.contains(naming);
        scene.store.requests().iter().any(|it| named(&it.path) || it.query.as_ref().is_some_and(named))
    });
    let signalled = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let [mut stdout, mut stderr] = [Vec::new(), Vec::new()];
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    let status = child.wait().unwrap().code().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    (CallOutput { status, stdout, stderr }, signalled.elapsed())
}

#[test]
fn a_system_that_hangs_fails_and_keeps_no_other_from_its_turn() {
    for command in COMMANDS {
        let scene = hanging(SECOND);
        let output = CallOutput::of(all(&scene, command, &["--json", "--timeout", "2s"]));
        let json = document(&output);
        assert_eq!((output.status, &json["well_systems"]), (1, &json!(2)), "{command:?}: {json:#}");
        assert_eq!(json["failed_systems"], json!([SECOND]), "{command:?}: {json:#}");
        assert!(output.stderr.contains(&format!("error: system {SECOND}: gave up")), "{}", output.stderr);
    }
}

#[test]
fn an_archive_that_hangs_ends_the_command_after_one_system() {
    for command in COMMANDS {
        let scene = in_a_store();
        // The list of systems, and nothing else.
        scene.store.break_times(1, Matching::Any, Fault::None);
        scene.store.break_with(Matching::Any, Fault::Hang);
        let mut all = all(&scene, command, &["--json", "--timeout", "2s"]);
        all.env("AWS_READ_TIMEOUT", "1h");
        let started = Instant::now();
        let output = CallOutput::of(all);
        assert!(started.elapsed() < PROMPTLY, "{command:?}: {:?}", started.elapsed());
        let json = document(&output);
        assert_eq!((output.status, &json["well_systems"]), (1, &json!(0)), "{command:?}: {json:#}");
        assert_eq!(json["failed_systems"], json!([SYSTEMS[0].to_string()]), "{command:?}: {json:#}");
        assert_eq!(json["untried_systems"], json!([SECOND, LAST]), "{command:?}: {json:#}");
        let words = ["nothing has moved for 2s", &format!("2 not looked at, from {SECOND} on")];
        output.is_error(1, &words);
    }
}

#[test]
fn a_signal_ends_it_at_once_and_what_was_done_is_said() {
    for (command, signal) in COMMANDS.into_iter().zip([Signal::TERM, Signal::INT, Signal::TERM]) {
        let scene = hanging(SECOND);
        let (output, took) = stopped(&scene, command, SECOND, signal);
        assert!(took < PROMPTLY, "{command:?}: {took:?}");
        let json = document(&output);
        assert_eq!(output.status, 1, "{command:?}: {}", output.text());
        assert_eq!(well(&json), [true, false], "{command:?}: {json:#}");
        assert_eq!(json["failed_systems"], json!([SECOND]), "{command:?}: {json:#}");
        assert_eq!(json["untried_systems"], json!([LAST]), "{command:?}: {json:#}");
        assert_eq!(json["error_kind"], "stopped", "{command:?}: {json:#}");
        assert!(output.stderr.contains("stopped by SIG"), "{command:?}: {}", output.stderr);
        let said = format!("3 systems: 1 well, 1 failed: {SECOND}; 1 not looked at, from {LAST} on");
        assert!(output.stderr.contains(&said), "{command:?}: {}", output.stderr);
    }
}

#[test]
fn a_signal_during_the_last_system_is_no_success() {
    for command in COMMANDS {
        let scene = hanging(LAST);
        let (output, _) = stopped(&scene, command, LAST, Signal::TERM);
        let json = document(&output);
        assert_eq!(output.status, 1, "{command:?}: {}", output.text());
        assert_eq!(well(&json), [true, true, false], "{command:?}: {json:#}");
        assert_eq!(json["failed_systems"], json!([LAST]), "{command:?}: {json:#}");
    }
}

/// Returns of each system in a document whether all is well.
fn well(json: &Value) -> Vec<bool> {
    json["systems"].as_array().unwrap().iter().map(|system| system["ok"] == true).collect()
}

#[test]
fn the_limit_of_the_whole_command_is_one_for_all_systems() {
    for command in COMMANDS {
        let scene = hanging(SECOND);
        let output = CallOutput::of(all(&scene, command, &["--give-up-after", "3s", "--timeout", "1h"]));
        assert_eq!(output.status, 1, "{command:?}: {}", output.text());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let summary = format!("3 systems: 1 well, 1 failed: {SECOND}; 1 not looked at, from {LAST} on");
        assert_eq!(said.lines().last(), Some(&*summary), "{command:?}: {}", output.text());
        output.is_error(1, &["gave up after 3s, as --give-up-after says"]);
    }
}

#[test]
fn a_system_that_is_interrupted_keeps_what_was_found_of_it() {
    let mut scene = in_a_store();
    scene.set("AWS_READ_TIMEOUT", "1h");
    for number in 1..=8 {
        let segment = name(1, number);
        let mut bytes = archived_segment_of(SYSTEMS[1], &segment, days_ago(3));
        *bytes.last_mut().unwrap() ^= u8::from(number == 2);
        scene.store.put(&key_of(SYSTEMS[1], &segment), bytes);
    }
    let seventh = "7381092445103374872/wal/0000000100000000/000000010000000000000007";
    scene.store.break_with(Matching::Naming(seventh), Fault::Hang);
    let output = CallOutput::of(all(&scene, &["verify"], &["--json", "--timeout", "3s"]));
    let json = document(&output);
    let of_it = &json["systems"][1];
    assert!(of_it["failures"].as_u64().is_some_and(|failures| failures > 0), "{json:#}{}", output.stderr);
    assert!(of_it["error"].as_str().unwrap().contains("--resume"), "{json:#}");
    assert_eq!(json["systems"][2]["ok"], true, "{json:#}");
}

#[test]
fn a_signal_ends_a_command_whose_output_nobody_reads() {
    let several = Several::new();
    // More than a pipe holds.
    for number in 0..2_500 {
        let partial = format!("{}.partial", name(1, 10 + number));
        several.put(SYSTEMS[0], &partial, "", days_ago(3));
    }
    let mut command = several.command("verify", &["--json", "--timeout", "1h"]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let unread = child.stdout.take().unwrap();
    wait_until("the pipe is full", || ioctl_fionread(&unread).unwrap() > 60_000);
    let signalled = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    wait_until("it ends", || child.try_wait().unwrap().is_some());
    assert!(signalled.elapsed() < PROMPTLY, "{:?}", signalled.elapsed());
    assert!(several.report(SYSTEMS[1], "verify").is_none(), "nobody has read what was said of the first");
}

#[test]
fn a_reader_that_leaves_ends_it_silently() {
    let several = Several::new();
    for command in COMMANDS {
        let mut command = several.command(command[0], &command[1..]);
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        drop(reader);
        let outcome = Running::start(command).end();
        assert_eq!((outcome.status, outcome.stderr.as_str()), (141, ""));
    }
    assert!(several.report(SYSTEMS[1], "verify").is_none(), "nobody would read what it says");
}
