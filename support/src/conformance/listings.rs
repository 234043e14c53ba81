//! Listings: complete, in order, and of archived files alone.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use walkeep::{
    archive::{ArchivedFile, TextFiles},
    wal::{SegmentName, TimelineId},
};

use super::backend::{Backend, Scene, run};
use super::promises::{NAMES, SEGMENT, content, name};

/// Number of files: more than a page of any store's listing.
pub const MANY: usize = 1100;

/// Returns the names of [`MANY`] segments, in order: five logs of each of two timelines.
pub fn many() -> Vec<String> {
    let names = (0..MANY).map(|number| {
        let (timeline, log) = (1 + number / (MANY / 2), number % (MANY / 2) / 110);
        format!("{timeline:08X}{log:08X}{:08X}", number % 110)
    });
    names.collect()
}

fn names(files: &[ArchivedFile]) -> Vec<String> {
    files.iter().map(|file| file.name.to_string()).collect()
}

impl Scene<'_> {
    /// Writes segments as if they had been archived.
    pub fn put_segments(&self, segments: &[String]) {
        let files = segments.iter().map(|segment| (format!("wal/{}/{segment}", &segment[..16]), &b"x"[..]));
        let files: Vec<_> = files.collect();
        self.put_many_of_system(&files);
    }
}

pub fn a_listing_is_complete_and_in_order_beyond_a_thousand_names(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let (archive, system) = (&scene.archive, scene.system);
        let mut expected = many();
        scene.put_segments(&expected);
        for file in [
            "00000002.history",
            "000000010000000000000003.00000028.backup",
            "0000000100000000000000FE.partial",
        ] {
            scene.create(file, content("longer")).await;
            expected.push(file.to_owned());
        }
        let inventory = archive.inventory(system).await.unwrap();
        let listed = names(&inventory.files);
        assert!(inventory.files.is_sorted_by_key(|file| file.name), "in the order of names");
        assert_eq!(listed.len(), expected.len());
        let all: BTreeSet<String> = listed.into_iter().collect();
        assert!(all == expected.into_iter().collect(), "all of them, and each once");
        for file in &inventory.files {
            let size = if many().contains(&file.name.to_string()) { 1 } else { 6 };
            assert_eq!(file.stored_size, size, "{}", file.name);
        }
        assert_eq!((inventory.staged, inventory.unknown, inventory.empty), (vec![], vec![], vec![]));
        // More than a page in one directory.
        let histories: Vec<String> =
            (3..MANY + 3).map(|timeline| format!("{timeline:08X}.history")).collect();
        let files: Vec<_> = histories.iter().map(|file| (format!("timelines/{file}"), &b"x"[..])).collect();
        scene.put_many_of_system(&files);
        let listed = archive.text_files(system, TextFiles::Histories).await.unwrap();
        assert!(listed.is_sorted_by_key(|file| file.name));
        assert_eq!(listed.len(), MANY + 1);
        assert_eq!(archive.timelines(system).await.unwrap().len(), MANY + 1);
        assert_eq!(archive.inventory(system).await.unwrap().files.len(), 2 * MANY + 3);
    });
}

pub fn the_parts_of_an_archive_are_listed_by_themselves(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let (archive, system) = (&scene.archive, scene.system);
        let text_files = async |kind| names(&archive.text_files(system, kind).await.unwrap());
        for kind in [TextFiles::Histories, TextFiles::Backups] {
            assert_eq!(text_files(kind).await, [""; 0], "of an empty archive");
        }
        for file in [
            "000000010000000000000003",
            "000000010000000000000002",
            "0000000100000001000000FF.partial",
            "000000020000000000000004",
            "00000003.history",
            "00000002.history",
            "000000010000000000000003.00000028.backup",
            "000000010000000000000002.00000028.backup",
        ] {
            scene.create(file, content("x")).await;
        }
        assert_eq!(text_files(TextFiles::Histories).await, ["00000002.history", "00000003.history"]);
        let backups =
            ["000000010000000000000002.00000028.backup", "000000010000000000000003.00000028.backup"];
        assert_eq!(text_files(TextFiles::Backups).await, backups);
        let mut timelines = archive.timelines(system).await.unwrap();
        timelines.sort_unstable();
        assert_eq!(timelines, [2, 3].map(|number| TimelineId::new(number).unwrap()));
        let segments = async |group| names(&archive.segments_of(system, group).await.unwrap());
        assert_eq!(
            segments("0000000100000000").await,
            ["000000010000000000000002", "000000010000000000000003"]
        );
        assert_eq!(segments("0000000100000001").await, [""; 0], "a .partial is no segment");
        assert_eq!(segments("0000000900000001").await, [""; 0]);
        let newest = archive.newest_segments(system).await.unwrap();
        assert_eq!(names(&newest), ["000000010000000000000003", "000000020000000000000004"]);
        let newest = archive.newest_segment(system).await.unwrap().unwrap();
        assert_eq!(newest.name.to_string(), "000000020000000000000004");
        let groups = archive.latest_segments(system).await.unwrap().names;
        assert_eq!(
            groups,
            ["0000000100000000", "0000000100000001", "0000000200000000"].map(str::to_owned).into()
        );
    });
}

