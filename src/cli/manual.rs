//! Sections of the manual pages that no definition of a command line contains.

use clap::Command;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use crate::config::variables;

/// Lines of the guide, by the name of the page. Each fits a terminal of 80 columns, beside the page's margin: a longer one is broken
/// by a backslash.
const EXAMPLES: [(&str, &[&str]); 12] = [
    (
        "walkeep",
        &[
            "walkeep check --archive /mnt/archive \\\n  --pgdata /var/lib/postgresql/15/main --pg-url postgres:///postgres",
            "walkeep prune --archive /mnt/archive --keep-backups 3 --keep-days 14",
            "walkeep verify --archive /mnt/archive",
        ],
    ),
    ("walkeep-archive", &["archive_command = 'walkeep-archive --archive /mnt/archive %p'"]),
    ("walkeep-restore", &["restore_command = 'walkeep-restore --archive /mnt/archive %f %p'"]),
    (
        "walkeep-backfill",
        &["walkeep backfill --archive /mnt/archive \\\n  --pgdata /var/lib/postgresql/15/main"],
    ),
    ("walkeep-cat", &["walkeep cat --archive /mnt/archive 00000001000000000000002A -o segment"]),
    (
        "walkeep-check",
        &[
            "walkeep check --archive /mnt/archive \\\n  --pgdata /var/lib/postgresql/15/main --pg-url postgres:///postgres",
        ],
    ),
    (
        "walkeep-list",
        &[
            "walkeep list --archive /mnt/archive",
            "walkeep list files 000000010000000000000003 00000001000000000000000A \\\n  --archive /mnt/archive",
        ],
    ),
    (
        "walkeep-prune",
        &[
            "walkeep prune --archive /mnt/archive --keep-backups 3 --keep-days 14",
            "walkeep prune --archive /mnt/archive \\\n  --all-systems --keep-backups 3 --keep-days 14",
        ],
    ),
    (
        "walkeep-status",
        &[
            "walkeep status --archive /mnt/archive \\\n  --pgdata /var/lib/postgresql/15/main --max-lag 30m",
            "walkeep status --archive /mnt/archive --all-systems",
        ],
    ),
    (
        "walkeep-verify",
        &[
            "walkeep verify --archive /mnt/archive",
            "walkeep verify --archive /mnt/archive --deep --sample 10% --since 30d",
            "walkeep verify --archive /mnt/archive --all-systems",
        ],
    ),
    (
        "walkeep-completions",
        &["walkeep completions bash \\\n  > \"$DESTDIR/usr/share/bash-completion/completions/walkeep\""],
    ),
    ("walkeep-man", &["walkeep man \"$DESTDIR/usr/share/man/man1\""]),
];

/// What the exit statuses of a command mean that does not say it itself.
const USUAL_STATUSES: &str = "0 done; 1 the work failed; 2 wrong usage or configuration, or an archive that refuses; 141 the reader of the output has left.";

const FILES: [(&str, &str); 2] = [
    ("/etc/walkeep/walkeep.toml", "Settings, all optional. --config names another file."),
    (
        "/var/tmp/walkeep-UID",
        "Directory for notes from one call to the next, of one user. It is safe to remove it.",
    ),
];

/// Splits what the exit statuses mean off the description of a command.
pub(super) fn without_statuses(mut command: Command) -> (Command, String) {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let (rest, statuses) = about.split_once("Exit status: ").unwrap_or((&about, USUAL_STATUSES));
    command = command.long_about(rest.trim_end().to_owned());
    (command, statuses.trim_end_matches(['.', '\n']).to_owned())
}

/// Returns the sections for the page of that name.
pub(super) fn sections(page: &str, command: &Command, statuses: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for status in statuses.split("; ") {
        match status.split_once(' ').filter(|(number, _)| number.parse::<u8>().is_ok()) {
            Some((number, meaning)) => item(&mut roff, number, meaning),
            None => item(&mut roff, "", status),
        }
    }
    roff.control("SH", ["ENVIRONMENT"]);
    if command.get_arguments().any(|argument| argument.get_id() == "config") || command.has_subcommands() {
        item(&mut roff, "WALKEEP_CONFIG", "Configuration file.");
        for (key, variable, example) in variables() {
            let meaning = format!("The key {key} of the configuration file, as in {variable}={example}.");
            item(&mut roff, &variable, &meaning);
        }
        item(
            &mut roff,
            "WALKEEP_STORE_KEY",
            "A key of the section [store], as in WALKEEP_STORE_REGION=eu-central-1 for region.",
        );
        roff.control("PP", []);
        roff.text([roman(
            "An object store's settings, such as AWS_ACCESS_KEY_ID, are those of its provider's own tools.",
        )]);
    } else {
        roff.text([roman("No variable has an effect on this command.")]);
    }
    roff.control("SH", ["FILES"]);
    for (file, meaning) in FILES {
        item(&mut roff, file, meaning);
    }
    roff.control("SH", ["EXAMPLES"]);
    for example in EXAMPLES.iter().filter(|(of, _)| *of == page).flat_map(|(_, examples)| *examples) {
        roff.control("PP", []).control("nf", []);
        for line in example.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}

fn item(roff: &mut Roff, term: &str, meaning: &str) {
    let term: Inline = bold(term);
    roff.control("TP", []).text([term]).text([roman(meaning)]);
}
