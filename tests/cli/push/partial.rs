//! Two servers promoted within one segment create two `.partial` files of one name: both are kept, and can be told
//! apart.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use support::{
    data_directory::{DataDirectory, SEGMENT},
    forged::hex,
    push::{HISTORY, HISTORY_CONTENT, Pusher, SYSTEM, fails, succeeds},
    running::{Outcome, outcome_of},
    store_scene::StoreScene,
    strace::{changes_of, trace},
    user,
};

const PARTIAL: &str = "000000010000000000000002.partial";

/// Returns the name of a second `.partial` with that content.
fn second(content: &[u8]) -> String {
    format!("{PARTIAL}.{}", hex(*blake3::hash(content).as_bytes()))
}

/// Asserts that a push succeeds with a one-line warning that contains all of `words`.
fn succeeds_with_a_warning(command: Command, words: &[&str]) {
    let Outcome { status, stderr } = outcome_of(command);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("walkeep-archive: warning: "), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

/// Creates two servers of one cluster, each with a `.partial` of the same name; returns both contents.
fn two_servers() -> (Pusher, DataDirectory, [Vec<u8>; 2]) {
    let pusher = Pusher::new();
    let other = DataDirectory::new(&pusher.sandbox, "other", SYSTEM);
    let contents = [pusher.data.segment(PARTIAL, 1), other.segment(PARTIAL, 2)];
    (pusher, other, contents)
}

/// Creates [`two_servers`] with both files archived.
fn both_archived() -> (Pusher, DataDirectory, [Vec<u8>; 2]) {
    let (pusher, other, contents) = two_servers();
    succeeds(pusher.push(PARTIAL));
    let kept = pusher.file(&second(&contents[1]));
    let first = pusher.file(PARTIAL);
    let words = [PARTIAL, first.to_str().unwrap(), kept.to_str().unwrap()];
    succeeds_with_a_warning(other.run(pusher.push(PARTIAL)), &words);
    (pusher, other, contents)
}

fn walkeep(pusher: &Pusher, arguments: &[&str]) -> Command {
    let mut walkeep = pusher.sandbox.walkeep();
    walkeep.arg(arguments[0]).args(["--archive", pusher.archive.url()]).args(&arguments[1..]);
    walkeep
}

fn json(pusher: &Pusher, arguments: &[&str]) -> Value {
    let output = walkeep(pusher, arguments).arg("--json").output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn both_are_kept_and_a_resend_of_either_succeeds() {
    let (pusher, other, contents) = both_archived();
    let names = [PARTIAL.to_owned(), second(&contents[1])];
    let stored = names.clone().map(|name| pusher.stored(&name));
    for (name, content) in names.iter().zip(&contents) {
        assert!(pusher.original(name) == *content, "{name}");
        assert!(
            String::from_utf8_lossy(&pusher.stored(name)[..900]).contains(&format!("\"name\":\"{PARTIAL}\""))
        );
    }
    succeeds(pusher.push(PARTIAL));
    succeeds_with_a_warning(other.run(pusher.push(PARTIAL)), &[&names[1]]);
    assert!(names.clone().map(|name| pusher.stored(&name)) == stored);

    let third = other.segment(PARTIAL, 3);
    succeeds_with_a_warning(other.run(pusher.push(PARTIAL)), &[&second(&third)]);
    assert!(pusher.original(&second(&third)) == third);
    assert_eq!(pusher.files().len(), 3);
}

#[test]
fn a_second_partial_is_archived_by_another_call_like_any_file() {
    let (pusher, other, contents) = two_servers();
    succeeds(pusher.push(PARTIAL));
    other.segment(SEGMENT, 0);
    let status = other.join("pg_wal/archive_status");
    fs::create_dir(&status).unwrap();
    user::hand_over(&status);
    for name in [SEGMENT, PARTIAL] {
        other.file(&format!("pg_wal/archive_status/{name}.ready"), "");
    }
    succeeds_with_a_warning(other.run(pusher.push(SEGMENT)), &[&second(&contents[1])]);
    assert!(pusher.original(&second(&contents[1])) == contents[1]);
    // The note in the spool concerns the name, which the archive has for the other file.
    succeeds_with_a_warning(other.run(pusher.push(PARTIAL)), &[&second(&contents[1])]);
}

#[test]
fn a_wrong_file_under_the_name_of_a_second_partial_does_not_count_as_archived() {
    let (pusher, other, contents) = both_archived();
    let place = pusher.file(&second(&contents[1]));
    let sound = fs::read(&place).unwrap();
    for (bytes, word) in [(sound[..sound.len() - 1].to_vec(), "damaged"), (pusher.stored(PARTIAL), "BLAKE3")]
    {
        fs::write(&place, &bytes).unwrap();
        let words = [word, place.to_str().unwrap(), "move the archive's file away"];
        fails(3, other.run(pusher.push(PARTIAL)), &words);
        assert!(fs::read(&place).unwrap() == bytes);
    }
    fs::write(&place, &sound).unwrap();
    succeeds_with_a_warning(other.run(pusher.push(PARTIAL)), &[]);
    // A damaged file under the first name also needs a person.
    fs::write(pusher.file(PARTIAL), &sound[..9]).unwrap();
    fails(3, other.run(pusher.push(PARTIAL)), &["damaged", "move the archive's file away"]);
}

#[test]
fn a_push_of_a_second_partial_killed_before_any_change_leaves_the_complete_file_or_none() {
    let (pusher, other, contents) = two_servers();
    succeeds(pusher.push(PARTIAL));
    let name = second(&contents[1]);
    let place = pusher.file(&name);
    let push = || other.run(pusher.push(PARTIAL));
    let (outcome, calls) = trace(&pusher.sandbox, &push());
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    let changes = changes_of(&calls, Path::new(pusher.archive.url()));
    let naming = changes.iter().position(|change| change.is("link", &place)).unwrap();
    for (step, change) in changes.iter().enumerate() {
        // Including leftovers of the previous kill: otherwise names differ from those in the trace.
        for file in pusher.files().iter().filter(|file| file.contains('#') || file.ends_with(&name)) {
            fs::remove_file(Path::new(pusher.archive.url()).join(file)).unwrap();
        }
        let outcome = outcome_of(change.replaced("signal=KILL", &pusher.sandbox, &push()));
        assert_eq!(outcome.status, -9, "{change:?}: {}", outcome.stderr);
        assert_eq!(place.exists(), step > naming, "{change:?}");
        succeeds_with_a_warning(push(), &[]);
        assert!(pusher.original(&name) == contents[1], "{change:?}");
        assert!(pusher.original(PARTIAL) == contents[0], "{change:?}");
    }
    assert!(changes.len() > 3, "{changes:?}");
}

#[test]
fn list_and_verify_show_both() {
    let (pusher, _, contents) = both_archived();
    pusher.data.segment(SEGMENT, 0);
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    for name in [SEGMENT, HISTORY] {
        succeeds(pusher.push(name));
    }
    let listed = json(&pusher, &["list", "files"]);
    let names: Vec<&str> =
        listed["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    let name = second(&contents[1]);
    assert_eq!(names, [SEGMENT, PARTIAL, &name, HISTORY]);
    assert_eq!(
        json(&pusher, &["list", "timelines"])["timelines"][0]["partials"],
        serde_json::json!([PARTIAL])
    );

    for options in [&["verify", "--names-only"][..], &["verify"], &["verify", "--deep"]] {
        let verdict = json(&pusher, options);
        let findings = verdict["findings"].as_array().unwrap();
        let kinds: Vec<&str> = findings.iter().map(|finding| finding["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["no_backup"], "{options:?}");
    }
    // A file whose content does not match its name.
    let wrong = pusher.file(&second(b"something else"));
    fs::copy(pusher.file(&name), &wrong).unwrap();
    user::hand_over(&wrong);
    for options in [&["verify"][..], &["verify", "--deep"]] {
        let verdict = json(&pusher, options);
        let finding = &verdict["findings"][1];
        assert_eq!(
            (&finding["file"], &finding["kind"]),
            (&second(b"something else").into(), &"wrong_place".into())
        );
    }
    let cat = walkeep(&pusher, &["cat", &second(b"something else")]).output().unwrap();
    assert_eq!((cat.status.code(), cat.stdout), (Some(1), vec![]));
}

#[test]
fn prune_deletes_both_with_their_segment() {
    let (pusher, _, contents) = both_archived();
    let newer = "000000010000000000000009";
    pusher.data.segment(newer, 0);
    succeeds(pusher.push(newer));
    let status = walkeep(&pusher, &["prune", "--before", newer]).output().unwrap().status;
    assert_eq!(status.code(), Some(0));
    assert!(!pusher.file(PARTIAL).exists() && !pusher.file(&second(&contents[1])).exists());
    assert_eq!(pusher.archive.all_names(SYSTEM), [newer]);
}

#[test]
fn no_server_can_request_one_by_its_content() {
    let (pusher, other, contents) = both_archived();
    let name = second(&contents[1]);
    let mut push = other.run(pusher.push(PARTIAL));
    push.arg(&name);
    fails(4, push, &["is not the name of a WAL file"]);
    let mut restore = pusher.sandbox.walkeep_restore();
    restore.args(["--archive", pusher.archive.url(), &name, "target"]);
    assert_eq!(outcome_of(restore).status, 255);
}

#[test]
fn a_store_keeps_both_with_and_without_conditional_writes() {
    for conditional_put in ["auto", "yes", "no"] {
        let scene = StoreScene::with_conditional_put(conditional_put);
        if conditional_put == "no" {
            scene.store.ignore_conditions();
        }
        let contents = [scene.primary.segment(PARTIAL, 1), scene.standby.segment(PARTIAL, 2)];
        let name = second(&contents[1]);
        succeeds(scene.push(PARTIAL));
        for _ in 0..2 {
            succeeds_with_a_warning(scene.push_from(&scene.standby, PARTIAL), &[&name]);
            succeeds(scene.push(PARTIAL));
            assert!(scene.original(PARTIAL) == contents[0], "{conditional_put}");
            assert!(scene.original(&name) == contents[1], "{conditional_put}");
            assert_eq!(scene.store.keys().len(), 2, "{conditional_put}");
        }
    }
}
