//! What users do with an archive in a store, with whole programs: the same against every kind of store.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{
    data_directory::{DataDirectory, SEGMENT},
    push::{fails, succeeds},
    restore::{SYSTEM, TARGET},
    running::{Outcome, Running, outcome_of},
    store_cluster::CallOutput,
    store_scene::StoreScene,
    verified::{BACKUP, VerifyOutput, backup_history, content, name},
};

/// Number of segments that [`fill`] archives.
pub const SEGMENTS: u32 = 6;

/// Number of the segment from which the base backup of [`fill`] needs all.
pub const FIRST_NEEDED: u32 = 3;

/// Returns a command of `walkeep` for the scene's archive, from a directory that is no server's.
pub fn walkeep(scene: &StoreScene, arguments: &[&str]) -> Command {
    let mut command = scene.command(&scene.primary, scene.sandbox.walkeep());
    command.args(arguments).current_dir(scene.sandbox.path());
    command
}

/// Runs a command of `walkeep` that must succeed without messages, and returns its output.
pub fn says(scene: &StoreScene, arguments: &[&str]) -> String {
    let output = CallOutput::of(walkeep(scene, arguments));
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{arguments:?}: {}", output.text());
    String::from_utf8(output.stdout).unwrap()
}

/// Archives [`SEGMENTS`] segments and a base backup. Each may be sent again, and changes nothing.
pub fn fill(scene: &StoreScene) {
    for number in 1..=SEGMENTS {
        let name = name(1, number);
        scene.primary.file(&format!("pg_wal/{name}"), content(&name));
        succeeds(scene.push(&name));
    }
    scene.primary.file(&format!("pg_wal/{BACKUP}"), backup_history(FIRST_NEEDED, FIRST_NEEDED, "nightly"));
    for name in [BACKUP, BACKUP, SEGMENT] {
        succeeds(scene.push(name));
    }
}

/// Restores a file in recovery, which must succeed without messages.
pub fn restores(scene: &StoreScene, name: &str, content: &[u8]) {
    assert!(scene.restored(name, "") == content, "{name}");
    assert!(scene.original(name) == content, "{name}");
}

/// Pushes other content under a name that is taken, and asserts that the first stays.
pub fn refuses_other_content(scene: &StoreScene) {
    let before = content(SEGMENT);
    scene.primary.segment(SEGMENT, 77);
    fails(3, scene.push(SEGMENT), &[SEGMENT, "different content"]);
    restores(scene, SEGMENT, &before);
    scene.primary.file(&format!("pg_wal/{SEGMENT}"), before);
}

/// Asks for segments that are not in the archive: beyond the end, which ends a recovery, and elsewhere.
pub fn knows_what_is_absent(scene: &StoreScene) {
    for absent in [name(1, SEGMENTS + 1), "00000003.history".to_owned()] {
        let outcome = outcome_of(scene.restore(&scene.recovery, &absent));
        assert_eq!(outcome.status, 1, "{absent}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("warning"), "{}", outcome.stderr);
        let cat = CallOutput::of(scene.cat(&absent));
        assert_eq!((cat.status, cat.stdout.len()), (1, 0), "{}", cat.text());
        assert!(cat.stderr.contains(&absent), "{}", cat.stderr);
    }
}

/// Returns the number of segments of timeline 1 that `walkeep list` counts.
pub fn listed(scene: &StoreScene) -> u64 {
    let list: Value = serde_json::from_str(&says(scene, &["list", "--json"])).unwrap();
    list["timelines"][0]["ranges"][0]["segments"].as_u64().unwrap_or_else(|| panic!("{list:#}"))
}

/// Verifies every byte, twice: the second report replaces the first.
pub fn is_found_whole(scene: &StoreScene) {
    for _ in 0..2 {
        let verified = VerifyOutput::of(walkeep(scene, &["verify"]));
        assert_eq!((verified.status, verified.stderr.as_str()), (0, ""), "{:#}", verified.json);
        assert_eq!(verified.findings(), [("", "", ""); 0], "{:#}", verified.json);
    }
}

/// Prunes what no base backup needs.
pub fn prunes(scene: &StoreScene) {
    let options = ["prune", "--keep-backups", "1", "--backup-may-take", "0s", "--json"];
    let pruned: Value = serde_json::from_str(&says(scene, &options)).unwrap();
    let deleted: Vec<_> = (1..FIRST_NEEDED).map(|number| name(1, number)).collect();
    assert_eq!(pruned["deleted_files"], json!(deleted), "{pruned:#}");
    assert_eq!(listed(scene), u64::from(SEGMENTS - FIRST_NEEDED + 1));
    let cat = CallOutput::of(scene.cat(SEGMENT));
    assert_eq!((cat.status, cat.stdout.len()), (1, 0), "{}", cat.text());
    let needed = name(1, FIRST_NEEDED);
    restores(scene, &needed, &content(&needed));
}

/// Does all of that, one after the other.
pub fn is_used(scene: &StoreScene) {
    fill(scene);
    for number in 1..=SEGMENTS {
        let name = name(1, number);
        restores(scene, &name, &content(&name));
    }
    refuses_other_content(scene);
    knows_what_is_absent(scene);
    assert_eq!(listed(scene), u64::from(SEGMENTS));
    is_found_whole(scene);
    prunes(scene);
    is_found_whole(scene);
}

/// Lets servers archive different content under one name at the same moment, and asserts that one of them wins.
pub fn one_of_many_wins(scene: &StoreScene, servers: u8) {
    let server = |seed| {
        let server = DataDirectory::new(&scene.sandbox, &format!("server-{seed}"), SYSTEM);
        let content = server.segment(SEGMENT, seed);
        (server, content)
    };
    let servers: Vec<_> = (1..=servers).map(server).collect();
    let running: Vec<_> =
        servers.iter().map(|(server, _)| Running::start(scene.push_from(server, SEGMENT))).collect();
    let outcomes: Vec<Outcome> = running.into_iter().map(Running::end).collect();
    let winners: Vec<_> = outcomes
        .iter()
        .zip(&servers)
        .filter(|(outcome, _)| outcome.status == 0)
        .map(|(_, (_, won))| won)
        .collect();
    let losers = outcomes.iter().filter(|outcome| outcome.status == 3).count();
    assert_eq!((winners.len(), losers), (1, servers.len() - 1), "{outcomes:?}");
    assert!(scene.original(SEGMENT) == *winners[0]);
}

/// Asserts that a restore leaves nothing behind and that its message has these words.
pub fn restore_fails(scene: &StoreScene, status: i32, words: &[&str]) {
    let outcome = outcome_of(scene.restore(&scene.recovery, SEGMENT));
    assert_eq!(outcome.status, status, "{}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} is not in {}", outcome.stderr);
    }
    assert!(!fs::exists(scene.recovery.join(TARGET)).unwrap());
}
