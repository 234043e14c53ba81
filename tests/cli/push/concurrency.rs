//! Concurrent pushes: after the archiver was killed while its command still runs, or of two servers that share an
//! archive.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::pipe,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use support::{
    data_directory::{DataDirectory, SEGMENT},
    push::{Pusher, SYSTEM, succeeds},
    running::Running,
    strace::{changes_of, trace},
    wait_until,
    wrapper::in_shell,
};

/// Number of rounds of each race, whose outcome is random.
const ROUNDS: usize = 5;

/// Number of concurrent pushes.
const PUSHES: usize = 10;

/// Starts the commands at the same moment and returns their exit statuses.
fn race(pusher: &Pusher, commands: &[Command]) -> Vec<Option<i32>> {
    let (gate, opener) = pipe().unwrap();
    let start = |command: &Command| {
        // `read` returns when the last writer has closed the pipe.
        let mut waiting = in_shell(&pusher.sandbox, "read line; exec \"$@\" </dev/null", command);
        waiting.stdin(gate.try_clone().unwrap()).stderr(Stdio::null()).spawn().unwrap()
    };
    let racers: Vec<Child> = commands.iter().map(start).collect();
    drop(opener);
    racers.into_iter().map(|mut racer| racer.wait().unwrap().code()).collect()
}

#[test]
fn concurrent_pushes_of_one_file_all_succeed_and_leave_one_file() {
    for _ in 0..ROUNDS {
        let pusher = Pusher::new();
        let content = pusher.data.segment(SEGMENT, 0);
        let commands: Vec<_> = (0..PUSHES).map(|_| pusher.push(SEGMENT)).collect();
        assert_eq!(race(&pusher, &commands), [Some(0); PUSHES]);
        assert_eq!(pusher.files(), ["7381092445103374871/wal/0000000100000000/000000010000000000000001"]);
        assert!(pusher.original(SEGMENT) == content);
    }
}

#[test]
fn of_concurrent_pushes_with_different_content_one_wins_and_the_others_fail() {
    for _ in 0..ROUNDS {
        let pusher = Pusher::new();
        let twin = DataDirectory::new(&pusher.sandbox, "twin", SYSTEM);
        let contents = [pusher.data.segment(SEGMENT, 0), twin.segment(SEGMENT, 1)];
        let commands: Vec<_> = (0..PUSHES)
            .map(|number| {
                let push = pusher.push(SEGMENT);
                if number % 2 == 0 { push } else { twin.run(push) }
            })
            .collect();
        let statuses = race(&pusher, &commands);

        let archived = pusher.original(SEGMENT);
        let winner = contents.iter().position(|content| *content == archived).unwrap();
        let expected: Vec<_> =
            (0..PUSHES).map(|number| Some(if number % 2 == winner { 0 } else { 3 })).collect();
        assert_eq!(statuses, expected);
        assert_eq!(pusher.files(), ["7381092445103374871/wal/0000000100000000/000000010000000000000001"]);
    }
}

#[test]
fn concurrent_pushes_of_different_files_do_not_disturb_each_other() {
    let pusher = Pusher::new();
    // Two groups, whose directories all pushes want to create.
    let names: Vec<_> = (0..PUSHES).map(|n| format!("00000001{:08X}{:08X}", n % 2, n + 1)).collect();
    let contents: Vec<_> = names.iter().map(|name| pusher.data.segment(name, 0)).collect();
    let commands: Vec<_> = names.iter().map(|name| pusher.push(name)).collect();
    assert_eq!(race(&pusher, &commands), [Some(0); PUSHES]);
    for (name, content) in names.iter().zip(contents) {
        assert!(pusher.original(name) == content, "{name}");
    }
    assert_eq!(pusher.files().len(), PUSHES);
}

#[test]
fn a_push_overtaken_in_its_last_step_finds_the_name_taken() {
    // Long enough for the other one to overtake it.
    const PAUSE: Duration = Duration::from_secs(2);
    let overtaken = [(0, 0), (1, 3)].map(|(seed_of_the_other, status)| {
        let pusher = Pusher::new();
        pusher.data.segment(SEGMENT, 0);
        let file = pusher.file(SEGMENT);
        let (_, calls) = trace(&pusher.sandbox, &pusher.push(SEGMENT));
        fs::remove_file(&file).unwrap();
        let changes = changes_of(&calls, Path::new(pusher.archive.url()));
        let naming = changes.into_iter().find(|change| change.path == file).unwrap();

        let running = Running::start(naming.held(PAUSE, &pusher.sandbox, &pusher.push(SEGMENT)));
        wait_until("the staging file is there", || pusher.files().len() == 1);
        let twin = DataDirectory::new(&pusher.sandbox, "twin", SYSTEM);
        let content = twin.segment(SEGMENT, seed_of_the_other);
        succeeds(twin.run(pusher.push(SEGMENT)));
        (pusher, running, content, status)
    });
    for (pusher, running, content, status) in overtaken {
        let outcome = running.end();
        assert_eq!(outcome.status, status, "{}", outcome.stderr);
        assert!(pusher.original(SEGMENT) == content);
        assert_eq!(pusher.files(), ["7381092445103374871/wal/0000000100000000/000000010000000000000001"]);
    }
}
