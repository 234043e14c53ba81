//! A server under load that is killed and restarted while its WAL is archived: the recovered rows are exactly the
//! committed ones.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{fs, process::Stdio};

use support::{archive::ArchiveDirectory, cluster::Cluster, sandbox::Sandbox, wait_until};

const ROUNDS: usize = 5;

/// Number of segments written while the archive is away, and minimum archived once it is back.
const BACKLOG: usize = 20;

/// All rows, as two numbers.
const ROWS: &str = "select count(*), md5(string_agg(id::text || filler, ',' order by id)) from orders";

/// Returns the number of transactions that the pgbench clients saw committed: one log line each.
fn committed(sandbox: &Sandbox) -> usize {
    let logs = fs::read_dir(sandbox.path()).unwrap().map(Result::unwrap);
    let logs = logs.filter(|entry| entry.file_name().to_str().unwrap().starts_with("committed."));
    // The last line may be incomplete.
    logs.map(|log| fs::read_to_string(log.path()).unwrap().matches('\n').count()).sum()
}

#[test]
fn commits_under_load_are_recovered_although_the_server_was_killed_repeatedly() {
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
