//! `walkeep verify` distinguishes files deleted while it runs from those that the archive lists and does not have;
//! both are failures if needed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use rustix::process::Signal;
use support::{
    push::succeeds,
    store::fault::{Fault, Matching},
    store_cluster::CallOutput,
    store_scene::StoreScene,
    verified::{BACKUP, LAST, NEEDED, OLD, START, VerifyOutput, backup_history, content, name},
    verified_store::{interrupted, remove, report, store, verified_while, verify},
};

/// Response of a store that has lost an object and still lists it.
fn lost() -> Fault {
    Fault::Answer { status: 404, code: "NoSuchKey", message: "The specified key does not exist." }
}

#[test]
fn a_segment_that_is_listed_but_inaccessible_is_a_failure() {
    let scene = store();
    scene.store.break_with(Matching::Of(NEEDED), lost());
    for options in [&[][..], &["--deep"]] {
        let verdict = VerifyOutput::of(verify(&scene, options));
        verdict.says(&[("failure", "unreadable", NEEDED)]);
        verdict.means(NEEDED, &["lists it", "\"nightly\"", "cannot be recovered beyond"]);
        assert_eq!(verdict.json["present"]["recoverable"], false);
        let counted =
            ["checked_files", "uncompared_files", "gone_files"].map(|field| verdict.content(field).as_u64());
        assert_eq!(counted, [Some(6), Some(1), Some(0)]);
    }
    assert_eq!((&report(&scene)["ok"], &report(&scene)["uncompared_files"]), (&false.into(), &1.into()));
    // WAL before the base backup is not needed.
    scene.store.heal();
    scene.store.break_with(Matching::Of(OLD), lost());
    VerifyOutput::of(verify(&scene, &[])).says(&[("note", "unreadable", OLD)]);
}

#[test]
fn a_text_file_that_is_listed_but_inaccessible_is_a_failure() {
    let scene = store();
    scene.store.break_with(Matching::Of(BACKUP), lost());
    for options in [&["--names-only"][..], &[]] {
        let verdict = VerifyOutput::of(verify(&scene, options));
        verdict.says(&[("failure", "unreadable", BACKUP), ("note", "no_backup", "base backups")]);
        assert_eq!(
            (verdict.content("uncompared_files"), verdict.content("gone_files")),
            (&1.into(), &0.into())
        );
    }
}

#[test]
fn a_needed_file_deleted_in_the_meantime_is_a_gap() {
    let mut scene = store();
    let verdict = verified_while(&mut scene, &[], NEEDED, |scene| remove(scene, LAST));
    verdict.says(&[("failure", "gap", LAST)]);
    verdict.means(LAST, &["\"nightly\"", NEEDED, "and not beyond"]);
    assert_eq!((verdict.content("gone_files"), verdict.content("checked_files")), (&1.into(), &6.into()));
    assert_eq!(report(&scene)["ok"], false);
}

#[test]
fn files_deleted_by_a_prune_in_the_meantime_are_no_failure() {
    let mut scene = store();
    let newer = format!("{}.00000028.backup", name(1, 5));
    scene.primary.file(&format!("pg_wal/{newer}"), backup_history(5, 5, "newer"));
    succeeds(scene.push(&newer));
    let verdict = verified_while(&mut scene, &[], OLD, |scene| {
        for name in [BACKUP, &name(1, 1), OLD, START, NEEDED] {
            remove(scene, name);
        }
    });
    verdict.says(&[]);
    assert_eq!(verdict.content("gone_files"), 3);
    assert_eq!(verdict.json["backups"].as_array().unwrap().len(), 1);
    assert_eq!(verdict.json["totals"]["files"], 3);
}

#[test]
fn a_file_in_cold_storage_is_not_counted_as_compared() {
    let scene = store();
    let cold = || Fault::Answer { status: 403, code: "InvalidObjectState", message: "It is in GLACIER." };
    for number in 7..=20 {
        let name = name(1, number);
        scene.primary.file(&format!("pg_wal/{name}"), content(&name));
        succeeds(scene.push(&name));
    }
    // More refusals in a row than end the verification of an unavailable archive.
    scene.store.break_with(Matching::Of(BACKUP), Fault::None);
    scene.store.break_with(Matching::GetsBefore("000000010000000000000013"), cold());
    let verdict = VerifyOutput::of(verify(&scene, &["--deep"]));
    assert_eq!((verdict.status, verdict.stderr.as_str()), (1, ""));
    assert_eq!(
        (verdict.content("checked_files"), verdict.content("uncompared_files")),
        (&3.into(), &18.into())
    );
    verdict.means(NEEDED, &["cold storage", "\"nightly\""]);
    let output = CallOutput::of(verify(&scene, &[])).text();
    let counted =
        "the contents of 3 files compared with what was stored, 18 files that could not be compared";
    assert!(output.contains(counted), "{output}");
}

fn with_a_lost_segment(scene: &StoreScene) {
    scene.store.break_with(Matching::Of(START), lost());
}

#[test]
fn files_absent_before_an_interruption_are_looked_for_again() {
    let scene = store();
    with_a_lost_segment(&scene);
    interrupted(&scene, &[], Signal::TERM);
    let noted = report(&scene);
    assert_eq!(
        (&noted["checked_up_to"], &noted["went"][0], &noted["gone_files"]),
        (&NEEDED.into(), &START.into(), &1.into())
    );
    with_a_lost_segment(&scene);
    let verdict = VerifyOutput::of(verify(&scene, &["--resume"]));
    verdict.says(&[("note", "damaged", OLD), ("failure", "unreadable", START)]);
    let counted =
        ["checked_files", "uncompared_files", "gone_files"].map(|field| verdict.content(field).as_u64());
    assert_eq!(counted, [Some(6), Some(1), Some(0)]);
    assert_eq!(report(&scene).get("went"), None);
}
