//! The guide's recipes for a failover, on real servers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;

use support::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    guide,
    orders::commit_orders,
    output_of,
    recovery::Role,
    sandbox::Sandbox,
    wait_until,
};

const GUIDE: &str = "docs/guide/failover.md";

/// Name in the guide.
const SEGMENT: &str = "00000001000000000000002A";

/// Creates a running primary with segments of 1 MB and an empty table of orders, which keeps all WAL for standbys to
/// stream.
fn primary<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory, archive_mode: &str) -> Cluster<'a> {
    let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
    primary.archive_into(archive);
    primary.set("archive_mode", archive_mode);
    primary.set("wal_keep_size", "1GB");
    primary.set("max_wal_senders", "8");
    primary.start();
    primary.sql("create table orders (id int)");
    primary
}

/// Creates a standby that streams and does not use the archive.
fn streaming<'a>(primary: &Cluster<'a>, name: &str) -> Cluster<'a> {
    let mut standby = primary.base_backup(name);
    standby.set("primary_conninfo", &primary.connection());
    standby.becomes(Role::Standby);
    standby.start();
    standby
}

fn count_orders(cluster: &Cluster) -> String {
    cluster.try_sql("select count(*) from orders").unwrap_or_default()
}

fn wait_for_orders(cluster: &Cluster, expected: &str) {
    wait_until(&format!("there are {expected} orders"), || count_orders(cluster) == expected);
}

/// Returns the number of orders after a recovery to `timeline`.
fn count_on(timeline: &str, backup: &mut Cluster, archive: &ArchiveDirectory) -> String {
    backup.recover_from(archive, &[("recovery_target_timeline", timeline), ("archive_mode", "off")]);
    backup.start();
    count_orders(backup)
}

#[test]
fn a_standby_that_is_set_up_by_the_guide_streams_and_has_a_restore_command() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let primary = primary(&sandbox, &archive, "on");
    let section = guide::section(GUIDE, "## Set up a standby");
    primary.sql(section.lines().find(|line| line.contains("create role")).unwrap());
    let copied = sandbox.join("copied");
    let host = primary.connection().split(' ').next().unwrap().replace("host=", "-h ");
    let program = sandbox.program("walkeep-restore");
    let program = program.to_str().unwrap();
    let names = [
        ("walkeep-restore", program),
        ("-h primary", host.as_str()),
        ("/var/lib/postgresql/15/main", copied.to_str().unwrap()),
        (guide::ARCHIVE, archive.url()),
    ];
    guide::run(&sandbox, sandbox.path(), &guide::block_with(&section, "pg_basebackup"), &names);
    let mut standby = Cluster::from_backup(&sandbox, "standby", &copied);
    standby.start();
    commit_orders(&primary);
    wait_for_orders(&standby, "100");
    assert_eq!(primary.sql("select usename, state from pg_stat_replication"), "replicator|streaming");
    let restore = format!("{program} --archive {} %f %p", archive.url());
    assert_eq!(standby.sql("show restore_command"), restore);
}

#[test]
fn the_end_of_an_old_timeline_is_recovered_from_its_partial_segment() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive, "on");
    let mut without = primary.base_backup("without");
    let [mut with, mut latest] = ["with", "latest"].map(|name| without.copy(name));
    let standby = streaming(&primary, "standby");
    commit_orders(&primary);
    primary.archive_segment();
    commit_orders(&primary);
    let unfinished = primary.current_segment();
    wait_for_orders(&standby, "200");
    primary.kill();
    standby.promote();
    commit_orders(&standby);
    standby.archive_segment();

    assert_eq!(count_on("1", &mut without, &archive), "100");
    let recipe = guide::block_with(&guide::section(GUIDE, "## The end of the old timeline"), ".partial");
    guide::run(&sandbox, with.data(), &recipe, &[(guide::ARCHIVE, archive.url()), (SEGMENT, &unfinished)]);
    assert_eq!(count_on("1", &mut with, &archive), "200");
    assert_eq!(count_on("latest", &mut latest, &archive), "300", "which needs no partial segment");
}

