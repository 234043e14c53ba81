//! A cluster of three timelines, its archive, and base backups on each of them, for tests that delete from copies of it.
//!
//! ```text
//! timeline 1  a (monday) b! c (tuesday) d! | e ...... (astray) f! g
//! timeline 2                               | h (wednesday) i! j |
//! timeline 3                                                    | k (thursday) l! m
//! ```
//!
//! Letters are rows, `!` restore points of the same name, and names in brackets base backups. The second timeline is a
//! recovery to the point `d`, after which the first one has gone on; the third one a promoted standby.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use jiff::Timestamp;

use super::{
    archive::ArchiveDirectory,
    cluster::{Cluster, Shutdown},
    sandbox::Sandbox,
    wait_until,
};

/// The archive of all three timelines, with the base backups.
pub struct Promoted {
    sandbox: Sandbox,
    pub archive: ArchiveDirectory,
    pub system: u64,
}

/// Labels of the base backups, in the order in which they were taken.
pub const BACKUPS: [&str; 5] = ["monday", "tuesday", "astray", "wednesday", "thursday"];

/// Returns the number of the segment of 1 MB that a backup history file is named after.
fn number(segment: &str) -> u64 {
    u64::from_str_radix(&segment[8..16], 16).unwrap() * 4096
        + u64::from_str_radix(&segment[16..24], 16).unwrap()
}

impl Promoted {
    /// Returns the instance shared by all concurrent tests of this process, which the last one drops.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Promoted>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let made = Arc::new(Self::make());
            *shared = Arc::downgrade(&made);
            made
        })
    }

    fn make() -> Self {
        let sandbox = Sandbox::new();
        let archive = ArchiveDirectory::new(&sandbox);
        let system = Self::live(&sandbox, &archive);
        let made = Self { sandbox, archive, system };
        let starts: Vec<_> = BACKUPS.iter().map(|label| made.start_of(label)).collect();
        let timelines: Vec<_> = starts.iter().map(|start| &start[..8]).collect();
        assert_eq!(timelines, ["00000001", "00000001", "00000001", "00000002", "00000003"]);
        let [monday, tuesday, astray, wednesday, thursday] = [0, 1, 2, 3, 4].map(|at| number(&starts[at]));
        assert!(
            monday < tuesday && tuesday < wednesday && wednesday < astray && astray < thursday,
            "{starts:?}"
        );
        made
    }

    /// Performs all events; returns the system identifier.
    fn live(sandbox: &Sandbox, archive: &ArchiveDirectory) -> u64 {
        let mut first = Cluster::initialised_with(sandbox, "first", &["--wal-segsize=1"]);
        first.archive_into(archive);
        first.start();
        first.sql("create table orders (step text)");
        write(&first, "a");
        first.base_backup("monday");
        write(&first, "b");
        write(&first, "c");
        let tuesday = first.base_backup("tuesday");
        write(&first, "d");
        write(&first, "e");
        // The position of its last backup is higher than that of the second timeline's first one.
        (0..6).for_each(|_| write(&first, "e"));
        first.base_backup("astray");
        first.wait_until_archived();
        let astray_ended = Timestamp::now().as_second();
        write(&first, "f");
        write(&first, "g");
        first.stop(Shutdown::Immediate);

        let mut second = tuesday.copy("second");
        second.recover_from(archive, &[("recovery_target_name", "d")]);
        second.start();
        // Its base backups include the configuration.
        second.set("recovery_target_name", "");
        write(&second, "h");
        // The newer of the two is determined in whole seconds, to which archiving times are rounded.
        wait_until("the second after the next has come", || Timestamp::now().as_second() > astray_ended + 1);
        let wednesday = second.base_backup("wednesday");
        write(&second, "i");
        write(&second, "j");

        let mut third = wednesday.copy("third");
        third.follow(archive);
        third.start();
        second.stop(Shutdown::Fast);
        wait_until("the standby has all rows", || steps(&third) == "abcdhij");
        third.promote();
        (0..8).for_each(|_| write(&third, "k"));
        third.base_backup("thursday");
        write(&third, "l");
        write(&third, "m");
        third.stop(Shutdown::Immediate);
        third.system_identifier()
    }

    /// Returns the path of the base backup with that label.
    pub fn backup(&self, label: &str) -> PathBuf {
        self.sandbox.join(label)
    }

    /// Returns the segment in which the base backup with that label starts.
    pub fn start_of(&self, label: &str) -> String {
        started_in(&self.backup(label))
    }

    /// Returns the name of the backup history file with that label.
    pub fn history_of(&self, label: &str) -> String {
        let start = self.start_of(label);
        let names = self.archive.names(self.system, "backups");
        names.into_iter().find(|name| name.starts_with(&start)).unwrap()
    }
}

/// Returns the segment in a base backup's `backup_label`.
fn started_in(backup: &Path) -> String {
    let label = std::fs::read_to_string(backup.join("backup_label")).unwrap();
    let (_, rest) = label.split_once("(file ").unwrap();
    rest[..24].to_owned()
}

/// Writes a row, a restore point of the same name and another row, and archives the segment.
fn write(cluster: &Cluster, step: &str) {
    cluster.sql(&format!("insert into orders values ('{step}')"));
    cluster.sql(&format!("select pg_create_restore_point('{step}')"));
    cluster.archive_segment();
}

/// Returns the rows.
pub fn steps(cluster: &Cluster) -> String {
    let steps = "select coalesce(string_agg(step, '' order by step), '') from (select distinct step from orders) as s";
    cluster.try_sql(steps).unwrap_or_default()
}
