//! Reading one archived file's original content: with `walkeep cat`, or without walkeep.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::process::Signal;
use support::{
    data_directory::SEGMENT,
    files::names_in,
    restore::{SYSTEM, Scene},
    running::Running,
    strace::{Call, trace},
    wait_until,
    wrapper::in_shell,
};

const ABSENT: &str = "000000010000000000000002";
const HISTORY: &str = "00000002.history";
const HISTORY_CONTENT: &[u8] = b"1\t0/3000000\tno recovery target specified\n";

/// Returns `walkeep cat` with these arguments, outside any data directory.
fn cat(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = scene.sandbox.walkeep();
    command.args(["cat", "--archive", scene.archive.url()]).args(arguments);
    command
}

/// Returns the exit status, standard output, and standard error as text.
fn ran(mut command: Command) -> (i32, Vec<u8>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), stdout, String::from_utf8(stderr).unwrap())
}

/// Creates a directory for the output of `-o`.
fn output_directory(scene: &Scene) -> PathBuf {
    scene.sandbox.directory("output")
}

fn with_history(scene: &Scene) {
    scene.primary.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    scene.push(&scene.primary, HISTORY);
}

#[test]
fn the_original_bytes_go_to_standard_output_or_into_a_file() {
    let (scene, content) = Scene::with_segment();
    with_history(&scene);
    let directory = output_directory(&scene);
    for (name, content) in [(SEGMENT, &content[..]), (HISTORY, HISTORY_CONTENT)] {
        let (status, stdout, stderr) = ran(cat(&scene, &[name]));
        assert_eq!((status, stderr.as_str()), (0, ""), "{name}");
        assert!(stdout == content, "{name}");

        let file = directory.join(name);
        let (status, stdout, stderr) = ran(cat(&scene, &[name, "-o", file.to_str().unwrap()]));
        assert_eq!((status, stdout.len(), stderr.as_str()), (0, 0, ""), "{name}");
        assert!(fs::read(file).unwrap() == content, "{name}");
    }
    assert_eq!(names_in(&directory), [SEGMENT, HISTORY]);
}

#[test]
fn an_existing_file_is_replaced_and_not_written_into() {
    let (scene, content) = Scene::with_segment();
    let file = scene.sandbox.file("file", "rubbish");
    fs::hard_link(&file, scene.sandbox.join("second-name")).unwrap();
    assert_eq!(ran(cat(&scene, &[SEGMENT, "--output", "file"])).0, 0);
    assert!(fs::read(file).unwrap() == content);
    assert_eq!(fs::read(scene.sandbox.join("second-name")).unwrap(), b"rubbish");
}

#[test]
fn a_device_a_pipe_or_a_link_is_written_through_and_stays() {
    let (scene, content) = Scene::with_segment();
    let directory = output_directory(&scene);
    let link = directory.join("link");
    std::os::unix::fs::symlink("file", &link).unwrap();
    for _ in ["new", "old"] {
        assert_eq!(ran(cat(&scene, &[SEGMENT, "-o", link.to_str().unwrap()])).0, 0);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read(directory.join("file")).unwrap() == content);
    }
    assert_eq!(names_in(&directory), ["file", "link"]);
    assert_eq!(ran(cat(&scene, &[SEGMENT, "-o", "/dev/null"])).0, 0);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    let (status, stdout, stderr) = ran(cat(&scene, &[SEGMENT, "-o", "/dev/stdout"]));
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout == content);
}

