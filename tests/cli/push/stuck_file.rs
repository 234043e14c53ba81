//! A file that cannot be archived blocks its server, so its call also archives later files; but a conflict keeps two
//! servers apart.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, path::Path};

use support::{
    data_directory::DataDirectory,
    push::{BACKUP, BACKUP_CONTENT, HISTORY, HISTORY_CONTENT, Pusher, SYSTEM, fails, succeeds},
    ready::{
        archived, is_acknowledged, make_file_ready, make_segment_ready, mark, name, names, pusher_with, said,
    },
    running::outcome_of,
    store::{
        Store,
        fault::{Fault, Matching},
    },
};

/// Puts another server's file into the archive.
fn archive_others(pusher: &Pusher, name: &str, content: Option<&str>) {
    let path = pusher.sandbox.join("other");
    let other = if path.exists() {
        fs::remove_dir_all(&path).unwrap();
        DataDirectory::new(&pusher.sandbox, "other", SYSTEM)
    } else {
        DataDirectory::new(&pusher.sandbox, "other", SYSTEM)
    };
    match content {
        None => drop(other.segment(name, 199)),
        Some(content) => drop(other.file(&format!("pg_wal/{name}"), content)),
    }
    succeeds(other.run(pusher.push(name)));
}

fn spoil(pusher: &Pusher, name: &str) {
    pusher.data.file(&format!("pg_wal/{name}"), "short");
}

/// Lists all archived names of the cluster except `without`.
fn names_without(pusher: &Pusher, without: &str) -> Vec<String> {
    pusher.archive.all_names(SYSTEM).into_iter().filter(|name| name != without).collect()
}

#[test]
fn files_after_an_unacceptable_one_are_archived_and_the_call_fails() {
    for stuck in [name(1), HISTORY.to_owned(), BACKUP.to_owned(), format!("{}.partial", name(1))] {
        let pusher = pusher_with(2..=9);
        make_file_ready(&pusher.data, &stuck, "short");
        fails(4, pusher.push(&stuck), &[&stuck]);
        assert_eq!(archived(&pusher), names(2..=9), "{stuck}");
        fails(4, pusher.push(&stuck), &[&stuck]);
        for number in 2..=9 {
            assert!(is_acknowledged(&pusher, number), "{stuck} {number}");
        }
    }
}

#[test]
fn files_after_a_conflicting_partial_or_backup_history_file_are_archived() {
    let partial = format!("{}.partial", name(2));
    for (stuck, content) in [(&*partial, None), (BACKUP, Some(BACKUP_CONTENT))] {
        let pusher = pusher_with(2..=5);
        archive_others(&pusher, stuck, content);
        match content {
            None => make_segment_ready(&pusher.data, stuck),
            Some(content) => make_file_ready(&pusher.data, stuck, &content.replace("nightly", "other")),
        }
        fails(3, damaged(&pusher, stuck), &[stuck]);
        assert_eq!(names_without(&pusher, stuck), names(2..=5), "{stuck}");
    }
}

/// Returns the push of a file whose archived copy is damaged, which fails for any content and kind.
fn damaged(pusher: &Pusher, stuck: &str) -> std::process::Command {
    fs::write(pusher.file(stuck), "damage").unwrap();
    pusher.push(stuck)
}

const ON_1: &str = "000000010000000000000007";
const ON_2: &str = "000000020000000000000003";
const ON_3: &str = "000000030000000000000004";
const ON_4: &str = "000000040000000000000005";
const ON_5: &str = "000000050000000000000006";

/// Creates timelines 2, of 1; 3, of 2; 4, of 1; and 5, of which nothing is known.
fn pusher_with_timelines() -> Pusher {
    let pusher = Pusher::new();
    for name in [ON_1, ON_2, ON_3, ON_4, ON_5] {
        make_segment_ready(&pusher.data, name);
    }
    let histories = [
        (HISTORY, HISTORY_CONTENT),
        ("00000003.history", "1\t0/200000\tx\n2\t0/300000\tx\n"),
        ("00000004.history", "1\t0/280000\tx\n"),
    ];
    for (name, content) in histories {
        make_file_ready(&pusher.data, name, content);
    }
    let of_2 = [
        ("000000020000000000000003.00000028.backup", BACKUP_CONTENT.replace("00000001", "00000002")),
        ("000000020000000000000004.partial", String::new()),
    ];
    make_file_ready(&pusher.data, of_2[0].0, &of_2[0].1);
    make_segment_ready(&pusher.data, of_2[1].0);
    pusher
}

