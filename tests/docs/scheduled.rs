//! Command lines that run unattended, from `packaging/` and the guide: each as it stands, with the real programs, on a sound
//! archive and on a damaged one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{env, fs, os::unix::fs::MetadataExt, process::Output};

use support::{
    kept::{Kept, days_ago, name},
    package,
    restore::SYSTEM,
};

/// An archive with a configuration file, and the programs where a command line finds them.
struct Scheduled {
    kept: Kept,
    config: String,
}

impl Scheduled {
    fn sound() -> Self {
        let kept = Kept::new();
        kept.segments(1, 1..=9, 9);
        kept.backup(1, 3, 4, 5);
        let settings = format!("archive = \"{}\"\nkeep_backups = 1\n", kept.archive.url());
        let config = kept.sandbox.file("walkeep.toml", settings).to_str().unwrap().to_owned();
        Self { kept, config }
    }

    /// One in which no recovery gets beyond the sixth segment, and of which nothing can be pruned.
    fn damaged() -> Self {
        let scheduled = Self::sound();
        let kept = &scheduled.kept;
        let file = kept.archive.file(SYSTEM, &name(1, 6));
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        kept.put(&name(1, 6), bytes, days_ago(9));
        kept.put("00000002.history", "no history", days_ago(9));
        scheduled
    }

    fn shell(&self, command: &str) -> Output {
        let programs = self.kept.sandbox.program("walkeep");
        let path = format!("{}:{}", programs.parent().unwrap().display(), env::var("PATH").unwrap());
        let mut shell = self.kept.sandbox.command("/bin/sh");
        shell.env("WALKEEP_CONFIG", &self.config).env("PATH", path).args(["-c", command]);
        shell.output().unwrap()
    }
}

/// Returns all that was printed: cron mails it, and systemd writes it to the journal.
fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(package().join(path)).unwrap()
}

/// Returns the word after `walkeep` in a command line.
fn command_in(line: &str) -> &str {
    line.split_once("walkeep ").unwrap().1.split([' ', ')']).next().unwrap()
}

/// Asserts what a line for cron mails: what is wrong, and nothing where all is well.
fn mails_what_is_wrong(line: &str) {
    let sound = Scheduled::sound().shell(line);
    assert_eq!(printed(&sound), "", "{line}: nothing to mail");
    assert!(sound.status.success(), "{line}");
    let damaged = printed(&Scheduled::damaged().shell(line));
    let named = match command_in(line) {
        // All of them, or how many, and the first.
        "verify" if !line.contains("/dev/null") => name(1, 6),
        _ => "00000002.history".to_owned(),
    };
    assert!(damaged.contains(&named), "{line}: {damaged}");
}

#[test]
fn the_lines_for_cron_mail_what_is_wrong_and_nothing_else() {
    let table = read("packaging/walkeep.cron");
    let lines: Vec<&str> =
        table.lines().filter_map(|line| line.split_once("  postgres  ")).map(|(_, line)| line).collect();
    assert_eq!(lines.iter().map(|line| command_in(line)).collect::<Vec<_>>(), ["prune", "verify"]);
    for line in lines {
        mails_what_is_wrong(line);
        // As its comment says of many clusters.
        let command = format!("walkeep {}", command_in(line));
        mails_what_is_wrong(&line.replace(&command, &format!("{command} --all-systems")));
    }
}

#[test]
fn a_line_that_throws_the_output_away_mails_failures() {
    let page = read("docs/guide/verify.md");
    let lines: Vec<&str> = page.lines().filter(|line| line.ends_with("> /dev/null")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (times, command) = lines[0].split_at(lines[0].find("walkeep").unwrap());
    assert_eq!(times.split_whitespace().count(), 5, "as in a crontab of one user: {times}");
    mails_what_is_wrong(command);
}

#[test]
fn the_services_succeed_on_a_sound_archive_and_fail_on_a_damaged_one() {
    let mut run = Vec::new();
    for entry in fs::read_dir(package().join("packaging")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "service") {
            continue;
        }
        let unit = fs::read_to_string(&path).unwrap();
        // That of the metrics tells no failure: it has a test of its own.
        let lines = unit.lines().filter_map(|line| line.strip_prefix("ExecStart="));
        for line in lines.filter(|line| command_in(line) != "status") {
            let program = |scheduled: &Scheduled| {
                let program = scheduled.kept.sandbox.program("walkeep").display().to_string();
                line.replace("/usr/bin/walkeep", &program)
            };
            let sound = Scheduled::sound();
            let output = sound.shell(&program(&sound));
            assert!(output.status.success(), "{line}: {}", printed(&output));
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
            let damaged = Scheduled::damaged();
            let output = damaged.shell(&program(&damaged));
            assert_eq!(output.status.code(), Some(1), "{line}: {}", printed(&output));
            assert!(printed(&output).contains("error: "), "{line}: {}", printed(&output));
            run.push(command_in(line).to_owned());
        }
    }
    run.sort();
    assert_eq!(run, ["prune", "verify"]);
}

#[test]
fn the_service_for_metrics_writes_them_and_succeeds_whatever_they_say() {
    let unit = read("packaging/walkeep-status.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert!(unit.contains("\nSuccessExitStatus=1\n"), "{unit}");
    for (scheduled, status, success) in [(Scheduled::sound(), 0, "1"), (Scheduled::damaged(), 1, "0")] {
        let verified = scheduled.shell("walkeep verify > /dev/null 2>&1").status.code();
        assert_eq!(verified, Some(status));
        let metrics = scheduled.kept.sandbox.join("walkeep.prom");
        let output = scheduled.shell(&format!("METRICS={} FLAGS=; {line}", metrics.display()));
        assert_eq!(output.status.code(), Some(status), "{}", printed(&output));
        let written = fs::read_to_string(metrics).unwrap();
        let found =
            written.lines().find_map(|line| line.strip_prefix("walkeep_last_verify_success{")).unwrap();
        assert!(found.ends_with(&format!(" {success}")), "{found}");
    }
}

#[test]
fn the_lines_for_whoever_packages_write_the_files() {
    let page = read("packaging/README.md");
    let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("walkeep ")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let scheduled = Scheduled::sound();
    let destination = scheduled.kept.sandbox.directory("package");
    for directory in ["man/man1", "bash-completion/completions", "fish/vendor_conf.d"] {
        let mut make = scheduled.kept.sandbox.command("mkdir");
        assert!(
            make.arg("-p").arg(destination.join("usr/share").join(directory)).status().unwrap().success()
        );
    }
    for line in lines {
        let output = scheduled.shell(&format!("DESTDIR={}; {line}", destination.display()));
        assert!(output.status.success(), "{line}: {}", printed(&output));
        assert_eq!(printed(&output), "", "{line}");
    }
    let written =
        |path: &str| fs::metadata(destination.join("usr/share").join(path)).is_ok_and(|it| it.size() > 500);
    for path in
        ["man/man1/walkeep-prune.1", "bash-completion/completions/walkeep", "fish/vendor_conf.d/walkeep.fish"]
    {
        assert!(written(path), "{path}");
    }
}
