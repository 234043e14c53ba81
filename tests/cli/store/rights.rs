//! What each command may be denied: the guide's table of rights, against a store that denies.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the point")]

use std::process::Command;

use support::{
    guide,
    kept::{archived_backup, archived_segment, days_ago, name},
    push::SYSTEM,
    store::{fault::Right, google::Permission},
    store_cluster::CallOutput,
    store_scene::{StoreScene, key},
    wal_writer::WalWriter,
};

/// Segments that are archived. The next one is in `pg_wal`.
const LAST: u64 = 6;

fn scene() -> StoreScene {
    filled(StoreScene::new())
}

fn filled(scene: StoreScene) -> StoreScene {
    for number in 1..=LAST {
        let name = name(1, number);
        scene.store.put(&key(&name), archived_segment(&name, days_ago(3)));
    }
    let (backup, bytes) = archived_backup(1, 4, 4, "nightly", days_ago(3));
    scene.store.put(&key(&backup), bytes);
    for number in [LAST, LAST + 1] {
        scene.primary.segment(&name(1, number), 0);
    }
    scene
}

fn tool(scene: &StoreScene, arguments: &[&str]) -> Command {
    let mut command = scene.command(&scene.primary, scene.sandbox.walkeep());
    command.args(arguments);
    command
}

/// Returns the calls of a command that show whether it has its rights, with their statuses if it has.
fn calls(scene: &StoreScene, command: &str) -> Vec<(Command, i32)> {
    let system = SYSTEM.to_string();
    let tool = |arguments: &[&str]| {
        let mut words: Vec<&str> = command.split(' ').skip(1).collect();
        words.extend(arguments);
        vec![(tool(scene, &words), 0)]
    };
    match command {
        // What is there already, and what is not.
        "walkeep-archive" => [LAST, LAST + 1].map(|number| (scene.push(&name(1, number)), 0)).into(),
        // The last one ends the recovery.
        "walkeep-restore" => vec![
            (scene.restore(&scene.recovery, &name(1, LAST)), 0),
            (scene.restore(&scene.recovery, &name(1, LAST + 1)), 1),
        ],
        // In a data directory, or with --system-identifier, it does not have to look for the system.
        "walkeep cat" => {
            let mut calls = tool(&[&name(1, LAST)]);
            for (call, _) in &mut calls {
                call.current_dir(scene.sandbox.path());
            }
            calls
        }
        "walkeep prune" => {
            tool(&["--system-identifier", &system, "--keep-backups", "1", "--backup-may-take", "0s"])
        }
        "walkeep verify" | "walkeep list" | "walkeep status" => tool(&["--system-identifier", &system]),
        "walkeep backfill" => {
            let mut wal = WalWriter::new(SYSTEM, 1, LAST + 1, 1 << 20);
            wal.fill();
            wal.record(100);
            for (segment, number) in wal.segments().iter().zip(LAST + 1..) {
                scene.primary.file(&format!("pg_wal/{}", name(1, number)), segment);
            }
            tool(&["--pgdata", scene.primary.join("").to_str().unwrap()])
        }
        "walkeep check" | "walkeep check --restore-only" => tool(&[]),
        _ => panic!("{command} is in the guide's table and not here"),
    }
}

/// A call's output, and the status that it should have.
type Outcome = (CallOutput, i32);

/// Runs a command with these rights; returns the outcomes of its calls, and the paths of what was sent.
fn run(command: &str, rights: &[Right]) -> (Vec<Outcome>, Vec<String>) {
    let mut scene = scene();
    scene.hurry();
    scene.store.grant_only(rights);
    let outcomes = calls(&scene, command).into_iter().map(|(call, status)| (CallOutput::of(call), status));
    let outcomes = outcomes.collect();
    let sent = scene.store.requests().into_iter().filter(|request| request.method == "PUT");
    (outcomes, sent.map(|request| request.path).collect())
}

fn is_well((output, status): &Outcome) -> bool {
    output.status == *status && !output.stderr.contains("AccessDenied")
}

