//! A primary that takes orders, and archives them.

use super::{archive::ArchiveDirectory, cluster::Cluster, sandbox::Sandbox};

/// Creates a running primary that archives segments of 1 MB, with an empty table of orders.
pub fn primary<'a>(sandbox: &'a Sandbox, archive: &ArchiveDirectory) -> Cluster<'a> {
    let mut primary = Cluster::initialised_with(sandbox, "primary", &["--wal-segsize=1"]);
    primary.archive_into(archive);
    primary.start();
    primary.sql("create table orders (id int)");
    primary
}

/// Commits a hundred orders.
pub fn commit_orders(cluster: &Cluster) {
    cluster.sql("insert into orders select generate_series(1, 100)");
}

/// Commits a hundred orders and archives them; returns the segment.
pub fn take_orders(primary: &Cluster) -> String {
    commit_orders(primary);
    primary.archive_segment()
}

pub fn count_orders(cluster: &Cluster) -> String {
    cluster.sql("select count(*) from orders")
}

/// Lists the archived segments, sorted.
pub fn segments(archive: &ArchiveDirectory, system: u64) -> Vec<String> {
    archive.all_names(system).into_iter().filter(|name| name.len() == 24).collect()
}
