//! `az://`, against Azure's own emulator.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use support::{
    data_directory::{SEGMENT, segment},
    guide,
    push::{fails, succeeds},
    restore::SYSTEM,
    running::{Running, outcome_of},
    store::azurite::Azurite,
    store_cluster::CallOutput,
    store_rounds::{
        FIRST_NEEDED, SEGMENTS, fill, is_used, knows_what_is_absent, listed, one_of_many_wins,
        refuses_other_content, restore_fails, says, walkeep,
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

// Tokens, which give single permissions.

/// Replaces the account's key by a token with these permissions.
fn hold_token(scene: &mut StoreScene, permissions: &str) {
    scene.unset("AZURE_STORAGE_ACCOUNT_KEY");
    for (variable, value) in Azurite::shared().with_token(permissions) {
        scene.set(variable, &value);
    }
}

#[test]
fn a_token_that_allows_everything_does() {
    let mut scene = scene();
    hold_token(&mut scene, "racwdl");
    is_used(&scene);
}

#[test]
fn a_token_that_replaces_and_deletes_nothing_sends_a_file_again_and_finds_conflicts() {
    let mut scene = scene();
    hold_token(&mut scene, "rcl");
    fill(&scene);
    refuses_other_content(&scene);
    knows_what_is_absent(&scene);
}

#[test]
fn a_permission_that_a_token_does_not_give_is_named() {
    let mut scene = scene();
    fill(&scene);
    let new = "000000010000000000000009";
    scene.primary.segment(new, 9);
    hold_token(&mut scene, "rdl");
    fails(2, scene.push(new), &["403 Forbidden (AuthorizationPermissionMismatch", "(write)"]);
    hold_token(&mut scene, "cwdl");
    restore_fails(&scene, 255, &["403 Forbidden (AuthorizationPermissionMismatch", "(read)"]);
    hold_token(&mut scene, "rcwd");
    let outcome = outcome_of(scene.restore(&scene.recovery, new));
    assert_eq!(outcome.status, 255, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("(list)"), "{}", outcome.stderr);
    hold_token(&mut scene, "rcwl");
    let pruned =
        CallOutput::of(walkeep(&scene, &["prune", "--keep-backups", "1", "--backup-may-take", "0s"]));
    assert_eq!(pruned.status, 2, "{}", pruned.text());
    assert!(pruned.stderr.contains("(delete)"), "{}", pruned.stderr);
}

/// Returns the commands, and the letters of a token, of each row of the guide's table.
fn table() -> Vec<(Vec<String>, String)> {
    let page = guide::page("docs/guide/stores.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| command | `read` |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let commands = cells[0].split(", ").map(|command| command.trim_matches('`').replace("walkeep ", ""));
        let token = cells[4].split('`').nth(1).unwrap();
        (commands.collect(), token.to_owned())
    });
    rows.collect()
}

/// Runs a command with a token, and returns what it says if it does not do all of its work, or warns of a missing permission.
fn complains(command: &str, letters: &str) -> Option<String> {
    let mut scene = scene();
    fill(&scene);
    // The second report replaces the first.
    if let "prune" | "verify" = command {
        let keep: &[&str] = if command == "prune" { &["--keep-backups", "9"] } else { &[] };
        CallOutput::of(walkeep(&scene, &[&[command], keep].concat()));
    }
    let new = "000000010000000000000009";
    scene.primary.segment(new, 9);
    hold_token(&mut scene, letters);
    scene.set("WALKEEP_TIMEOUT", "3s");
    let mut words: Vec<&str> = command.split(' ').collect();
    let data = scene.primary.join("");
    match command {
        "prune" => words.extend(["--keep-backups", "1", "--backup-may-take", "0s"]),
        "backfill" => words.extend(["--pgdata", data.to_str().unwrap()]),
        "cat" => words.push(SEGMENT),
        _ => {}
    }
    let (call, expected) = match command {
        // What is there already, and what is not.
        "walkeep-archive" if CallOutput::of(scene.push(SEGMENT)).status == 0 => (scene.push(new), 0),
        "walkeep-archive" => return Some(String::new()),
        // What is not there is found out by a listing.
        "walkeep-restore" => (scene.restore(&scene.recovery, new), 1),
        _ => (walkeep(&scene, &words), 0),
    };
    let output = CallOutput::of(call);
    let text = output.text();
    // A made-up segment has no records, so that backfill leaves it; that it may not archive it would be another message.
    let is_left = command == "backfill" && text.contains("left ");
    // It notes that nothing may be deleted, which is no failure.
    let is_denied = text.contains("403") && command != "check";
    let is_well = (output.status == expected || is_left) && !is_denied && !output.stderr.contains("403");
    (!is_well).then_some(text)
}

#[test]
fn each_command_works_in_azurite_with_exactly_the_token_of_the_guides_table() {
    let rows = table();
    assert_eq!(rows.iter().map(|(commands, _)| commands.len()).sum::<usize>(), 10);
    for (commands, letters) in rows {
        for command in &commands {
            assert_eq!(complains(command, &letters), None, "{command} with {letters}");
        }
        // One command of a row shows what each letter is for.
        for letter in letters.chars() {
            let others = letters.replace(letter, "");
            assert!(complains(&commands[0], &others).is_some(), "{} without {letter}", commands[0]);
        }
    }
}
