//! Recovery, standbys and promotion, as the server's version knows them: by signal files and settings in
//! postgresql.conf from 12 on, by `recovery.conf` before.

use std::{collections::BTreeMap, fs};

use super::{archive::ArchiveDirectory, cluster::Cluster, output_of, postgres, wait_until};

/// What a server does at the end of the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It waits for more.
    Standby,
    /// It is promoted.
    Recovery,
}

/// File that selects recovery up to version 11. It holds the settings, too, so it is written once the role is known.
const CONF: &str = "recovery.conf";

/// Keeps the settings of recovery until then; the server does not read it.
const LATER: &str = "recovery.later";

const LINE_OF_A_STANDBY: &str = "standby_mode = 'on'\n";

/// Returns `true` if the server has `recovery.conf`.
pub fn has_recovery_conf() -> bool {
    postgres::version() < 12
}

fn is_of_recovery(parameter: &str) -> bool {
    const OTHERS: [&str; 7] = [
        "archive_cleanup_command",
        "primary_conninfo",
        "primary_slot_name",
        "promote_trigger_file",
        "recovery_end_command",
        "recovery_min_apply_delay",
        "restore_command",
    ];
    parameter.starts_with("recovery_target") || OTHERS.contains(&parameter)
}

impl Cluster<'_> {
    /// Returns the file, in the data directory, in which the server reads a parameter.
    pub(super) fn configuration_of(&self, parameter: &str) -> &'static str {
        match parameter {
            _ if !has_recovery_conf() || !is_of_recovery(parameter) => "postgresql.conf",
            _ if self.data().join(CONF).exists() => CONF,
            _ => LATER,
        }
    }

    /// Decides what the server does once it is started.
    pub fn becomes(&self, role: Role) {
        let data = self.data();
        if !has_recovery_conf() {
            let signal = if role == Role::Standby { "standby.signal" } else { "recovery.signal" };
            self.sandbox().file(data.join(signal), "");
            return;
        }
        let read = |name: &str| fs::read_to_string(data.join(name)).unwrap_or_default();
        // Its default is today's.
        let all = format!("recovery_target_timeline = 'latest'\n{}{}", read(LATER), read(CONF));
        let lines = all.replace(LINE_OF_A_STANDBY, "");
        let lines: BTreeMap<_, _> = lines.lines().filter_map(|line| line.split_once(" = ")).collect();
        // Before 12 an empty value is a value.
        let set = lines.into_iter().filter(|(_, value)| *value != "''");
        let mut settings: String = set.flat_map(|(name, value)| [name, " = ", value, "\n"]).collect();
        if role == Role::Standby {
            settings.push_str(LINE_OF_A_STANDBY);
        }
        self.sandbox().file(data.join(CONF), settings);
    }

    /// Returns `true` if the server is one, or will be once started.
    pub fn is_standby(&self) -> bool {
        if has_recovery_conf() {
            fs::read_to_string(self.data().join(CONF)).is_ok_and(|text| text.contains(LINE_OF_A_STANDBY))
        } else {
            self.data().join("standby.signal").exists()
        }
    }

    /// Configures restoring with `walkeep-restore`.
    pub fn restore_from(&self, archive: &ArchiveDirectory) {
        self.restore_with("", archive);
    }

    /// Does the same as [`Cluster::restore_from`] with additional options such as `--timeout 1s`.
    pub fn restore_with(&self, options: &str, archive: &ArchiveDirectory) {
        let program = self.sandbox().program("walkeep-restore");
        let command = format!("{} --archive {} {options} %f %p", program.display(), archive.url());
        self.set("restore_command", &command);
    }

    /// Prepares a recovery from `archive` that ends in promotion; `target` such as a `recovery_target_time`.
    pub fn recover_from(&self, archive: &ArchiveDirectory, target: &[(&str, &str)]) {
        self.restore_from(archive);
        for (parameter, value) in target {
            self.set(parameter, value);
        }
        self.set("recovery_target_action", "promote");
        self.becomes(Role::Recovery);
    }

    /// Prepares a standby fed only by the archive.
    pub fn follow(&self, archive: &ArchiveDirectory) {
        self.restore_from(archive);
        self.becomes(Role::Standby);
    }

    /// Prepares a standby fed by a running server, without an archive.
    pub fn stream_from(&self, upstream: &Self) {
        self.set("primary_conninfo", &upstream.connection());
        self.becomes(Role::Standby);
    }

    /// Promotes a standby and waits until it accepts writes.
    pub fn promote(&self) {
        if has_recovery_conf() {
            self.ask_for_promotion();
            wait_until("the standby is promoted", || {
                self.try_sql("select pg_is_in_recovery()").as_deref() == Ok("f")
            });
        } else {
            assert_eq!(self.sql("select pg_promote()"), "t");
        }
    }

    /// Asks a standby for its promotion, and does not wait.
    pub fn ask_for_promotion(&self) {
        let mut promotion = self.sandbox().command(postgres::program("pg_ctl"));
        output_of(promotion.args(["promote", "--no-wait", "-D"]).arg(self.data()));
    }
}
