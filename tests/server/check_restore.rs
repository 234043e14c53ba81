//! `walkeep check --restore` runs the server's own restore_command as the server would, finds a broken one before a
//! failover, and does not disturb the server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::process::Command;

use rustix::process::Signal;
use support::{
    archive::ArchiveDirectory,
    files::names_in,
    orders,
    push::{BACKUP, BACKUP_CONTENT},
    restore::Scene,
    running::Running,
    sandbox::Sandbox,
    store_cluster::CallOutput,
    wait_until,
};

const HISTORY: &str = "00000002.history";

/// Creates an archive with a base backup and the segment in which it starts, and a server that has nothing to
/// archive.
fn with_backup() -> Scene {
    let (scene, _) = Scene::with_segment();
    scene.primary.file(&format!("pg_wal/{BACKUP}"), BACKUP_CONTENT);
    scene.push(&scene.primary, BACKUP);
    std::fs::create_dir(scene.standby.join("pg_wal/archive_status")).unwrap();
    scene
}

/// Extends [`with_backup`] by a history file that the server and the archive have.
fn scene() -> Scene {
    let scene = with_backup();
    for server in [&scene.primary, &scene.standby] {
        server.file(&format!("pg_wal/{HISTORY}"), "1\t0/2000A0\tno recovery target specified\n");
    }
    scene.push(&scene.primary, HISTORY);
    scene
}

fn command(scene: &Scene, more: &str) -> String {
    let program = scene.sandbox.program("walkeep-restore");
    format!("{} --archive {} {more} %f %p", program.display(), scene.archive.url())
}

/// Returns the check of a standby with that restore_command.
fn check(scene: &Scene, restore_command: &str) -> Command {
    let line = format!("restore_command = '{}'\n", restore_command.replace('\'', "''"));
    scene.standby.file(
        "postgresql.conf",
        format!("archive_mode = on\narchive_command = 'walkeep-archive %p'\n{line}"),
    );
    let mut check = scene.sandbox.walkeep();
    check.args(["check", "--restore", "--archive", scene.archive.url(), "--pgdata"]);
    check.arg(scene.standby.join("")).env("WALKEEP_TIMEOUT", "10s");
    check
}

/// Asserts the finding for a restore_command: its mark and words in its line.
fn finds(scene: &Scene, restore_command: &str, mark: char, words: &[&str]) {
    let output = CallOutput::of(check(scene, restore_command));
    let text = output.text();
    let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some("restore_command"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(line.starts_with(mark), "{restore_command}: {text}");
    for word in words {
        assert!(line.contains(word), "{word:?}: {line}");
    }
    assert_eq!(output.status, i32::from(mark == '✗'), "{text}");
    assert_eq!(names_in(&scene.standby.join("pg_wal")), [HISTORY, "archive_status"], "nothing is left");
}

#[test]
fn a_working_command_passes_and_is_run_as_by_the_server() {
    let scene = scene();
    finds(&scene, &command(&scene, ""), '✓', &[HISTORY, "back"]);
    // The directory, a variable, a relative path, a percent sign.
    let as_the_server = "[ \"$PGDATA\" = \"$PWD\" ] && [ -e global/pg_control ] && [ %r = 000000000000000000000000 ] \
                         && case %p in pg_wal/*) ;; *) exit 9;; esac && case 5%% in 5?) ;; *) exit 8;; esac && exec";
    finds(&scene, &format!("{as_the_server} {}", command(&scene, "")), '✓', &[]);
    finds(&scene, &command(&scene, "-v"), '!', &["back", "it says: walkeep-restore: debug: "]);
}

#[test]
fn a_broken_command_fails_although_the_server_has_its_own_copy() {
    let scene = scene();
    scene.sandbox.file("broken.toml", "oops");
    let broken = scene.sandbox.join("broken.toml");
    let elsewhere = command(&scene, "").replace(scene.archive.url(), "/nowhere");
    for (command, words) in [
        (
            command(&scene, &format!("--config {}", broken.display())),
            &["status 75", "broken.toml", "it says: "][..],
        ),
        (command(&scene, "--no-such-flag"), &["status 75", "no-such-flag"]),
        (elsewhere, &["status 75", "does not exist"]),
        ("cp /nowhere/%f %p".to_owned(), &["status 1", HISTORY, "the archive holds"]),
        ("true %f %p".to_owned(), &["does not bring"]),
        ("printf x > %p # %f".to_owned(), &["does not bring"]),
        ("no-such-program %f %p".to_owned(), &["status 127", "stops the server"]),
        ("kill -9 $$ # %f %p".to_owned(), &["status 137", "stops the server"]),
        ("sleep 1000 # %f %p".to_owned(), &["still at work"]),
        ("walkeep-restore %f".to_owned(), &["no place"]),
        (String::new(), &["empty"]),
    ] {
        finds(&scene, &command, '✗', words);
    }
}

#[test]
fn without_a_history_file_in_the_archive_the_command_must_report_absence() {
    let scene = with_backup();
    scene.standby.file(&format!("pg_wal/{HISTORY}"), "1\t0/3000000\tno recovery target specified\n");
    finds(&scene, &command(&scene, ""), '✓', &["there is no 00000002.history"]);
    finds(&scene, &command(&scene, "--no-such-flag"), '✗', &["status 75", "cannot tell"]);
    finds(&scene, "printf x > %p # %f", '✗', &["does not hold"]);
}

#[test]
fn a_stopped_check_leaves_nothing() {
    let scene = scene();
    let started = scene.sandbox.join("started");
    let command = format!("touch {}; sleep 1000 # %f %p", started.display());
    let mut check = check(&scene, &command);
    check.env("WALKEEP_TIMEOUT", "1h");
    let running = Running::start(check);
    wait_until("the command runs", || started.exists());
    running.signal(Signal::TERM);
    assert_eq!(running.end().status, 1);
    assert_eq!(names_in(&scene.standby.join("pg_wal")), [HISTORY, "archive_status"]);
}

#[test]
fn it_needs_a_data_directory() {
    let scene = scene();
    let mut check = scene.sandbox.walkeep();
    let output = CallOutput::of({
        check.args(["check", "--restore", "--archive", scene.archive.url()]);
        check
    });
    assert_eq!(output.status, 2, "{}", output.text());
    assert!(output.stderr.contains("--pgdata"), "{}", output.stderr);
}

#[test]
fn a_running_standby_is_not_disturbed() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = orders::primary(&sandbox, &archive);
    let mut standby = primary.base_backup("standby");
    standby.follow(&archive);
    standby.start();
    let before = names_in(&standby.data().join("pg_wal"));
    let mut check = sandbox.walkeep();
    check.args(["check", "--restore", "--archive", archive.url(), "--pgdata"]).arg(standby.data());
    let output = CallOutput::of(check);
    assert!(
        output.text().contains("✓ restore_command  restore_command finds that there is no"),
        "{}",
        output.text()
    );
    assert_eq!(names_in(&standby.data().join("pg_wal")), before);
    primary.sql("insert into orders values (1)");
    primary.archive_segment();
    wait_until("it follows", || standby.try_sql("select count(*) from orders").as_deref() == Ok("1"));
}
