//! Order of history files: a server that has diverged from the archive must not announce a timeline, and no segment
//! of a timeline is archived before its history file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, process::Command};

use support::{
    data_directory::DataDirectory,
    push::{BACKUP, BACKUP_CONTENT, HISTORY, Pusher, SYSTEM, fails, succeeds},
    ready::{make_file_ready, make_ready, make_segment_ready, mark, name, names},
    store::{
        Store,
        fault::{Fault, Matching},
    },
    user,
};

/// Timeline 2 left timeline 1 after segment 5.
const LEFT_BEHIND_5: &str = "1\t0/600000\tno recovery target specified\n";

/// Timeline 3 left timeline 1 at the start of segment 2.
const YOUNGER: &str = "00000003.history";
const LEFT_BEHIND_1: &str = "1\t0/200000\tno recovery target specified\n";

const ON_1: &str = "000000010000000000000007";
const ON_2: &str = "000000020000000000000006";
const ON_3: &str = "000000030000000000000006";
const ON_4: &str = "000000040000000000000006";

/// Two servers with a common past, and their archive.
struct Scene {
    pusher: Pusher,
    /// The server that has archived.
    original: DataDirectory,
}

impl Scene {
    /// Creates a promoted clone in which segments 2 to 5 wait, and the original, which differs from `parted` on and
    /// has archived `archived`.
    fn parted(parted: usize, archived: &[usize]) -> Self {
        let scene = Self::new(parted);
        for number in archived {
            succeeds(scene.original.run(scene.pusher.push(&name(*number))));
        }
        scene
    }

    fn new(parted: usize) -> Self {
        let pusher = Pusher::new();
        let original = DataDirectory::new(&pusher.sandbox, "original", SYSTEM);
        make_ready(&pusher.data, 2..=5);
        for number in 2..=5 {
            let path = format!("pg_wal/{}", name(number));
            if number < parted {
                original.file(&path, fs::read(pusher.data.join(&path)).unwrap());
            } else {
                original.segment(&name(number), 199);
            }
        }
        make_file_ready(&pusher.data, HISTORY, LEFT_BEHIND_5);
        make_segment_ready(&pusher.data, ON_2);
        Self { pusher, original }
    }

    fn names(&self) -> Vec<String> {
        self.pusher.archive.all_names(SYSTEM)
    }

    /// Returns the clone's push with one additional file.
    fn push_and_one(&self, name: &str) -> Command {
        let configuration = self.pusher.sandbox.file("walkeep.toml", "look_ahead_files = 1");
        self.pusher.push_with(&["--config", configuration.to_str().unwrap()], name)
    }
}

#[test]
fn a_diverged_clone_announces_no_timeline() {
    for (parted, archived) in [(2, &[2][..]), (3, &[2, 3]), (2, &[2, 3, 4, 5]), (4, &[4])] {
        let scene = Scene::parted(parted, archived);
        for _ in 0..2 {
            fails(3, scene.pusher.push(HISTORY), &["with different content", HISTORY]);
            assert_eq!(scene.names(), names(archived.iter().copied()), "{parted} {archived:?}");
        }
    }
}

#[test]
fn the_message_names_the_segment_and_what_to_type() {
    let scene = Scene::parted(2, &[2]);
    let data = fs::canonicalize(scene.pusher.data.join("")).unwrap();
    let cat = format!(
        "walkeep cat --archive {} --system-identifier {SYSTEM} {} | cmp - {}",
        scene.pusher.archive.url(),
        name(2),
        data.join("pg_wal").join(name(2)).display()
    );
    let words = ["whether two servers share the archive", "00000002.history is not archived before", &cat];
    fails(3, scene.pusher.push(HISTORY), &words);
    // The guide's recipe, once it is known that this server stays.
    fs::remove_file(scene.pusher.file(&name(2))).unwrap();
    succeeds(scene.pusher.push(HISTORY));
    assert_eq!(scene.names().len(), 6);
}

#[test]
fn a_diverged_clones_history_is_not_archived_by_another_call() {
    let scene = Scene::parted(2, &[2]);
    make_file_ready(&scene.pusher.data, YOUNGER, LEFT_BEHIND_1);
    succeeds(scene.push_and_one(YOUNGER));
    assert_eq!(scene.names(), [name(2), YOUNGER.to_owned()]);
}

#[test]
fn an_ordinary_promotion_is_announced() {
    for (parted, archived) in [(6, &[][..]), (6, &[2, 3]), (6, &[5])] {
        let scene = Scene::parted(parted, archived);
        succeeds(scene.pusher.push(HISTORY));
        assert_eq!(scene.names().len(), 6, "{archived:?}: {:?}", scene.names());
    }
}

