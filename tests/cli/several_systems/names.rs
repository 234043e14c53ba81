//! Names of clusters: whoever takes an identifier takes a name, and who shows one shows the name beside it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, path::Path};

use super::directory::{two_clusters, walkeep};
use support::{
    push::{HISTORY, OTHER_SYSTEM, SYSTEM},
    store_cluster::CallOutput,
};

fn configuration() -> String {
    format!("[systems]\nmain = \"{SYSTEM}\"\nbilling = \"{OTHER_SYSTEM}\"\n")
}

#[test]
fn a_name_stands_for_its_system_in_every_command() {
    let pusher = two_clusters();
    let file = pusher.sandbox.file("walkeep.toml", configuration());
    let config = file.to_str().unwrap();
    let main = ["--config", config, "--system-identifier", "main"];
    for (command, arguments) in [
        ("list", &[][..]),
        ("verify", &["--names-only"]),
        ("prune", &["--keep-wal-days", "100000"]),
        ("status", &[]),
        ("cat", &[HISTORY]),
    ] {
        let by_name = CallOutput::of(walkeep(&pusher, command, &[arguments, &main[..]].concat()));
        let system = SYSTEM.to_string();
        let by_number = [arguments, &["--config", config, "--system-identifier", &system]].concat();
        let by_number = CallOutput::of(walkeep(&pusher, command, &by_number));
        assert_eq!(by_name.status, by_number.status, "{command}: {}", by_name.text());
        assert!(!by_name.text().contains("several systems"), "{command}: {}", by_name.text());
    }
    let archived = pusher.push_with(&main, HISTORY);
    assert_eq!(CallOutput::of(archived).status, 0);
    let mut restore = pusher.sandbox.walkeep_restore();
    restore.args(["--archive", pusher.archive.url()]).args(main).args([HISTORY, "restored"]);
    restore.current_dir(pusher.sandbox.path());
    let restored = CallOutput::of(restore);
    assert_eq!(restored.status, 0, "{}", restored.text());
    assert!(pusher.sandbox.join("restored").exists());
}

#[test]
fn an_unknown_name_is_answered_with_those_that_exist() {
    let pusher = two_clusters();
    let file = pusher.sandbox.file("walkeep.toml", configuration());
    let unknown = |name: &'static str| ["--config", file.to_str().unwrap(), "--system-identifier", name];
    for command in ["list", "verify", "prune", "status", "check"] {
        let output = CallOutput::of(walkeep(&pusher, command, &unknown("mian")));
        let words = ["no system has the name mian", "did you mean main?", "[systems] has billing, main"];
        output.is_error(2, &words);
    }
    CallOutput::of(pusher.push_with(&unknown("x"), HISTORY)).is_error(2, &["no system has the name x"]);
    let nonsense = CallOutput::of(walkeep(&pusher, "list", &["--system-identifier", "a b"]));
    nonsense.is_error(2, &["--system-identifier", "neither a system identifier nor a name"]);
}

#[test]
fn a_refusal_says_which_is_which() {
    let pusher = two_clusters();
    let file = pusher.sandbox.file("walkeep.toml", configuration());
    let config = ["--config", file.to_str().unwrap()];
    for (command, arguments) in
        [("verify", &[][..]), ("prune", &["--keep-days", "1"]), ("cat", &[HISTORY]), ("list", &["files"])]
    {
        let output = CallOutput::of(walkeep(&pusher, command, &[arguments, &config[..]].concat()));
        let main =
            format!("{SYSTEM} (main; newest 000000010000000000000002, archived 2001-02-05T04:05:06Z), ");
        let billing = format!(
            "{OTHER_SYSTEM} (billing; newest 000000010000000000000001, archived 2002-02-03T04:05:06Z); "
        );
        output.is_error(2, &["holds several systems: ", &main, &billing, "walkeep list shows"]);
    }
    let status = CallOutput::of(walkeep(&pusher, "status", &config));
    assert!(status.status != 0 && status.text().contains("(billing; newest"), "{}", status.text());
}

#[test]
fn a_refusal_of_hundreds_of_systems_is_bounded() {
    let pusher = two_clusters();
    for system in 1_000..1_198 {
        fs::create_dir(Path::new(pusher.archive.url()).join(system.to_string())).unwrap();
    }
    let output = CallOutput::of(walkeep(&pusher, "verify", &[]));
    output.is_error(2, &["1000, 1001, ", " and 190 more; ", "walkeep list shows"]);
    assert!(output.stderr.len() < 1000, "{}", output.stderr);
}

#[test]
fn the_name_stands_beside_the_identifier() {
    let pusher = two_clusters();
    let file = pusher.sandbox.file("walkeep.toml", configuration() + "absent = \"7\"\n");
    let config = ["--config", file.to_str().unwrap()];
    let data = pusher.data.join("").display().to_string();
    let checked = CallOutput::of(walkeep(&pusher, "check", &[&config[..], &["--pgdata", &data]].concat()));
    let line = format!("the archive holds WAL of system {SYSTEM} (main)\n");
    assert!(checked.text().contains(&line), "{}", checked.text());
    let status = [&config[..], &["--system-identifier", "main"]].concat();
    let status = CallOutput::of(walkeep(&pusher, "status", &status)).text();
    assert!(status.contains(&format!(", system {SYSTEM} (main)\n")), "{status}");
    let absent = [&config[..], &["--system-identifier", "absent"]].concat();
    for command in ["list", "verify", "status"] {
        let output = CallOutput::of(walkeep(&pusher, command, &absent));
        let others = format!("but systems {SYSTEM} (main), {OTHER_SYSTEM} (billing)");
        let said = output.text();
        assert!(said.contains("holds nothing of system 7 (absent)") && said.contains(&others), "{said}");
    }
    // A new cluster, in an archive of many.
    for system in 1_000..1_100 {
        fs::create_dir(Path::new(pusher.archive.url()).join(system.to_string())).unwrap();
    }
    fs::remove_dir_all(Path::new(pusher.archive.url()).join(SYSTEM.to_string())).unwrap();
    let checked = CallOutput::of(walkeep(&pusher, "check", &[&config[..], &["--pgdata", &data]].concat()));
    let line = format!(
        "holds no WAL of system {SYSTEM} (main) yet, but of 1000, 1001, 1002, 1003, 1004 and 96 more"
    );
    assert!(checked.text().contains(&line), "{}", checked.text());
}