#[test]
fn a_conflict_of_a_segment_or_history_file_excludes_its_timeline_and_descendants() {
    for (stuck, content) in
        [("000000020000000000000002", None), (HISTORY, Some("1\t0/180000\tanother promotion\n"))]
    {
        let pusher = pusher_with_timelines();
        archive_others(&pusher, stuck, content);
        if content.is_none() {
            make_segment_ready(&pusher.data, stuck);
        }
        fails(3, pusher.push(stuck), &[stuck, "different content"]);
        assert_eq!(names_without(&pusher, stuck), [ON_1, "00000004.history", ON_4], "{stuck}");
    }
}

#[test]
fn two_servers_on_one_timeline_are_kept_apart() {
    let pusher = pusher_with(2..=9);
    archive_others(&pusher, &name(1), None);
    make_segment_ready(&pusher.data, &name(1));
    fails(3, pusher.push(&name(1)), &[&name(1), "different content"]);
    assert_eq!(archived(&pusher), names([1]));
    // The guide's recipe, once it is known that this server stays.
    fs::remove_file(pusher.file(&name(1))).unwrap();
    succeeds(pusher.push(&name(1)));
    assert_eq!(archived(&pusher), names(1..=9));
}

#[test]
fn a_conflict_of_an_additional_file_excludes_the_same() {
    let pusher = pusher_with_timelines();
    let (asked, conflicting) = ("000000020000000000000001", "000000020000000000000002");
    archive_others(&pusher, conflicting, None);
    make_segment_ready(&pusher.data, conflicting);
    make_segment_ready(&pusher.data, asked);
    succeeds(pusher.push(asked));
    let taken = names_without(&pusher, conflicting);
    assert_eq!(taken, [ON_1, asked, "00000004.history", ON_4]);
    fails(3, pusher.push(conflicting), &[conflicting]);
}

/// Returns the push into a bucket with conditional writes, where nothing is asked before a file is created.
fn push_into(store: &Store, pusher: &Pusher, data: &DataDirectory, name: &str) -> std::process::Command {
    let configuration = pusher.sandbox.file("store.toml", "[store]\nconditional_put = \"yes\"\n");
    let mut push = data.run(pusher.sandbox.walkeep_archive());
    push.envs(store.environment()).env("WALKEEP_CONFIG", configuration);
    push.args(["--archive", "s3://wal/main", &format!("pg_wal/{name}")]);
    push
}

