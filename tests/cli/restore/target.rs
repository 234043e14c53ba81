//! The target `%p` of `walkeep-restore`: a complete file with the permissions of the server's umask, or exactly what
//! was there before.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use support::{
    data_directory::SEGMENT,
    files::{Permissions, names_in},
    restore::{Scene, TARGET},
    running::outcome_of,
    user,
    wrapper::in_shell,
};

const ABSENT: &str = "000000010000000000000002";

#[test]
fn an_existing_file_is_replaced_by_the_complete_one() {
    let (scene, content) = Scene::with_segment();
    for before in [&b""[..], b"rubbish", &vec![7; 3 << 20]] {
        scene.recovery.file(TARGET, before);
        assert!(scene.restored(SEGMENT) == content);
    }
}

#[test]
fn an_open_old_file_stays_unchanged() {
    let (scene, content) = Scene::with_segment();
    // A hard link shows that nothing is written into the old file.
    let path = scene.recovery.file(TARGET, "old");
    fs::hard_link(&path, scene.recovery.join("second-name")).unwrap();
    assert!(scene.restored(SEGMENT) == content);
    assert_eq!(fs::read(scene.recovery.join("second-name")).unwrap(), b"old");
}

#[test]
fn a_symbolic_link_is_replaced_and_not_followed() {
    let (scene, content) = Scene::with_segment();
    let elsewhere = scene.sandbox.file("elsewhere", "untouched");
    symlink(&elsewhere, scene.recovery.join(TARGET)).unwrap();
    assert!(scene.restored(SEGMENT) == content);
    assert_eq!(fs::read(elsewhere).unwrap(), b"untouched");
}

#[test]
fn an_existing_file_stays_unchanged_if_the_restore_fails() {
    let (scene, _) = Scene::with_segment();
    let path = scene.recovery.file(TARGET, "what was here before");
    let before = fs::metadata(&path).unwrap();
    let mut damaged = scene.archived(SEGMENT);
    *damaged.last_mut().unwrap() ^= 1;
    scene.put(SEGMENT, damaged);
    for (name, status) in [(SEGMENT, 255), (ABSENT, 1), ("no name", 255)] {
        assert_eq!(outcome_of(scene.restore(&scene.recovery, name)).status, status, "{name}");
        assert_eq!(fs::read(&path).unwrap(), b"what was here before", "{name}");
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino(), "{name}");
        assert_eq!(names_in(&scene.recovery.join("pg_wal")), ["RECOVERYXLOG"], "{name}");
    }
}

#[test]
fn the_umask_decides_who_may_read_the_restored_file() {
    let (scene, _) = Scene::with_segment();
    // 077 is the server's umask, 027 that of a cluster that grants access to its group. 022 is a shell's default, and
    // nobody wants WAL to be readable for all.
    for (umask, mode) in [("077", 0o600), ("027", 0o640), ("022", 0o600)] {
        let restore = scene.restore(&scene.recovery, SEGMENT);
        let restore = in_shell(&scene.sandbox, &format!("umask {umask}; exec \"$@\""), &restore);
        assert_eq!(outcome_of(restore).status, 0);
        let restored = fs::metadata(scene.recovery.join(TARGET)).unwrap();
        assert_eq!(restored.permissions().mode() & 0o7777, mode, "umask {umask}");
        assert_eq!(restored.uid(), user::uid());
    }
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let (scene, _) = Scene::with_segment();
    for server in [&scene.recovery, &scene.standby] {
        fs::rename(server.join("pg_wal"), server.join("gone")).unwrap();
    }
    for (server, status) in [(&scene.recovery, 255), (&scene.standby, 75)] {
        let outcome = outcome_of(scene.restore(server, SEGMENT));
        assert_eq!((outcome.status, outcome.stderr.lines().count()), (status, 1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("cannot write pg_wal: "), "{}", outcome.stderr);
        assert!(!server.join("pg_wal").exists());
        assert_eq!(names_in(&server.join("gone")), [""; 0]);
    }
}

#[test]
fn a_directory_without_write_permission_is_an_error_that_names_it() {
    let (scene, _) = Scene::with_segment();
    let servers = [&scene.recovery, &scene.standby];
    let _closed = servers.map(|server| Permissions::set(&server.join("pg_wal"), 0o555));
    scene.cannot_tell(SEGMENT, "cannot write pg_wal: ");
}

#[test]
fn a_directory_under_the_files_name_is_an_error() {
    let (scene, _) = Scene::with_segment();
    let path = scene.recovery.join(TARGET);
    fs::create_dir(&path).unwrap();
    let outcome = outcome_of(scene.restore(&scene.recovery, SEGMENT));
    assert_eq!((outcome.status, outcome.stderr.lines().count()), (255, 1), "{}", outcome.stderr);
    assert_eq!(names_in(&scene.recovery.join("pg_wal")), ["RECOVERYXLOG"]);
    assert!(path.is_dir());
}

#[test]
fn a_path_without_a_directory_is_relative_to_the_working_directory() {
    let (scene, content) = Scene::with_segment();
    let mut restore = scene.command(&scene.recovery);
    restore.args([SEGMENT, "file"]);
    assert_eq!(outcome_of(restore).status, 0);
    assert!(fs::read(scene.recovery.join("file")).unwrap() == content);
}