#[test]
fn a_segment_is_not_written_to_a_terminal() {
    let (scene, _) = Scene::with_segment();
    with_history(&scene);
    let on_terminal = |name: &str| {
        let mut script = scene.sandbox.command("script");
        let cat = cat(&scene, &[name]);
        let words: Vec<String> = std::iter::once(cat.get_program())
            .chain(cat.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        ran({
            script.args(["-qec", &words.join(" "), "/dev/null"]);
            script
        })
    };
    let (status, shown, _) = on_terminal(SEGMENT);
    let shown = String::from_utf8(shown).unwrap();
    assert_eq!(status, 2, "{shown}");
    assert!(shown.contains("the output is a terminal") && shown.contains("--output"), "{shown}");
    let (status, shown, _) = on_terminal(HISTORY);
    assert_eq!(status, 0);
    assert!(String::from_utf8(shown).unwrap().contains("no recovery target"));
}

#[test]
fn the_output_is_durable_before_its_name_and_the_name_before_the_end() {
    let (scene, _) = Scene::with_segment();
    let file = output_directory(&scene).join("file");
    let (outcome, calls) = trace(&scene.sandbox, &cat(&scene, &[SEGMENT, "-o", file.to_str().unwrap()]));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    let naming = |call: &&Call| call.name.starts_with("rename") && call.path() == Some(&file);
    let naming = calls.iter().find(naming).unwrap();
    let staged = naming.first_path().unwrap();
    let flushed = |path: &Path| calls.iter().find(|call| call.flushes(path)).unwrap();
    let written = calls.iter().rfind(|call| call.name == "write" && call.path() == Some(staged)).unwrap();
    assert!(written.is_before(flushed(staged)) && flushed(staged).is_before(naming), "{calls:#?}");
    let end = calls.iter().find(|call| call.exit_status() == Some("0")).unwrap();
    let flushed = flushed(file.parent().unwrap());
    assert!(naming.is_before(flushed) && flushed.is_before(end), "{calls:#?}");
}

#[test]
fn the_system_is_that_of_the_data_directory_or_as_given() {
    let (scene, content) = Scene::with_segment();
    scene.sandbox.directory(format!("archive/{}", SYSTEM + 1));
    let (status, stdout, stderr) = ran(cat(&scene, &[SEGMENT]));
    assert_eq!((status, stdout.len()), (2, 0), "{stderr}");
    assert!(stderr.contains(&SYSTEM.to_string()) && stderr.contains(&(SYSTEM + 1).to_string()), "{stderr}");

    assert!(ran(cat(&scene, &[SEGMENT, "--system-identifier", &SYSTEM.to_string()])).1 == content);
    assert!(ran(scene.primary.run(cat(&scene, &[SEGMENT]))).1 == content);
}

#[test]
fn nothing_of_a_damaged_file_is_written() {
    let (scene, _) = Scene::with_segment();
    let sound = scene.archived(SEGMENT);
    let mut damaged = sound.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let directory = output_directory(&scene);
    let (new, old) = (directory.join("new"), directory.join("old"));
    fs::write(&old, "what was here before").unwrap();
    for bytes in [&damaged[..], &sound[..sound.len() / 2], b""] {
        scene.put(SEGMENT, bytes);
        for output in [&[][..], &["-o", new.to_str().unwrap()], &["-o", old.to_str().unwrap()]] {
            let (status, stdout, stderr) = ran(cat(&scene, &[&[SEGMENT], output].concat()));
            assert_eq!((status, stdout.len(), stderr.lines().count()), (1, 0, 1), "{stderr}");
            assert!(stderr.starts_with("walkeep: error: ") && stderr.contains("damaged"), "{stderr}");
        }
    }
    assert_eq!(names_in(&directory), ["old"]);
    assert_eq!(fs::read(old).unwrap(), b"what was here before");
}

#[test]
fn a_file_that_is_not_what_its_name_says_is_not_written() {
    let (scene, _) = Scene::with_segment();
    scene.put(ABSENT, scene.archived(SEGMENT));
    let (status, stdout, stderr) = ran(cat(&scene, &[ABSENT]));
    assert_eq!((status, stdout.len()), (1, 0), "{stderr}");
    assert!(stderr.contains(SEGMENT), "{stderr}");
}

#[test]
fn an_absent_file_or_archive_is_a_failure_with_a_message() {
    let (scene, _) = Scene::with_segment();
    let fails_with = |words: &str| {
        let (status, stdout, stderr) = ran(cat(&scene, &[ABSENT, "-o", "file"]));
        assert_eq!((status, stdout.len(), stderr.lines().count()), (1, 0, 1), "{stderr}");
        assert!(stderr.starts_with("walkeep: error: ") && stderr.contains(words), "{stderr}");
        assert!(!scene.sandbox.join("file").exists());
    };
    fails_with(ABSENT);
    scene.archive.vanish();
    fails_with("does not exist");
    scene.sandbox.directory("archive");
    fails_with("no system");
}

#[test]
fn a_wrong_call_or_setting_has_a_status_of_its_own() {
    let (scene, _) = Scene::with_segment();
    scene.sandbox.file("walkeep.toml", "archives = '/a'\n");
    for arguments in [
        &["frobnicate"][..],
        &["cat"],
        &["cat", SEGMENT],
        &["cat", "--archive", "relative", SEGMENT],
        &["cat", "--archive", scene.archive.url(), "no-name"],
        &["cat", "--archive", scene.archive.url(), SEGMENT, "--frobnicate"],
        &["cat", "--archive", scene.archive.url(), SEGMENT, HISTORY],
        &["cat", "--archive", scene.archive.url(), "--timeout", "soon", SEGMENT],
        &["cat", "--config", "walkeep.toml", SEGMENT],
        &["cat", "--config", "missing.toml", SEGMENT],
    ] {
        let mut walkeep = scene.sandbox.walkeep();
        walkeep.args(arguments);
        let (status, stdout, stderr) = ran(walkeep);
        assert_eq!((status, stdout.len(), stderr.lines().count()), (2, 0, 1), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("walkeep: error: "), "{stderr}");
    }
}

#[test]
fn a_call_without_arguments_is_answered_with_the_help() {
    let scene = Scene::new();
    let (status, stdout, stderr) = ran(scene.sandbox.walkeep());
    assert_eq!((status, stdout.len()), (2, 0), "{stderr}");
    assert!(stderr.contains("Usage: walkeep") && stderr.contains("prune"), "{stderr}");
}

#[test]
fn a_reader_that_stops_early_causes_no_message() {
    let (scene, content) = Scene::with_segment();
    let mut command = cat(&scene, &[SEGMENT]);
    let mut walkeep = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    walkeep.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(first, content[..1]);
    let output = walkeep.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(141), ""));

    // A shell pipeline shows no message about an internal error either.
    let pipeline = in_shell(&scene.sandbox, "\"$@\" | head -c 1", &cat(&scene, &[SEGMENT]));
    let (status, stdout, stderr) = ran(pipeline);
    assert_eq!((status, &stdout[..]), (0, &content[..1]));
    assert_eq!(stderr, "");
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let (scene, _) = Scene::with_segment();
    let mut into_full = cat(&scene, &[SEGMENT]);
    into_full.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let (status, _, stderr) = ran(into_full);
    assert_eq!(status, 1);
    assert!(stderr.contains("cannot write standard output: "), "{stderr}");

    let (status, stdout, stderr) = ran(cat(&scene, &[SEGMENT, "-o", "missing/file"]));
    assert_eq!((status, stdout.len()), (1, 0));
    assert!(stderr.contains("cannot write missing/file: "), "{stderr}");
}

