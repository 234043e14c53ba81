//! Isolation of prefetchers: their segments belong to one data directory, one cluster and one archive.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, process::Command};

use support::{
    archive::ArchiveDirectory,
    data_directory::{DataDirectory, SEGMENT_BYTES, segment},
    output_of,
    prefetcher::{From, PrefetchScene, name, restored_as, restored_by},
    push::{OTHER_SYSTEM, succeeds},
    restore::{SYSTEM, TARGET},
    user, wait_until,
};

/// Returns a call of another server for a segment of `system`, with its archive.
fn call_of(scene: &PrefetchScene, server: &DataDirectory, archive: &ArchiveDirectory, name: &str) -> Command {
    let mut call = server.run(scene.scene.sandbox.walkeep_restore());
    call.args(["--archive", archive.url(), "-v", name, TARGET]);
    call
}

#[test]
fn two_clusters_of_one_archive_get_their_own() {
    let scene = PrefetchScene::with(1..=4);
    let (sandbox, archive) = (&scene.scene.sandbox, &scene.scene.archive);
    let other = DataDirectory::new(sandbox, "other", OTHER_SYSTEM);
    let others = [1, 2, 3, 4].map(|number| (name(number), other.segment(&name(number), 200)));
    for (name, _) in &others {
        let mut push = other.run(sandbox.walkeep_archive());
        push.args(["--archive", archive.url()]).arg(format!("pg_wal/{name}"));
        succeeds(push);
    }
    for (number, (name, content)) in (1..=4).zip(&others) {
        assert_eq!(scene.restored(name) == From::Prefetcher, number > 1);
        let call = call_of(&scene, &other, archive, name);
        assert_eq!(restored_as(call, &other, name, content) == From::Prefetcher, number > 1);
        if number == 1 {
            wait_until("both hold all", || {
                let all = scene.prefetchers.all();
                all.len() == 2 && all.iter().all(|prefetcher| prefetcher.held() == 3)
            });
        }
    }
    scene.prefetchers.wait_until_none();
}

#[test]
fn a_clone_of_the_data_directory_gets_no_segments_of_the_original() {
    let scene = PrefetchScene::with(1..=4);
    scene.scene.recovery.file("postmaster.pid", "17\n/data\n1700000000\n");
    let prefetcher = scene.prefetched(1, 3);
    let clone = DataDirectory::new(&scene.scene.sandbox, "clone", SYSTEM);
    clone.file("postmaster.pid", "17\n/data\n1700000000\n");
    let of_clone = |number| restored_by(scene.call(&clone, &name(number)), &clone, &name(number));
    assert_eq!(of_clone(2), From::Archive);
    wait_until("there are two", || scene.prefetchers.all().len() == 2);
    assert_eq!(prefetcher.held(), 3, "nothing has been taken from it");
    assert_eq!(scene.restored_all(2..=4), 3);
}

#[test]
fn another_archive_with_the_same_names_provides_its_own() {
    let scene = PrefetchScene::with(1..=4);
    let sandbox = &scene.scene.sandbox;
    let other = sandbox.directory("other");
    let elsewhere =
        [1, 2, 3].map(|number| (name(number), segment(&name(number), SYSTEM, SEGMENT_BYTES, 201)));
    for (name, content) in &elsewhere {
        scene.scene.primary.file(&format!("pg_wal/{name}"), content);
        let mut push = scene.scene.primary.run(sandbox.walkeep_archive());
        output_of(push.arg("--archive").arg(&other).arg(format!("pg_wal/{name}")));
    }
    let from_other = |number: usize| {
        let (name, content) = &elsewhere[number - 1];
        let mut call = scene.scene.recovery.run(sandbox.walkeep_restore());
        call.arg("--archive").arg(&other).args(["-v", name, TARGET]);
        restored_as(call, &scene.scene.recovery, name, content)
    };
    scene.prefetched(1, 3);
    assert_eq!(from_other(2), From::Archive);
    wait_until("there are two", || scene.prefetchers.all().len() == 2);
    wait_until("both hold", || scene.prefetchers.all().iter().all(|prefetcher| prefetcher.held() > 0));
    assert_eq!(from_other(3), From::Prefetcher);
    assert_eq!(scene.restored_all(2..=4), 3);
}

#[test]
fn an_archive_that_replaces_another_provides_its_own() {
    let scene = PrefetchScene::with(1..=3);
    let prefetcher = scene.prefetched(1, 2);
    let archive = &scene.scene.archive;
    archive.vanish();
    fs::create_dir(archive.url()).unwrap();
    user::hand_over(archive.url().as_ref());
    let new = segment(&name(2), SYSTEM, SEGMENT_BYTES, 202);
    scene.archive_content(&name(2), &new);
    let call = scene.call(&scene.scene.recovery, &name(2));
    assert_eq!(restored_as(call, &scene.scene.recovery, &name(2), &new), From::Archive);
    assert_eq!(prefetcher.held(), 2);
}

#[test]
fn another_path_to_the_same_directory_leads_to_the_same_prefetcher() {
    let scene = PrefetchScene::with(1..=3);
    scene.prefetched(1, 2);
    let recovery = &scene.scene.recovery;
    let link = scene.scene.sandbox.join("link");
    std::os::unix::fs::symlink(recovery.join(""), &link).unwrap();
    // An absolute path, as pg_rewind uses, from a directory outside of any server.
    let mut call = scene.scene.sandbox.walkeep_restore();
    call.args(["--archive", scene.scene.archive.url(), "-v", &name(2)]).arg(link.join(TARGET));
    assert_eq!(restored_by(call, recovery, &name(2)), From::Prefetcher);
}
