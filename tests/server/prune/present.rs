//! Interventions on real servers between two nightly prunes, after which the current data must still be recoverable.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    io::Write,
    process::{Child, Command, Stdio},
};

use support::{
    archive::ArchiveDirectory, cluster::Cluster, output_of, postgres, sandbox::Sandbox, wait_until,
};

/// Creates a running primary that archives segments of 1 MB.
fn primary<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> Cluster<'a> {
    let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
    primary.archive_into(archive);
    primary.start();
    primary.sql("create table steps (step text)");
    primary
}

fn take(server: &Cluster, step: &str) {
    server.sql(&format!("insert into steps values ('{step}')"));
}

fn prune(sandbox: &Sandbox, archive: &ArchiveDirectory) -> String {
    let mut prune = sandbox.walkeep();
    prune.args(["prune", "--keep-backups", "1", "--archive", archive.url()]);
    output_of(&mut prune)
}

/// Makes all archived files days old.
fn age(archive: &ArchiveDirectory, system: u64) {
    for name in archive.all_names(system) {
        support::kept::touch(&archive.file(system, &name), support::kept::days_ago(3));
    }
}

#[test]
fn after_a_recovery_to_the_past_the_backup_that_led_there_outlives_the_next_prune() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut first = primary(&sandbox, &archive);
    let system = first.system_identifier();
    let monday = first.base_backup("monday");
    take(&first, "a");
    first.sql("select pg_create_restore_point('good')");
    first.archive_segment();
    take(&first, "bad");
    first.base_backup("tuesday");
    first.archive_segment();
    first.stop(support::cluster::Shutdown::Fast);

    // Back to before the accident; only the history of the new timeline is archived so far.
    let mut second = Cluster::from_backup(&sandbox, "second", monday.data());
    second.recover_from(&archive, &[("recovery_target_name", "good"), ("recovery_target_action", "promote")]);
    second.archive_into(&archive);
    second.start();
    wait_until("the server takes rows", || second.sql("select pg_is_in_recovery()") == "f");
    second.wait_until_archived();
    age(&archive, system);
    let said = prune(&sandbox, &archive);
    assert!(said.contains("the newest that leads to the end of timeline 2"), "{said}");
    take(&second, "c");
    second.archive_segment();
    second.stop(support::cluster::Shutdown::Immediate);

    let mut third = Cluster::from_backup(&sandbox, "third", monday.data());
    third.recover_from(&archive, &[]);
    third.start();
    wait_until("recovery has ended", || third.sql("select pg_is_in_recovery()") == "f");
    assert_eq!(third.sql("select string_agg(step, '' order by step) from steps"), "ac");
}

/// A session that takes a base backup while it is open.
struct Session(Child);

impl Session {
    fn begin(server: &Cluster) -> Self {
        let mut psql: Command = server.client("psql");
        psql.args(["-qAt", "-v", "ON_ERROR_STOP=1"]);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let begin = format!("select {};\n", postgres::backup_functions("'takes long'").0);
        child.stdin.as_mut().unwrap().write_all(begin.as_bytes()).unwrap();
        Self(child)
    }

    fn end(mut self) {
        self.0
            .stdin
            .as_mut()
            .unwrap()
            .write_all(format!("select {};\n", postgres::backup_functions("").1).as_bytes())
            .unwrap();
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_base_backup_in_progress_keeps_its_wal_while_a_shorter_one_ends() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive);
    let system = primary.system_identifier();
    primary.base_backup("last-week");
    primary.archive_segment();
    age(&archive, system);
    let long = Session::begin(&primary);
    let begun = "select count(*) from pg_stat_activity where state = 'idle' and query like '%takes long%'";
    wait_until("the long backup has begun", || primary.sql(begun) == "1");
    take(&primary, "a");
    primary.archive_segment();
    take(&primary, "b");
    primary.base_backup("short");
    primary.archive_segment();
    let said = prune(&sandbox, &archive);
    assert!(said.contains("a base backup may be at work that needs it"), "{said}");
    long.end();
    primary.archive_segment();
    let listed = output_of(sandbox.walkeep().args(["list", "backups", "--json", "--archive", archive.url()]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let complete: Vec<(&str, bool)> = listed["backups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backup| (backup["label"].as_str().unwrap(), backup["complete"].as_bool().unwrap()))
        .collect();
    assert_eq!(complete, [("takes long", true), ("short", true)]);
}
