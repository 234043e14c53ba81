//! A server under load, killed and started again and again while its WAL is archived: what is recovered from the archive is
//! what was committed, to the row.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{fs, process::Stdio};

use support::{archive::ArchiveDirectory, cluster::Cluster, sandbox::Sandbox, wait_until};

const ROUNDS: usize = 5;

/// How many segments are made while the archive is away, and the least that are archived once it is back.
const BACKLOG: usize = 20;

/// Every row that there is, in two numbers.
const ROWS: &str = "select count(*), md5(string_agg(id::text || filler, ',' order by id)) from orders";

/// How many transactions the clients of pgbench saw committed: it writes a line about each.
fn committed(sandbox: &Sandbox) -> usize {
    let logs = fs::read_dir(sandbox.path()).unwrap().map(Result::unwrap);
    let logs = logs.filter(|entry| entry.file_name().to_str().unwrap().starts_with("committed."));
    // The last line may not have been written to its end.
    logs.map(|log| fs::read_to_string(log.path()).unwrap().matches('\n').count()).sum()
}

#[test]
fn what_was_committed_under_load_is_recovered_although_the_server_was_killed_again_and_again() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut server = Cluster::initialised_with(&sandbox, "primary", &["--wal-segsize=1"]);
    server.set("archive_mode", "on");
    let program = sandbox.program("walkeep-archive");
    server.set("archive_command", &format!("{} -v --archive {} %p", program.display(), archive.url()));
    server.start();
    server.sql("create table orders (id bigserial primary key, filler text)");
    let mut recovered = server.base_backup("recovered");
    let order = "insert into orders (filler) select repeat(md5(random()::text), 50)\n";
    let script = sandbox.file("order.sql", order);

    for round in 0..ROUNDS {
        archive.vanish();
        let mut load = server
            .client("pgbench")
            .args(["--no-vacuum", "--client=4", "--jobs=2", "--time=600", "--log"])
            .arg(format!("--log-prefix={}", sandbox.join(format!("committed.{round}")).display()))
            .arg("--file")
            .arg(&script)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("there is a backlog", || server.backlog().len() > BACKLOG);
        archive.come_back();
        let archived = |server: &Cluster| server.log().matches("archived by an earlier call").count();
        let before = archived(&server);
        wait_until("files are taken along", || archived(&server) > before + BACKLOG / 2);
        server.kill();
        load.wait().unwrap();
        server.start();
    }
    let rows = server.sql(ROWS);
    let count: usize = rows.split('|').next().unwrap().parse().unwrap();
    assert!(committed(&sandbox) > 0 && count >= committed(&sandbox), "{rows} of {}", committed(&sandbox));
    server.archive_segment();
    assert!(!server.log().contains("different content"));
    server.kill();

    recovered.recover_from(&archive, &[]);
    recovered.start();
    assert_eq!(recovered.sql(ROWS), rows);
}