/// Sends a signal to `walkeep cat -o file` after its output is written and before it is flushed, which takes long on
/// a slow disk. Returns the status and the remaining names; `file` itself must be complete.
fn signalled(signal: Signal) -> (i32, Vec<String>) {
    let (scene, content) = Scene::with_segment();
    let directory = output_directory(&scene);
    let walkeep = cat(&scene, &[SEGMENT, "-o", directory.join("file").to_str().unwrap()]);
    let running = Running::start(scene.slowed("fsync", "delay_enter=500000", &walkeep));
    wait_until("the output is being written", || !names_in(&directory).is_empty());
    running.signal(signal);
    let status = running.end().status;
    let names = names_in(&directory);
    if names.iter().any(|name| name == "file") {
        assert!(fs::read(directory.join("file")).unwrap() == content);
    }
    (status, names)
}

#[test]
fn an_interrupted_cat_leaves_nothing_but_its_complete_output() {
    let (status, names) = signalled(Signal::INT);
    // A write that must not be interrupted may finish.
    assert!([0, 1].contains(&status), "{status}");
    assert!(names.is_empty() || names == ["file"], "{names:?}");
}

#[test]
fn a_killed_cat_leaves_no_file_under_the_name_of_its_output() {
    let (status, names) = signalled(Signal::KILL);
    assert_eq!(status, -9);
    assert!(!names.iter().any(|name| name == "file"), "{names:?}");
}

/// Returns the output of a shell script whose `$1` is an archived file.
fn shell(script: &str, file: &Path) -> Vec<u8> {
    let script = format!("set -e; {script}");
    let output = Command::new("sh").args(["-c", &script, "sh"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn first_word(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap().split_whitespace().next().unwrap_or_default()
}

#[test]
fn without_walkeep_zstd_gives_the_file_back() {
    assert!(Command::new("zstd").arg("--version").output().is_ok(), "apt-get install zstd");
    let (scene, content) = Scene::with_segment();
    with_history(&scene);
    assert!(shell("zstd -dc < \"$1\"", &scene.file(SEGMENT)) == content);
    assert_eq!(shell("zstd -dc < \"$1\"", &scene.file(HISTORY)), HISTORY_CONTENT);
}

#[test]
fn without_walkeep_tail_gives_an_uncompressed_file_back() {
    let scene = Scene::new();
    let content = scene.primary.segment(SEGMENT, 0);
    scene.push_with(&scene.primary, SEGMENT, &["--compression", "none"]);
    assert!(shell("tail -c +1025 \"$1\"", &scene.file(SEGMENT)) == content);
}

#[test]
fn without_walkeep_sha256sum_checks_header_and_body() {
    let (scene, content) = Scene::with_segment();
    with_history(&scene);
    for (name, content) in [(SEGMENT, &content[..]), (HISTORY, HISTORY_CONTENT)] {
        let file = scene.file(name);
        let header: serde_json::Value =
            serde_json::from_slice(&shell("head -c 958 \"$1\" | tail -c +9", &file)).unwrap();
        assert_eq!(header["name"], name);
        assert_eq!(header["blake3"], blake3::hash(content).to_hex().as_str());
        let of_header = shell("head -c 959 \"$1\" | sha256sum", &file);
        assert_eq!(first_word(&of_header), first_word(&shell("head -c 1024 \"$1\" | tail -c +960", &file)));
        let of_body = shell("tail -c +1025 \"$1\" | sha256sum", &file);
        assert_eq!(header["sha256"], first_word(&of_body));
    }
}
