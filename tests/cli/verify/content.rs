//! `walkeep verify` of contents: it finds any damage of an archived file, says what it means, and can be interrupted.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{
    files::Permissions,
    forged::resealed,
    push::SYSTEM,
    running::Outcome,
    store::fault::{Fault, Matching},
    verified::{
        BACKUP, FORK, HISTORY, LAST, NEEDED, NEWEST, OLD, START, Verified, VerifyOutput, content, name,
    },
    verified_store::{asked, interrupted, let_the_survey_through, report, store, verify},
};

/// Damage of a file.
enum Damage {
    Cut(usize),
    CutAtTheEnd,
    FlippedInHeader,
    FlippedInBody,
    Extended,
    /// Bytes of another file.
    Of(&'static str),
    Foreign,
    OfAnotherSystem,
    /// The header names other content, and is itself valid.
    OtherDigest,
}

impl Damage {
    fn to(&self, archive: &Verified, name: &str, sound: &[u8]) -> Vec<u8> {
        let flipped = |at: usize| {
            let mut bytes = sound.to_vec();
            bytes[at] ^= 1;
            bytes
        };
        match self {
            Self::Cut(length) => sound[..*length].to_vec(),
            Self::CutAtTheEnd => sound[..sound.len() - 1].to_vec(),
            Self::FlippedInHeader => flipped(100),
            Self::FlippedInBody => flipped(sound.len() - 5),
            Self::Extended => [sound, b"x"].concat(),
            Self::Of(other) => fs::read(archive.file(other)).unwrap(),
            Self::Foreign => b"rubbish".repeat(1000),
            Self::OfAnotherSystem => archive.of_another_system(name),
            Self::OtherDigest => {
                let header = String::from_utf8_lossy(&sound[8..900]).into_owned();
                let begin = header.find("\"blake3\":\"").unwrap() + 10;
                let digest = &header[begin..begin + 64];
                resealed(sound, digest, &"0".repeat(64))
            }
        }
    }
}

#[test]
fn any_damage_of_a_segment_is_found() {
    let archive = Verified::new();
    let damages = [
        (Damage::Cut(0), "damaged"),
        (Damage::Cut(4), "damaged"),
        (Damage::Cut(500), "damaged"),
        (Damage::Cut(1024), "damaged"),
        (Damage::Cut(5000), "damaged"),
        (Damage::CutAtTheEnd, "damaged"),
        (Damage::Extended, "damaged"),
        (Damage::FlippedInHeader, "damaged"),
        (Damage::FlippedInBody, "damaged"),
        (Damage::Foreign, "damaged"),
        (Damage::Of(LAST), "wrong_place"),
        (Damage::Of(HISTORY), "wrong_place"),
        (Damage::OfAnotherSystem, "wrong_place"),
        (Damage::OtherDigest, "damaged"),
    ];
    for (file, severity) in [(OLD, "note"), (NEEDED, "failure"), (FORK, "failure")] {
        let sound = fs::read(archive.file(file)).unwrap();
        for (damage, kind) in &damages {
            if matches!(damage, Damage::OfAnotherSystem) && file != NEEDED {
                continue;
            }
            archive.put(file, damage.to(&archive, file, &sound));
            let verdict = archive.verify(&["--deep"]);
            verdict.says(&[(severity, kind, file)]);
            match severity {
                "failure" => verdict.means(file, &["\"nightly\"", "cannot be recovered beyond"]),
                _ => verdict.means(file, &["no base backup that can be recovered needs it"]),
            }
            let shallow = archive.verify(&[]);
            // The stored bytes match the header.
            if matches!(damage, Damage::OtherDigest) {
                shallow.says(&[]);
            } else {
                shallow.says(&[(severity, kind, file)]);
            }
        }
        archive.put(file, &sound);
    }
    archive.verify(&["--deep"]).says(&[]);
}

#[test]
fn any_damage_of_a_text_file_is_a_failure_and_reported_once() {
    let archive = Verified::new();
    let damages = [
        (Damage::Cut(0), "damaged"),
        (Damage::Cut(1024), "damaged"),
        (Damage::CutAtTheEnd, "damaged"),
        (Damage::FlippedInHeader, "damaged"),
        (Damage::FlippedInBody, "damaged"),
        (Damage::Foreign, "damaged"),
        (Damage::Of(NEEDED), "wrong_place"),
    ];
    for file in [HISTORY, BACKUP] {
        let sound = fs::read(archive.file(file)).unwrap();
        for (damage, kind) in &damages {
            archive.put(file, damage.to(&archive, file, &sound));
            for options in [&["--names-only"][..], &[], &["--deep"], &["--sample", "1"]] {
                let mut expected = vec![("failure", *kind, file)];
                expected.extend((file == BACKUP).then_some(("note", "no_backup", "base backups")));
                archive.verify(options).says(&expected);
            }
        }
        archive.put(file, &sound);
    }
}

#[test]
fn a_partial_segment_is_verified_and_no_recovery_needs_it() {
    let archive = Verified::new();
    let partial = format!("{}.partial", name(1, 6));
    archive.put(&partial, "rubbish");
    archive.verify(&[]).says(&[("note", "damaged", &partial)]);
}

#[test]
fn a_segment_written_by_another_timeline_is_found_by_a_deep_verification() {
    let archive = Verified::new();
    // The old primary's segment under the new timeline's name.
    archive.remove(NEWEST);
    archive.push(NEWEST, &content(&name(1, 7)));
    let verdict = archive.verify(&["--deep"]);
    verdict.says(&[("failure", "wrong_timeline", NEWEST)]);
    verdict.means(NEWEST, &["timeline 1 has written it", "timeline 2 should"]);
    archive.verify(&[]).says(&[]);
    // The reverse: timeline 2 began within this segment, so timeline 1 wrote its first page.
    archive.remove(NEWEST);
    archive.push(NEWEST, &content(NEWEST));
    archive.remove(FORK);
    archive.push(FORK, &content(FORK));
    archive.verify(&["--deep"]).says(&[("failure", "wrong_timeline", FORK)]);
    // If the start of timeline 2 is unknown, either may be right.
    archive.remove(HISTORY);
    archive.verify(&["--deep"]).says(&[("failure", "missing_history", HISTORY)]);
}

#[test]
fn samples_and_new_files_are_partial_verifications() {
    let archive = Verified::new();
    // Eight segments, one of them partial, and two text files.
    let checked = |options: &[&str]| archive.verify(options).content("checked_files").as_u64().unwrap();
    assert_eq!(checked(&[]), 10);
    assert_eq!(checked(&["--names-only"]), 2);
    assert_eq!(checked(&["--sample", "50%"]), 2 + 4);
    assert_eq!(checked(&["--sample", "1"]), 2 + 1);
    assert_eq!(checked(&["--since", "7d"]), 10);
    assert_eq!(checked(&["--since", "2100-01-01"]), 2);
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_hours(24 * 365);
    fs::File::options().write(true).open(archive.file(NEEDED)).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(checked(&["--since", "7d"]), 9);
    assert_eq!(checked(&["--since", "7d", "--sample", "100%"]), 9);
}

#[test]
fn a_store_is_listed_once_and_each_file_is_read_once() {
    let scene = store();
    let verdict = VerifyOutput::of(verify(&scene, &["--deep", "--system-identifier", &SYSTEM.to_string()]));
    verdict.says(&[]);
    assert_eq!(verdict.content("checked_files"), 7);
    let lists = scene.store.requests().into_iter().filter(|request| request.query.is_some()).count();
    assert_eq!(lists, 1);
    let mut gets = asked(&scene, "GET");
    gets.retain(|name| name.starts_with("0000"));
    gets.sort();
    // The oldest and the newest one are first read for the segment size, and the newest at the end for its archiving
    // time.
    let mut expected: Vec<String> = (1..=6).map(|number| name(1, number)).collect();
    expected.extend([BACKUP.to_owned(), name(1, 1), name(1, 6), name(1, 6)]);
    expected.sort();
    assert_eq!(gets, expected);
    assert_eq!(asked(&scene, "PUT"), ["verify.json"]);
    assert_eq!(report(&scene)["ok"], true);
}

#[test]
fn an_interrupted_verification_continues_where_it_ended() {
    let scene = store();
    let Outcome { status, stderr } = interrupted(&scene, &["--deep"], Signal::TERM);
    assert_eq!(status, 1, "{stderr}");
    assert!(
        stderr.contains("stopped") && stderr.contains("--resume") && stderr.lines().count() == 1,
        "{stderr}"
    );
    let noted = report(&scene);
    assert_eq!((&noted["checked_up_to"], &noted["ok"]), (&json!(NEEDED), &json!(false)));

    // A partial verification changes nothing.
    VerifyOutput::of(verify(&scene, &["--names-only"])).says(&[]);
    scene.store.forget_requests();
    let verdict = VerifyOutput::of(verify(&scene, &["--resume"]));
    verdict.says(&[("note", "damaged", OLD)]);
    assert_eq!(
        (verdict.content("resumed_after"), verdict.content("checked_files")),
        (&json!(NEEDED), &json!(7))
    );
    assert_eq!(verdict.content("deep"), true, "as closely as before");
    let again = asked(&scene, "GET");
    // The first segment shows the size.
    for number in 2..=4 {
        assert!(!again.contains(&name(1, number)), "{again:?}");
    }
    assert!(again.contains(&LAST.to_owned()));
    assert_eq!((&report(&scene)["checked_up_to"], &report(&scene)["ok"]), (&Value::Null, &json!(true)));

    // Nothing to continue: it starts at the beginning.
    scene.store.forget_requests();
    let verdict = VerifyOutput::of(verify(&scene, &["--resume"]));
    assert_eq!(
        (verdict.content("resumed_after"), verdict.content("checked_files")),
        (&Value::Null, &json!(7))
    );
    assert!(asked(&scene, "GET").contains(&START.to_owned()));
}

#[test]
fn a_killed_verification_continues_from_its_last_report() {
    let scene = store();
    let killed = interrupted(&scene, &["--deep"], Signal::KILL);
    assert_eq!(killed.status, -9);
    assert_eq!(report(&scene)["checked_up_to"], NEEDED);
    assert_eq!((&report(&scene)["at_work"], &report(&scene)["last_full"]), (&json!(true), &Value::Null));
    let verdict = VerifyOutput::of(verify(&scene, &["--resume"]));
    verdict.says(&[("note", "damaged", OLD)]);
    assert_eq!(verdict.content("resumed_after"), NEEDED);
    assert_eq!(report(&scene)["ok"], true);
    // The previous report counts while another verification runs, and after that one was killed.
    interrupted(&scene, &["--deep"], Signal::KILL);
    let report = report(&scene);
    assert_eq!((&report["at_work"], &report["last_full"]["ok"]), (&json!(true), &json!(true)));
}

#[test]
fn an_interrupted_verification_starts_again_without_resume() {
    let scene = store();
    interrupted(&scene, &["--deep"], Signal::TERM);
    let verdict = VerifyOutput::of(verify(&scene, &[]));
    verdict.says(&[("note", "damaged", OLD)]);
    assert_eq!(
        (verdict.content("resumed_after"), verdict.content("checked_files")),
        (&Value::Null, &json!(7))
    );
}

#[test]
fn an_archive_that_becomes_unavailable_is_a_failure_and_no_finding() {
    let mut scene = store();
    scene.hurry();
    let_the_survey_through(&scene);
    let away = Fault::Answer { status: 503, code: "SlowDown", message: "No" };
    scene.store.break_with(Matching::GetsFrom("000000010000000000000005"), away.clone());
    scene.store.break_with(Matching::Heads, away);
    let output = support::store_cluster::CallOutput::of(verify(&scene, &["--json"]));
    output.is_error(1, &["SlowDown", "--resume"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["ok"], &json["failures"]), (&json!(false), &json!(0)));
    assert_eq!(json["content"]["checked_up_to"], NEEDED);
    assert_eq!(json["present"]["recoverable"], true, "as far as was looked");
    assert_eq!(report(&scene)["checked_up_to"], NEEDED);
    scene.relax();
    scene.store.heal();
    VerifyOutput::of(verify(&scene, &["--resume"])).says(&[]);
}

#[test]
fn a_file_that_the_archive_does_not_return_is_a_finding() {
    let mut scene = store();
    scene.hurry();
    let_the_survey_through(&scene);
    let broken = Fault::Answer { status: 500, code: "InternalError", message: "No" };
    scene.store.break_with(Matching::GetsFrom("000000010000000000000006"), broken);
    let mut verdict = VerifyOutput::of(verify(&scene, &[]));
    assert!(verdict.stderr.lines().all(|line| line.starts_with("walkeep: warning: ")), "{}", verdict.stderr);
    verdict.stderr.clear();
    verdict.says(&[("failure", "unreadable", &name(1, 6))]);
    verdict.means(&name(1, 6), &["InternalError", "\"nightly\""]);
}

#[test]
fn a_file_that_this_user_may_not_read_is_a_finding_and_ends_nothing() {
    let archive = Verified::new();
    let closed = Permissions::set(&archive.file(NEEDED), 0o000);
    let verified = archive.verify(&["--timeout", "500ms"]);
    drop(closed);
    assert_eq!(verified.status, 1, "{}", verified.stderr);
    assert!(verified.findings().contains(&("failure", "unreadable", NEEDED)), "{:#}", verified.json);
}

#[test]
fn a_file_in_a_newer_format_is_unreadable_and_not_damaged() {
    let archive = Verified::new();
    let sound = fs::read(archive.file(NEEDED)).unwrap();
    archive.put(NEEDED, resealed(&sound, "\"format\":1", "\"format\":2"));
    archive.verify(&[]).says(&[("failure", "unreadable", NEEDED)]);
}

#[test]
fn a_wrong_position_is_found_even_with_a_forged_header() {
    let archive = Verified::new();
    // The content of segment 5 under the name of segment 4.
    archive.remove(NEEDED);
    let forged = resealed(&fs::read(archive.file(LAST)).unwrap(), LAST, NEEDED);
    archive.put(NEEDED, forged);
    archive.verify(&["--deep"]).says(&[("failure", "wrong_place", NEEDED)]);
    archive.verify(&[]).says(&[]);
}