#[test]
fn wal_after_the_fork_is_ignored() {
    const FORK: usize = 0x8128;
    let history = "1\t0/508128\tno recovery target specified\n";
    for (differs, status) in [(FORK, 0), (FORK - 1, 3)] {
        let scene = Scene::new(6);
        let path = format!("pg_wal/{}", name(5));
        let mut content = fs::read(scene.pusher.data.join(&path)).unwrap();
        content[differs] ^= 1;
        scene.original.file(&path, content);
        succeeds(scene.original.run(scene.pusher.push(&name(5))));
        make_file_ready(&scene.pusher.data, HISTORY, history);
        match status {
            0 => succeeds(scene.pusher.push(HISTORY)),
            status => drop(fails(status, scene.pusher.push(HISTORY), &["with different content"])),
        }
    }
    let scene = Scene::parted(2, &[2]);
    make_file_ready(&scene.pusher.data, HISTORY, LEFT_BEHIND_1);
    succeeds(scene.pusher.push(HISTORY));
}

#[test]
fn an_archived_history_is_only_compared() {
    let scene = Scene::parted(2, &[2]);
    scene.original.file(&format!("pg_wal/{HISTORY}"), LEFT_BEHIND_5);
    succeeds(scene.original.run(scene.pusher.push(HISTORY)));
    succeeds(scene.pusher.push(HISTORY));
}

#[test]
fn an_unacceptable_or_missing_segment_of_an_ancestor_is_left_to_its_own_call() {
    let scene = Scene::parted(6, &[2]);
    scene.pusher.data.file(&format!("pg_wal/{}", name(2)), "short");
    succeeds(scene.pusher.push(HISTORY));
    let scene = Scene::parted(6, &[2]);
    fs::remove_file(scene.pusher.data.join(&format!("pg_wal/{}", name(2)))).unwrap();
    succeeds(scene.pusher.push(HISTORY));
}

/// Returns the push into a bucket with conditional writes.
fn push_into(store: &Store, scene: &Scene, data: &DataDirectory, name: &str) -> Command {
    let configuration = scene.pusher.sandbox.file("store.toml", "[store]\nconditional_put = \"yes\"\n");
    let mut push = data.run(scene.pusher.sandbox.walkeep_archive());
    push.envs(store.environment()).env("WALKEEP_CONFIG", configuration);
    push.args(["--archive", "s3://wal/main", &format!("pg_wal/{name}")]);
    push
}

fn names_in_store(store: &Store) -> Vec<String> {
    store.keys().iter().map(|key| key.rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_diverged_clone_announces_no_timeline_in_a_store() {
    let (store, scene) = (Store::new(), Scene::new(3));
    for number in 2..=3 {
        succeeds(push_into(&store, &scene, &scene.original, &name(number)));
    }
    fails(3, push_into(&store, &scene, &scene.pusher.data, HISTORY), &[&name(3), "s3://wal/main/", HISTORY]);
    assert_eq!(names_in_store(&store), names(2..=3));
    // The same with the history file as an additional file of a push that creates its own.
    make_file_ready(&scene.pusher.data, YOUNGER, LEFT_BEHIND_1);
    succeeds(push_into(&store, &scene, &scene.pusher.data, YOUNGER));
    assert_eq!(names_in_store(&store), [vec![YOUNGER.to_owned()], names(2..=3)].concat());
}

#[test]
fn a_store_is_asked_only_for_waiting_segments_of_ancestors() {
    let (store, scene) = (Store::new(), Scene::new(6));
    support::ready::unmark_all(&scene.pusher.data);
    mark(&scene.pusher.data, HISTORY);
    succeeds(push_into(&store, &scene, &scene.pusher.data, HISTORY));
    let methods: Vec<String> = store.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["HEAD", "PUT"], "for the first segment of the timeline");
}

/// Creates the promoted clone, and an archive with the first segment of timeline 2 but not its history file.
fn taken(theirs: &[u8]) -> Scene {
    let scene = Scene::new(6);
    support::ready::unmark_all(&scene.pusher.data);
    mark(&scene.pusher.data, HISTORY);
    scene.original.file(&format!("pg_wal/{ON_2}"), theirs);
    succeeds(scene.original.run(scene.pusher.push(ON_2)));
    scene
}

/// Returns the clone's part of the first segment of timeline 2.
fn first_of_2() -> Vec<u8> {
    fs::read(Scene::new(6).pusher.data.join(&format!("pg_wal/{ON_2}"))).unwrap()
}

#[test]
fn a_timeline_used_by_another_server_is_not_announced() {
    let mut theirs = first_of_2();
    theirs[63] ^= 1;
    let scene = taken(&theirs);
    let words =
        [ON_2, "another server", "00000002.history is not archived before", "its disk fills", "| cmp -"];
    fails(3, scene.pusher.push(HISTORY), &words);
    assert_eq!(scene.names(), [ON_2]);
}

#[test]
fn a_lost_history_is_archived_again_by_the_server_of_the_timeline() {
    let mut theirs = first_of_2();
    // The server may still be writing the segment.
    theirs[64..].reverse();
    let scene = taken(&theirs);
    succeeds(scene.pusher.push(HISTORY));
    assert_eq!(scene.names(), [HISTORY, ON_2]);
}

#[test]
fn a_timeline_whose_first_segment_cannot_be_compared_is_announced_with_a_warning() {
    let scene = taken(&first_of_2());
    scene.pusher.data.file(&format!("pg_wal/{ON_2}"), vec![0; 1 << 20]);
    let outcome = support::running::outcome_of(scene.pusher.push(HISTORY));
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("whether another server has taken this timeline"), "{}", outcome.stderr);
    // No warning once it is archived.
    succeeds(scene.pusher.push(HISTORY));
}