/// A row of the guide's table: a command, and its rights with the words about them.
struct Row {
    command: String,
    rights: Vec<(Right, String)>,
}

fn table() -> Vec<Row> {
    let page = guide::page("docs/guide/stores.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| command | `PutObject`")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        let command = cells.next().unwrap().trim_matches('`').to_owned();
        let rights = Right::ALL.into_iter().zip(cells).filter(|(_, cell)| cell != "no");
        Row { command, rights: rights.collect() }
    });
    rows.collect()
}

/// Returns the guide's rows about Google's store: commands, and the word about each permission.
fn table_of_google() -> Vec<(Vec<String>, Vec<String>)> {
    let page = guide::page("docs/guide/stores.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| command | `objects.create`")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        let named = cells.next().unwrap();
        let commands = named.split(", ").map(|command| command.trim_matches('`')).map(|command| {
            if command.starts_with("walkeep") { command.to_owned() } else { format!("walkeep {command}") }
        });
        (commands.collect(), cells.collect())
    });
    rows.collect()
}

/// Runs a command in Google's store with these permissions, where reports of earlier runs are.
fn run_in_google(command: &str, permissions: &[Permission]) -> Vec<Outcome> {
    let mut scene = filled(StoreScene::in_google());
    for work in ["prune", "verify"] {
        scene.store.put(&format!("main/{SYSTEM}/reports/{work}.json"), "{}");
    }
    scene.hurry();
    scene.store.google().allow_only(permissions);
    calls(&scene, command).into_iter().map(|(call, status)| (CallOutput::of(call), status)).collect()
}

#[test]
fn each_command_works_in_googles_store_with_exactly_the_permissions_of_the_guides_table() {
    let rows = table_of_google();
    let commands =
        rows.iter().flat_map(|(commands, cells)| commands.iter().map(move |command| (command, cells)));
    assert_eq!(commands.clone().count(), 10);
    let mut wrong = Vec::new();
    for (command, cells) in commands {
        let granted = || Permission::ALL.into_iter().zip(cells).filter(|(_, cell)| *cell != "no");
        let all: Vec<Permission> = granted().map(|(permission, _)| permission).collect();
        let outcomes = run_in_google(command, &all);
        let is_well = |(output, status): &Outcome| output.status == *status && !output.stderr.contains("403");
        let texts: String = outcomes.iter().map(|(output, _)| output.text()).collect();
        assert!(outcomes.iter().all(is_well), "{command} with {all:?}: {texts}");
        for (missing, cell) in granted() {
            let others: Vec<Permission> = all.iter().copied().filter(|other| *other != missing).collect();
            let outcomes = run_in_google(command, &others);
            let fails = outcomes.iter().any(|(output, status)| output.status != *status);
            if fails != (cell == "yes") {
                wrong.push(format!("{command} without {missing:?}, where the guide says \"{cell}\""));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn each_command_works_with_exactly_the_rights_of_the_guides_table() {
    let rows = table();
    assert_eq!(rows.len(), 10);
    for Row { command, rights } in &rows {
        let all: Vec<Right> = rights.iter().map(|(right, _)| *right).collect();
        let (outcomes, sent) = run(command, &all);
        assert!(outcomes.iter().all(is_well), "{command} with {all:?}: {outcomes:?}");
        for (missing, cell) in rights {
            let others: Vec<Right> = all.iter().copied().filter(|right| right != missing).collect();
            let (outcomes, _) = run(command, &others);
            let names = |(output, _): &Outcome| {
                let text = output.text();
                text.contains("they lack the right to") && text.contains(&format!("{missing:?}"))
            };
            assert!(outcomes.iter().any(names), "{command} without {missing:?}: {outcomes:?}");
            let fails = outcomes.iter().any(|(output, status)| output.status != *status);
            assert_eq!(fails, cell == "yes", "{command} without {missing:?}: {outcomes:?}");
            // A right to write reports alone is one.
            assert!(fails || sent.iter().all(|path| path.contains("/reports/")), "{command}: {sent:?}");
        }
    }
}