/// Lists the names in a store.
fn names_in_store(store: &Store) -> Vec<String> {
    store.keys().iter().map(|key| key.rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_history_file_in_conflict_excludes_its_timeline_from_a_store_too() {
    let (store, pusher) = (Store::new(), pusher_with_timelines());
    let other = DataDirectory::new(&pusher.sandbox, "other", SYSTEM);
    other.file(&format!("pg_wal/{HISTORY}"), "1\t0/180000\tanother promotion\n");
    succeeds(push_into(&store, &pusher, &other, HISTORY));
    succeeds(push_into(&store, &pusher, &pusher.data, ON_1));
    assert_eq!(names_in_store(&store), [HISTORY, "00000004.history", ON_1, ON_4]);
}

#[test]
fn a_clone_of_a_server_that_has_archived_writes_nothing_into_its_store() {
    let (store, pusher) = (Store::new(), pusher_with(1..=9));
    // The server's files, which the clone shares up to the point where they diverge.
    let server = DataDirectory::new(&pusher.sandbox, "server", SYSTEM);
    for number in 1..=2 {
        fs::copy(
            pusher.data.join(&format!("pg_wal/{}", name(number))),
            server.join(&format!("pg_wal/{}", name(number))),
        )
        .unwrap();
    }
    server.segment(&name(3), 199);
    for number in 1..=3 {
        support::user::hand_over(&server.join(&format!("pg_wal/{}", name(number))));
        succeeds(push_into(&store, &pusher, &server, &name(number)));
    }
    succeeds(push_into(&store, &pusher, &pusher.data, &name(1)));
    assert_eq!(names_in_store(&store), names(1..=3));
}

#[test]
fn an_unavailable_or_refusing_archive_receives_nothing() {
    let pusher = pusher_with(1..=3);
    pusher.archive.vanish();
    fails(1, pusher.push(&name(1)), &["does not exist"]);
    pusher.archive.come_back();
    fs::remove_file(pusher.data.join(&format!("pg_wal/{}", name(1)))).unwrap();
    fails(1, pusher.push(&name(1)), &["cannot read"]);
    assert_eq!(archived(&pusher), [""; 0]);

    let store = Store::new();
    let pusher = pusher_with(1..=3);
    let refusal = Fault::Answer { status: 403, code: "AccessDenied", message: "No." };
    store.break_with(Matching::Any, refusal);
    let mut push = pusher.program();
    push.envs(store.environment()).args(["--archive", "s3://wal/main", &format!("pg_wal/{}", name(1))]);
    fails(2, push, &["403"]);
    assert!(store.requests().iter().all(|request| request.path.ends_with(&name(1))));
}

#[test]
fn files_after_a_stuck_one_are_archived_in_a_store_too() {
    let store = Store::new();
    let pusher = pusher_with(1..=9);
    spoil(&pusher, &name(1));
    let mut push = pusher.program();
    push.envs(store.environment()).args(["--archive", "s3://wal/main", &format!("pg_wal/{}", name(1))]);
    fails(4, push, &[&name(1)]);
    assert_eq!(store.keys().len(), 8);
}

#[test]
fn each_call_gets_further_even_with_few_additional_files() {
    let pusher = pusher_with(1..=7);
    spoil(&pusher, &name(1));
    let configuration = pusher.sandbox.file("walkeep.toml", "look_ahead_files = 2");
    for taken in [3, 5, 7] {
        fails(4, pusher.push_with(&["--config", configuration.to_str().unwrap()], &name(1)), &[]);
        assert_eq!(archived(&pusher), names(2..=taken));
    }
}

#[test]
fn the_message_names_the_filling_disk_the_waiting_time_and_the_command() {
    let pusher = pusher_with(1..=3);
    archive_others(&pusher, &name(2), None);
    let mark_of_2 = pusher.data.join(&format!("pg_wal/archive_status/{}.ready", name(2)));
    support::aged::set_time(&mark_of_2, "2001-02-03T04:05:06Z");
    spoil(&pusher, &name(1));
    let data = fs::canonicalize(pusher.data.join("")).unwrap();
    let path = data.join("pg_wal").join(name(1));
    let waiting = "its disk fills: 3 files wait, the oldest since 2001-02-03T04:05:06Z";
    fails(4, pusher.push(&name(1)), &[waiting, &format!("pg_waldump {}", path.display())]);
    let cat = format!(
        "walkeep cat --archive {} --system-identifier {SYSTEM} {} | cmp - {}",
        pusher.archive.url(),
        name(2),
        data.join("pg_wal").join(name(2)).display()
    );
    fails(3, pusher.push(&name(2)), &["different content", waiting, &cat]);

    // Not for a call by hand.
    let by_hand = Pusher::new();
    spoil(&by_hand, &name(1));
    let line = fails(4, by_hand.push(&name(1)), &[]);
    assert!(!line.contains("disk"), "{line}");
    mark(&by_hand.data, &name(2));
    let line = fails(4, by_hand.push(&name(1)), &[]);
    assert!(!line.contains("disk"), "{line}");
}

#[test]
fn with_v_the_additional_files_are_logged() {
    let pusher = pusher_with(1..=3);
    spoil(&pusher, &name(1));
    let outcome = outcome_of(pusher.push_with(&["-v"], &name(1)));
    assert_eq!(outcome.status, 4);
    assert!(outcome.stderr.contains("taken along files=2"), "{}", outcome.stderr);
    assert!(said(pusher.push(&name(2))).contains("archived by an earlier call"));
    assert!(Path::new(pusher.archive.url()).exists());
}