/// Makes a standby recycle an old segment as the next one, which the primary has not begun; returns its name.
fn recycle(standby: &Cluster, primary: &Cluster) -> String {
    let mut reused = String::new();
    wait_until("the standby has segments to reuse", || {
        // Larger than the rest of the last segment, which therefore still shows its old content.
        primary.sql("insert into orders select generate_series(1, 3000)");
        primary.finish_segment();
        primary.sql("checkpoint");
        let (current, orders) = (primary.current_segment(), count_orders(primary));
        wait_for_orders(standby, &orders);
        standby.sql("checkpoint");
        let files = fs::read_dir(standby.wal("")).unwrap().map(|file| file.unwrap().file_name());
        let names = files.map(|name| name.into_string().unwrap());
        names.filter(|name| name.len() == 24 && *name > current).min().is_some_and(|next| {
            reused = next;
            fs::read(standby.wal(&reused)).unwrap()[1 << 16..].iter().any(|byte| *byte != 0)
        })
    });
    reused
}

#[test]
fn a_standby_whose_last_segment_was_refused_continues_by_the_guides_recipe() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive, "always");
    let mut backup = primary.base_backup("backup");
    let [next, first, second] = ["next", "first", "second"].map(|name| streaming(&primary, name));
    second.sql("alter system set wal_keep_size = 0");
    second.sql("select pg_reload_conf()");
    let reused = recycle(&second, &primary);
    primary.finish_segment();
    commit_orders(&primary);
    assert_eq!(primary.current_segment(), reused);
    let orders = count_orders(&primary);
    for standby in [&next, &first, &second] {
        wait_for_orders(standby, &orders);
    }
    primary.kill();
    next.promote();
    for standby in [&first, &second] {
        standby.sql(&format!("alter system set primary_conninfo = '{}'", next.connection()));
        standby.sql("select pg_reload_conf()");
        wait_until("a standby has archived the segment, or was refused", || {
            let failed = "select coalesce(last_failed_wal, '') from pg_stat_archiver";
            standby.wal(format!("archive_status/{reused}.done")).exists() || standby.sql(failed) == reused
        });
    }
    let system = next.system_identifier();
    assert!(archive.file(system, &reused).exists());
    assert!(second.log().contains("archive command failed with exit code 3"), "the two copies differ");

    let section = guide::section(GUIDE, "## One archive for all");
    let history = output_of(sandbox.walkeep().args(["cat", "--archive", archive.url(), "00000002.history"]));
    let left_at = history.split('\t').nth(1).unwrap();
    let archived = sandbox.join("archived");
    let names = [
        (guide::ARCHIVE, archive.url()),
        (SEGMENT, &reused),
        ("0x000090", &format!("0x{}", &left_at[left_at.len() - 5..])),
        ("/tmp/archived", archived.to_str().unwrap()),
    ];
    let output = guide::run(&sandbox, second.data(), &guide::block_with(&section, "cmp"), &names);
    assert_eq!(output, history, "and cmp found no difference");
    assert!(fs::read(&archived).unwrap() != fs::read(second.wal(&reused)).unwrap());
    guide::run(&sandbox, second.data(), &guide::block_with(&section, "mv "), &[(SEGMENT, &reused)]);
    commit_orders(&next);
    next.archive_segment();
    let orders = count_orders(&next);
    wait_for_orders(&second, &orders);
    second.wait_until_archived();
    assert_eq!(count_on("latest", &mut backup, &archive), orders);
}

#[test]
fn a_promotion_without_the_archive_loses_rows_unless_on_error_is_stop() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = primary(&sandbox, &archive, "on");
    let mut never_waits = primary.base_backup("never-waits");
    never_waits.follow(&archive);
    never_waits.start();
    commit_orders(&primary);
    primary.archive_segment();
    wait_for_orders(&never_waits, "100");
    never_waits.stop(Shutdown::Fast);
    let mut never_loses = never_waits.copy("never-loses");
    for _ in 0..5 {
        commit_orders(&primary);
        primary.archive_segment();
    }
    primary.stop(Shutdown::Immediate);
    archive.vanish();

    never_waits.restore_with("--timeout 1s", &archive);
    never_waits.start();
    never_waits.promote();
    assert_eq!(count_orders(&never_waits), "100", "500 are in the archive");

    let section = guide::section(GUIDE, "## While the archive is away");
    let command = section.lines().find_map(|line| line.strip_prefix("restore_command = '")).unwrap();
    let restore = format!("{} --timeout 1s", sandbox.program("walkeep-restore").display());
    let command = command.trim_end_matches('\'').replace("walkeep-restore", &restore);
    never_loses.set("restore_command", &command.replace(guide::ARCHIVE, archive.url()));
    never_loses.launch();
    assert!(!never_loses.wait_for_exit().success());
    archive.come_back();
    never_loses.start();
    wait_for_orders(&never_loses, "600");
    never_loses.promote();
    assert_eq!(count_orders(&never_loses), "600");
}
