//! Changes of an archive: deletions and reports, and their effect on listings and lookups.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;
use walkeep::{
    archive::{ArchivedFile, Conditions, Report},
    error::ErrorKind,
};

use super::backend::{Backend, Scene, run};
use super::listings::{MANY, many};
use super::promises::{NAMES, SEGMENT, content, name};

impl Scene<'_> {
    async fn files(&self) -> Vec<ArchivedFile> {
        self.archive.inventory(self.system).await.unwrap().files
    }

    /// Deletes files. Returns the indices of those that the archive reports as deleted.
    async fn delete(&self, files: &[ArchivedFile]) -> Vec<usize> {
        let mut gone = Vec::new();
        let never = CancellationToken::new();
        self.archive.delete(self.system, files, &never, &mut |index| gone.push(index)).await.unwrap();
        gone
    }
}

pub fn listings_and_lookups_show_every_change_at_once(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let (archive, system) = (&scene.archive, scene.system);
        let history = "00000009.history";
        scene.create(history, content("stays")).await;
        for round in 0..3 {
            for file in NAMES {
                assert!(!archive.holds(system, name(file)).await.unwrap(), "{round} {file}");
                assert_eq!(scene.read(file).await.unwrap_err().kind(), ErrorKind::Absent);
                scene.create(file, content(file)).await;
                assert!(archive.holds(system, name(file)).await.unwrap(), "{round} {file}");
                assert!(archive.held_among(system, [name(file)]).await.unwrap().contains(&name(file)));
                assert_eq!(scene.read(file).await.unwrap(), file.as_bytes());
                assert_eq!(scene.files().await.len(), 2);
                let files = scene.files().await;
                let listed: Vec<_> =
                    files.iter().filter(|found| found.name == name(file).into()).copied().collect();
                assert_eq!(scene.delete(&listed).await, [0], "{round} {file}");
                assert_eq!(scene.files().await.len(), 1);
                assert!(!archive.held_among(system, [name(file)]).await.unwrap().contains(&name(file)));
            }
        }
    });
}

pub fn deleted_files_are_gone_and_all_others_stay(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        for file in many().iter().take(6) {
            scene.create(file, content("x")).await;
        }
        let files = scene.files().await;
        let (some, rest) = files.split_at(3);
        let gone: BTreeSet<_> = scene.delete(some).await.into_iter().collect();
        assert_eq!(gone, BTreeSet::from([0, 1, 2]));
        assert_eq!(scene.files().await, rest);
        // Deleting an absent file is no error. A directory does not report it as deleted.
        let gone = scene.delete(&files[2..4]).await;
        assert!(gone.contains(&1) && (!backend.is_directory() || gone == [1]), "{gone:?}");
        assert_eq!(scene.files().await, rest[1..]);
        scene.delete(&[]).await;
        assert_eq!(scene.files().await, rest[1..]);
        // The name is free again.
        scene.create(&files[0].name.to_string(), content("anew")).await;
        assert_eq!(scene.read(&files[0].name.to_string()).await.unwrap(), b"anew");
    });
}

pub fn more_than_a_thousand_files_are_deleted(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        scene.put_segments(&many());
        let files = scene.files().await;
        let (last, all_but_one) = files.split_last().unwrap();
        let gone: BTreeSet<_> = scene.delete(all_but_one).await.into_iter().collect();
        assert!(gone == (0..MANY - 1).collect(), "{}: {gone:?}", gone.len());
        assert_eq!(scene.files().await, [*last]);
    });
}

pub fn a_stopped_deletion_deletes_nothing_more(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        for file in NAMES {
            scene.create(file, content("x")).await;
        }
        let (files, stop) = (scene.files().await, CancellationToken::new());
        stop.cancel();
        let mut gone = Vec::new();
        let deleted = scene.archive.delete(scene.system, &files, &stop, &mut |index| gone.push(index)).await;
        assert_eq!(deleted.unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!((gone, scene.files().await), (vec![], files));
    });
}

pub fn leftovers_of_pushes_are_listed_and_deleted(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        scene.create(SEGMENT, content("x")).await;
        let left = ["wal/0000000100000009/000000010000000900000002#17", "timelines/00000002.history#3"];
        for key in left {
            scene.put_of_system(key, b"half");
        }
        let staged = scene.archive.inventory(scene.system).await.unwrap().staged;
        let keys: BTreeSet<_> = staged.iter().map(|file| file.key.clone()).collect();
        assert_eq!(keys, left.map(|key| format!("{}/{key}", scene.system)).into());
        let mut gone = Vec::new();
        let never = CancellationToken::new();
        scene.archive.delete_staged(&staged, &never, &mut |index| gone.push(index)).await.unwrap();
        gone.sort_unstable();
        assert_eq!(gone, [0, 1]);
        let inventory = scene.archive.inventory(scene.system).await.unwrap();
        assert_eq!((inventory.staged.len(), inventory.files.len(), inventory.unknown.len()), (0, 1, 0));
        // Only a directory of segments can be empty.
        let empty: Vec<_> = inventory.empty.iter().map(|directory| directory.key.clone()).collect();
        let group = format!("{}/wal/0000000100000009", scene.system);
        assert_eq!(empty, if backend.is_directory() { vec![group] } else { vec![] });
        scene.archive.remove_empty(&inventory.empty, &mut |_| ()).await;
        assert_eq!(scene.archive.inventory(scene.system).await.unwrap().empty, []);
    });
}

pub fn a_report_is_replaced_and_is_no_archived_file(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let (archive, system) = (&scene.archive, scene.system);
        scene.create(SEGMENT, content("x")).await;
        assert_eq!(archive.read_report(system, Report::Prune).await.unwrap(), None);
        for text in ["{}", "{\"more\": 1}"] {
            archive.write_report(system, Report::Prune, text.to_owned()).await.unwrap();
            assert_eq!(archive.read_report(system, Report::Prune).await.unwrap().as_deref(), Some(text));
        }
        assert_eq!(archive.read_report(system, Report::Verify).await.unwrap(), None);
        let inventory = archive.inventory(system).await.unwrap();
        assert_eq!((inventory.files.len(), inventory.unknown.len(), inventory.staged.len()), (1, 0, 0));
    });
}

pub fn a_probe_tells_what_the_backend_can_do(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let probe = scene.archive.probe();
        assert!(!probe.is_listed().await.unwrap());
        probe.create().await.unwrap();
        let conditions =
            if backend.honours_conditions() { Conditions::Honoured } else { Conditions::Ignored };
        assert_eq!(probe.create_again().await.unwrap(), conditions);
        probe.read().await.unwrap();
        assert!(probe.is_listed().await.unwrap());
        probe.remove().await.unwrap();
        assert!(!probe.is_listed().await.unwrap());
        assert!(probe.read().await.is_err());
    });
}
