//! Rights, versions and locks of Amazon's store, as moto imitates them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use jiff::Timestamp;
use serde_json::Value;
use support::{
    data_directory::SEGMENT,
    push::{fails, succeeds},
    running::outcome_of,
    store::moto::{
        Moto,
        User::{self, Archive, Everything, WithoutGet, WithoutList, WithoutPut},
    },
    store_cluster::CallOutput,
    store_rounds::{
        fill, is_found_whole, is_used, knows_what_is_absent, prunes, refuses_other_content, restore_fails,
        walkeep,
    },
    store_scene::StoreScene,
};

fn scene(bucket: &str) -> StoreScene {
    let moto = Moto::shared();
    StoreScene::elsewhere(moto.environment(Everything), &moto.archive(bucket))
}

fn become_user(scene: &mut StoreScene, user: User) {
    for (variable, value) in Moto::shared().environment(user) {
        scene.set(variable, &value);
    }
}

#[test]
fn an_archive_in_moto_is_filled_read_verified_and_pruned() {
    is_used(&scene("wal"));
}

// Rights.

#[test]
fn the_rights_that_the_guide_asks_for_suffice_to_archive_and_restore() {
    let mut scene = scene("wal");
    become_user(&mut scene, Archive);
    fill(&scene);
    refuses_other_content(&scene);
    knows_what_is_absent(&scene);
    is_found_whole(&scene);
}

#[test]
fn a_right_that_a_policy_does_not_give_is_named() {
    let mut scene = scene("wal");
    fill(&scene);
    become_user(&mut scene, WithoutPut);
    scene.primary.segment("000000010000000000000009", 9);
    fails(2, scene.push("000000010000000000000009"), &["403 Forbidden (AccessDenied", "s3:PutObject"]);
    become_user(&mut scene, WithoutGet);
    restore_fails(&scene, 255, &["403 Forbidden (AccessDenied", "s3:GetObject"]);
    become_user(&mut scene, WithoutList);
    let outcome = outcome_of(scene.restore(&scene.recovery, "000000010000000000000009"));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("s3:ListBucket"), "{}", outcome.stderr);
    become_user(&mut scene, Archive);
    let pruned =
        CallOutput::of(walkeep(&scene, &["prune", "--keep-backups", "1", "--backup-may-take", "0s"]));
    assert_eq!(pruned.status, 2, "{}", pruned.text());
    assert!(pruned.stderr.contains("s3:DeleteObject"), "{}", pruned.stderr);
}

#[test]
fn a_wrong_secret_is_no_end_of_the_log() {
    let mut scene = scene("wal");
    fill(&scene);
    scene.set("AWS_SECRET_ACCESS_KEY", "wrong");
    fails(
        2,
        scene.push(SEGMENT),
        &["SignatureDoesNotMatch", "the secret key does not belong to the access key"],
    );
    restore_fails(&scene, 255, &["SignatureDoesNotMatch"]);
}

// Versions and locks.

/// Returns what a prune without work says of older versions.
fn retained(scene: &StoreScene) -> Value {
    let arguments = ["prune", "--keep-backups", "1", "--backup-may-take", "0s", "--dry-run", "--json", "-v"];
    let output = CallOutput::of(walkeep(scene, &arguments));
    assert_eq!(output.status, 0, "{}", output.stderr);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(printed["retained"].is_object(), "{}", output.stderr);
    printed["retained"].clone()
}

#[test]
fn what_is_pruned_in_a_versioned_bucket_is_not_there_its_name_is_free_and_its_old_version_stays() {
    let moto = Moto::shared();
    let archive = moto.archive("versioned");
    let scene = StoreScene::elsewhere(moto.environment(Everything), &archive);
    fill(&scene);
    let (before, none) = moto.versions(&archive);
    assert_eq!((before, none), (7, 0));
    prunes(&scene);
    // The report is a file, too.
    assert_eq!(moto.versions(&archive), (before + 1, 2));
    let retained = retained(&scene);
    assert_eq!(
        (&retained["files"], &retained["locked_until"]),
        (&Value::from(2), &Value::Null),
        "{retained}"
    );
    is_found_whole(&scene);
    scene.primary.segment(SEGMENT, 0);
    succeeds(scene.push(SEGMENT));
    refuses_other_content(&scene);
}

#[test]
fn a_bucket_with_a_default_retention_takes_files_with_a_checksum_and_keeps_what_is_pruned() {
    let moto = Moto::shared();
    let archive = moto.archive("locked");
    let mut scene = StoreScene::elsewhere(moto.environment(Everything), &archive);
    scene.primary.segment(SEGMENT, 0);
    fails(2, scene.push(SEGMENT), &["object lock wants a checksum", "checksum_algorithm = \"sha256\""]);
    scene.configure("checksum_algorithm = \"sha256\"");
    fill(&scene);
    refuses_other_content(&scene);
    is_found_whole(&scene);
    let (before, _) = moto.versions(&archive);
    prunes(&scene);
    assert_eq!(moto.versions(&archive), (before + 1, 2));
    let retained = retained(&scene);
    assert_eq!(retained["files"], 2, "{retained}");
    let until: Timestamp = retained["locked_until"].as_str().unwrap().parse().unwrap();
    assert!(until > Timestamp::now(), "{retained}");
    is_found_whole(&scene);
}

#[test]
fn motos_condition_is_trusted_when_the_setting_says_so() {
    let mut scene = scene("wal");
    scene.configure("conditional_put = \"yes\"");
    scene.primary.segment(SEGMENT, 0);
    succeeds(scene.push(SEGMENT));
    succeeds(scene.push(SEGMENT));
    refuses_other_content(&scene);
}
