//! `az://`, against Azure's own emulator.

use support::{
    data_directory::{SEGMENT, segment},
    push::{fails, succeeds},
    restore::SYSTEM,
    running::Running,
    store::azurite::Azurite,
    store_rounds::{
        FIRST_NEEDED, SEGMENTS, fill, is_used, listed, one_of_many_wins, restore_fails, says, walkeep,
    },
    store_scene::StoreScene,
};

fn scene() -> StoreScene {
    let azurite = Azurite::shared();
    StoreScene::elsewhere(azurite.environment(), &azurite.archive())
}

#[test]
fn an_archive_in_azurite_is_filled_read_verified_and_pruned() {
    let scene = scene();
    is_used(&scene);
    assert!(says(&scene, &["check"]).contains("az://wal/archive-"));
}

#[test]
fn of_ten_servers_that_archive_one_name_at_once_in_azurite_one_wins() {
    one_of_many_wins(&scene(), 10);
}

#[test]
fn a_file_too_large_for_memory_goes_to_azurite_and_back() {
    let scene = scene();
    let large = segment(SEGMENT, SYSTEM, 128 << 20, 3);
    scene.primary.file(&format!("pg_wal/{SEGMENT}"), &large);
    let mut push = scene.push(SEGMENT);
    push.args(["--compression", "none"]);
    succeeds(push);
    assert!(scene.original(SEGMENT) == large);
    scene.primary.segment(SEGMENT, 9);
    fails(3, scene.push(SEGMENT), &["different content"]);
}

#[test]
fn a_wrong_key_is_refused_and_is_no_end_of_the_log() {
    let mut scene = scene();
    fill(&scene);
    scene.set("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=");
    fails(2, scene.push(SEGMENT), &["403 Forbidden (AuthorizationFailure"]);
    restore_fails(&scene, 255, &["403 Forbidden"]);
}

#[test]
fn a_container_that_does_not_exist_is_no_end_of_the_log() {
    let mut scene = scene();
    scene.primary.segment(SEGMENT, 0);
    scene.archive_into("az://missing/main");
    fails(2, scene.push(SEGMENT), &["404 Not Found (ContainerNotFound", "the bucket does not exist there"]);
    restore_fails(&scene, 255, &["the bucket does not exist there"]);
}

#[test]
fn two_prunes_of_one_archive_in_azurite_do_not_disturb_each_other() {
    let scene = scene();
    fill(&scene);
    let prune =
        || Running::start(walkeep(&scene, &["prune", "--keep-backups", "1", "--backup-may-take", "0s"]));
    for prune in [prune(), prune()] {
        let outcome = prune.end();
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    }
    assert_eq!(listed(&scene), u64::from(SEGMENTS - FIRST_NEEDED + 1));
}