pub fn an_unknown_file_is_never_taken_for_an_archived_file(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let (archive, system) = (&scene.archive, scene.system);
        for file in NAMES {
            scene.create(file, content("x")).await;
        }
        let segment = format!("wal/0000000100000000/{SEGMENT}");
        let odd = [
            format!("{segment}.gz"),
            format!("{segment} (copy)"),
            format!("{segment}.tmp"),
            "wal/0000000100000001/000000010000000000000001".to_owned(),
            "wal/0000000100000000/00000001000000000000000a".to_owned(),
            "timelines/00000009.history~".to_owned(),
            "timelines/\u{fc}ml\u{e4}ut & <sign>.history".to_owned(),
            "backups/what is 100% sure?".to_owned(),
            "000000010000000000000007".to_owned(),
        ];
        for key in &odd {
            scene.put_of_system(key, b"not mine");
        }
        let inventory = archive.inventory(system).await.unwrap();
        let mut expected = NAMES.to_vec();
        expected.sort_unstable();
        let mut listed = names(&inventory.files);
        listed.sort_unstable();
        assert_eq!(listed, expected);
        let unknown: BTreeSet<_> =
            inventory.unknown.iter().map(|file| (file.key.as_str(), file.size)).collect();
        let keys = odd.each_ref().map(|key| format!("{system}/{key}"));
        let keys: BTreeSet<_> = keys.iter().map(|key| (key.as_str(), 8)).collect();
        assert_eq!(unknown, keys);
        assert_eq!(archive.text_files(system, TextFiles::Histories).await.unwrap().len(), 1);
        assert_eq!(archive.text_files(system, TextFiles::Backups).await.unwrap().len(), 1);
        assert_eq!(archive.timelines(system).await.unwrap().len(), 1);
        assert_eq!(names(&archive.newest_segments(system).await.unwrap()), [SEGMENT]);
        let lowest = archive.lowest_segment(system, TimelineId::FIRST).await.unwrap();
        assert_eq!(lowest.unwrap().to_string(), SEGMENT);
        assert_eq!(archive.systems().await.unwrap(), [system]);
    });
}

pub fn the_surroundings_of_a_segment_are_found(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        let (archive, system) = (&scene.archive, scene.system);
        let segment = |text: &str| -> SegmentName { text.parse().unwrap() };
        let around = async |text| archive.surroundings(system, segment(text)).await.unwrap();
        for file in [
            "0000000200000001000000FE",
            "0000000200000001000000FF",
            "0000000200000003000000AA",
            "000000020000000300000009",
        ] {
            scene.create(file, content("x")).await;
        }
        let missing = "000000020000000200000000";
        let found = around(missing).await;
        assert_eq!(found.later.map(|(later, _)| later), Some(segment("000000020000000300000009")));
        let age = Timestamp::now().duration_since(found.later.unwrap().1);
        assert!(age.abs() < SignedDuration::from_mins(5), "{age:#}");
        assert!(!found.is_there && !found.partial && !found.higher_timelines, "{found:?}");
        scene.create(&format!("{missing}.partial"), content("x")).await;
        assert!(around(missing).await.partial);
        scene.create(missing, content("x")).await;
        assert!(around(missing).await.is_there);
        let end = around("0000000200000003000000AB").await;
        assert!(end.later.is_none() && !end.is_there && !end.higher_timelines, "{end:?}");
        scene.create("000000030000000000000001", content("x")).await;
        assert!(around("0000000200000003000000AB").await.higher_timelines);
        assert!(around("000000010000000000000001").await.later.is_none());
        let lowest = async |number| {
            let timeline = TimelineId::new(number).unwrap();
            archive.lowest_segment(system, timeline).await.unwrap().map(|segment| segment.to_string())
        };
        assert_eq!(lowest(1).await, None);
        assert_eq!(lowest(2).await.as_deref(), Some("0000000200000001000000FE"));
        assert_eq!(lowest(3).await.as_deref(), Some("000000030000000000000001"));
        assert_eq!(lowest(4).await, None);
    });
}

pub fn the_time_of_a_file_is_that_of_its_creation(backend: &dyn Backend) {
    run(async {
        let scene = Scene::new(backend).await;
        scene.create(SEGMENT, content("x")).await;
        let file = scene.archive.inventory(scene.system).await.unwrap().files[0];
        let age = Timestamp::now().duration_since(file.since);
        assert!(age.abs() < SignedDuration::from_mins(5), "{age:#}");
        // Other listings agree.
        let newest = scene.archive.newest_segment(scene.system).await.unwrap().unwrap();
        assert!(newest.since.duration_since(file.since).abs() < SignedDuration::from_secs(1), "{newest:?}");
        assert_eq!((newest.name, newest.stored_size), (file.name, 1));
        assert_eq!(file.name, name(SEGMENT).into());
    });
}