/// Creates timelines 2, of 1; 3, of 2; and 4, of 1; with the history file of 2 written by `make`.
fn timelines(make: impl Fn(&Pusher)) -> Pusher {
    let pusher = Pusher::new();
    for name in [ON_1, ON_2, ON_3, ON_4] {
        make_segment_ready(&pusher.data, name);
    }
    make_file_ready(&pusher.data, "00000003.history", "1\t0/600000\tx\n2\t0/600000\tx\n");
    make_file_ready(&pusher.data, "00000004.history", "1\t0/600000\tx\n");
    make_file_ready(&pusher.data, BACKUP, BACKUP_CONTENT);
    mark(&pusher.data, HISTORY);
    make(&pusher);
    pusher
}

/// A history file with a restore point of two lines.
fn of_two_lines(pusher: &Pusher) {
    pusher.data.file(&format!("pg_wal/{HISTORY}"), "1\t0/600000\tat restore point \"a\nb\"\n");
}

/// Files that may be archived without the history file of timeline 2.
const WITHOUT_2: [&str; 4] = ["00000004.history", BACKUP, ON_1, ON_4];

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn without_2() -> Vec<String> {
    sorted(WITHOUT_2.map(str::to_owned).to_vec())
}

#[test]
fn an_unacceptable_history_file_excludes_its_timeline_and_descendants() {
    let pusher = timelines(of_two_lines);
    for _ in 0..2 {
        fails(4, pusher.push(HISTORY), &[HISTORY]);
        assert_eq!(sorted(pusher.archive.all_names(SYSTEM)), without_2());
    }
}

#[test]
fn any_failure_of_an_additional_history_file_excludes_the_same_files() {
    let path = format!("pg_wal/{HISTORY}");
    let ways: [&dyn Fn(&Pusher); 3] = [
        &of_two_lines,
        // Only its mark exists.
        &|_| {},
        &|pusher| fs::create_dir(pusher.data.join(&path)).unwrap(),
    ];
    for (way, make) in ways.into_iter().enumerate() {
        let pusher = timelines(make);
        succeeds(pusher.push(ON_1));
        assert_eq!(sorted(pusher.archive.all_names(SYSTEM)), without_2(), "{way}");
    }
}

#[test]
fn an_unacceptable_history_file_excludes_them_from_a_store_too() {
    for asked_is_new in [true, false] {
        let (store, pusher) = (Store::new(), timelines(of_two_lines));
        let scene = Scene { original: DataDirectory::new(&pusher.sandbox, "original", SYSTEM), pusher };
        if !asked_is_new {
            let path = format!("pg_wal/{ON_1}");
            scene.original.file(&path, fs::read(scene.pusher.data.join(&path)).unwrap());
            succeeds(push_into(&store, &scene, &scene.original, ON_1));
        }
        succeeds(push_into(&store, &scene, &scene.pusher.data, ON_1));
        assert_eq!(sorted(names_in_store(&store)), without_2(), "{asked_is_new}");
    }
}

#[test]
fn a_history_file_unknown_to_a_failing_store_excludes_them() {
    let (store, pusher) = (Store::new(), timelines(|_| {}));
    make_file_ready(&pusher.data, HISTORY, "1\t0/600000\tx\n");
    let scene = Scene { original: DataDirectory::new(&pusher.sandbox, "original", SYSTEM), pusher };
    let path = format!("pg_wal/{ON_1}");
    scene.original.file(&path, fs::read(scene.pusher.data.join(&path)).unwrap());
    succeeds(push_into(&store, &scene, &scene.original, ON_1));
    let refusal = Fault::Answer { status: 403, code: "AccessDenied", message: "No." };
    store.break_with(Matching::HeadsOf(HISTORY), refusal);
    succeeds(push_into(&store, &scene, &scene.pusher.data, ON_1));
    let names = names_in_store(&store);
    assert!(!names.iter().any(|name| [HISTORY, ON_2, ON_3].contains(&name.as_str())), "{names:?}");
}

#[test]
fn a_well_formed_history_file_admits_them() {
    let pusher = timelines(|_| {});
    make_file_ready(&pusher.data, HISTORY, "1\t0/600000\tx\n");
    user::hand_over(&pusher.data.join(&format!("pg_wal/{HISTORY}")));
    succeeds(pusher.push(ON_1));
    assert_eq!(pusher.archive.all_names(SYSTEM).len(), 8);
}
