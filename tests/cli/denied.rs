//! What permissions deny is refused at once, with the user, the owner, and the command that mends it.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use support::{
    data_directory::SEGMENT,
    files::{Permissions, make_fifo},
    push::{HISTORY, HISTORY_CONTENT, Pusher, SYSTEM, succeeds},
    running::outcome_of,
};

/// Longer than a busy machine takes for a refusal, and shorter than any time limit of the programs.
const AT_ONCE: u64 = 25;

/// Returns each program with a request that needs a configuration.
fn programs(pusher: &Pusher) -> [Command; 3] {
    let mut archive = pusher.push(SEGMENT);
    archive.env_remove("WALKEEP_ARCHIVE");
    let mut restore = pusher.sandbox.walkeep_restore();
    restore.args([SEGMENT, "restored"]).current_dir(pusher.data.join(""));
    let mut list = pusher.sandbox.walkeep();
    list.arg("list");
    [archive, restore, list]
}

#[test]
fn a_configuration_file_of_another_user_names_the_command_that_mends_it() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let config = pusher.sandbox.join("walkeep.toml");
    fs::write(&config, format!("archive = '{}'", pusher.archive.url())).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    let path = config.display();
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        fs::set_permissions(&config, fs::Permissions::from_mode(0o200)).unwrap();
    }
    for mut command in programs(&pusher) {
        command.env("WALKEEP_CONFIG", &config);
        let said = outcome_of(command).stderr;
        assert!(said.contains(&format!("cannot read the configuration file {path} as ")), "{said}");
        if is_root {
            let mends =
                "Permission denied, because it belongs to root:root and has the mode 0600; chown root:";
            assert!(said.contains(mends) && said.contains(&format!(" {path} && chmod 640 {path}")), "{said}");
        } else {
            assert!(said.contains(&format!("; chmod u+r {path}")), "{said}");
        }
    }
}

#[test]
fn a_file_of_credentials_that_is_denied_names_the_command_that_mends_it() {
    let pusher = Pusher::new();
    let secret = pusher.sandbox.file("secret", "x");
    let _closed = Permissions::set(&secret, 0o000);
    let path = secret.to_str().unwrap();
    for (url, variables) in [
        ("s3://wal", &[("AWS_SHARED_CREDENTIALS_FILE", path)][..]),
        ("s3://wal", &[("AWS_ROLE_ARN", "arn:x"), ("AWS_WEB_IDENTITY_TOKEN_FILE", path)]),
        ("s3://wal", &[("AWS_CA_BUNDLE", path)]),
        ("gs://wal", &[("GOOGLE_APPLICATION_CREDENTIALS", path)]),
    ] {
        let mut list = pusher.sandbox.walkeep();
        list.args(["list", "--archive", url, "--timeout", "5s"]);
        list.envs(variables.iter().copied());
        let outcome = outcome_of(list);
        assert_eq!(outcome.status, 2, "{variables:?}: {}", outcome.stderr);
        for words in [format!("{path} as "), "has the mode 0000; chmod u+r ".to_owned()] {
            assert!(outcome.stderr.contains(&words), "{words:?} is not in {}", outcome.stderr);
        }
    }
}

#[test]
fn a_pipe_as_configuration_is_read_if_somebody_writes_and_else_given_up() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let list = pusher.sandbox.program("walkeep");
    let mut shell = pusher.sandbox.command("bash");
    let command = format!(
        "{} list --config <(sleep 0.2; echo \"archive = '{}'\")",
        list.display(),
        pusher.archive.url()
    );
    shell.args(["-c", &command]);
    let outcome = outcome_of(shell);
    assert!(outcome.stderr.contains("holds no system's WAL"), "the archive is read: {}", outcome.stderr);
    let fifo = pusher.sandbox.join("fifo");
    make_fifo(&fifo);
    let started = Instant::now();
    let waiting = programs(&pusher).map(|mut command| {
        command.env("WALKEEP_CONFIG", &fifo).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    });
    for program in waiting {
        let output = program.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(
            said.contains(&format!("{}: it is a pipe, and nobody has written", fifo.display())),
            "{said}"
        );
    }
    assert!(started.elapsed().as_secs() < 2 * AT_ONCE, "{:?}", started.elapsed());
}

#[test]
fn a_person_is_refused_at_once_what_is_denied() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    pusher.data.file(&format!("pg_wal/{HISTORY}"), HISTORY_CONTENT);
    succeeds(pusher.push(SEGMENT));
    succeeds(pusher.push(HISTORY));
    for (name, file) in [(SEGMENT, pusher.file(SEGMENT)), (HISTORY, pusher.file(HISTORY))] {
        let _closed = Permissions::set(&file, 0o000);
        for arguments in [&["cat", name, "-o", "out"][..], &["list"], &["status"], &["verify"]] {
            let mut command = pusher.sandbox.walkeep();
            command.args(arguments).args(["--archive", pusher.archive.url()]);
            let started = Instant::now();
            let outcome = outcome_of(command);
            assert!(started.elapsed().as_secs() < AT_ONCE, "{arguments:?}: {:?}", started.elapsed());
            assert!(!outcome.stderr.contains("trying again"), "{arguments:?}: {}", outcome.stderr);
            let is_cat = arguments[0] == "cat";
            assert!(!is_cat || outcome.status == 2, "{arguments:?}: {} {}", outcome.status, outcome.stderr);
            assert!(!is_cat || outcome.stderr.contains("; chmod u+rwX "), "{}", outcome.stderr);
        }
    }
    assert!(!Path::new(&pusher.sandbox.join("out")).exists());
}

#[test]
fn a_conflict_names_the_host_that_was_first() {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    succeeds(pusher.push(SEGMENT));
    pusher.data.segment(SEGMENT, 1);
    let outcome = outcome_of(pusher.push(SEGMENT));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(outcome.status, 3, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains(&format!(" by host {} with BLAKE3 ", host.trim_end())),
        "{}",
        outcome.stderr
    );
    let header = fs::read(pusher.file(SEGMENT)).unwrap();
    assert!(String::from_utf8_lossy(&header[..1024]).contains(&format!("\"host\":\"{}\"", host.trim_end())));
    assert!(outcome.stderr.contains(&SYSTEM.to_string()));
}
