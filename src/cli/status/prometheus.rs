//! Prometheus output, in its text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>). Unknown values have no sample,
//! because any number in their place would be misleading.

use std::fmt::Write;

use jiff::Timestamp;

use super::Overview;
use crate::reports::VerifyReport;
use crate::status::ArchiveStatus;
use crate::wal::{SystemIdentifier, SystemNames};

const UP: &str = "walkeep_up";
const IS_UP: &str = "Whether all that was asked for could be found out.";

pub(super) fn render(overview: &Overview<'_>, names: &SystemNames) -> String {
    let mut metrics = Metrics::default();
    of_system(&mut metrics, overview, names);
    metrics.text()
}

/// Adds the metrics of a system.
pub(super) fn of_system(metrics: &mut Metrics, overview: &Overview<'_>, names: &SystemNames) {
    let status = overview.status;
    metrics.are_of(status.system, names);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    metrics.family("walkeep_build_info", "Which walkeep has written this.", [(&version[..], 1)]);
    let is_unknown = |known: &ArchiveStatus| !known.not_known.is_empty();
    let failed = status.archive.as_ref().map_or(true, is_unknown) || matches!(&status.backlog, Some(Err(_)));
    metrics.one(UP, IS_UP, u64::from(!failed));
    metrics.one("walkeep_status_timestamp_seconds", "When this was found out.", seconds(status.at));
    if let Some(lag) = status.lag() {
        let help = "For how long the oldest finished WAL file has been waiting to be archived, 0 if none waits; without a data \
                    directory, the age of the newest segment.";
        metrics.one("walkeep_lag_seconds", help, lag.as_secs());
    }
    if let Some(backlog) = status.backlog() {
        metrics.one("walkeep_backlog_files", "How many files are ready to be archived.", backlog.files);
        metrics.one(
            "walkeep_backlog_bytes",
            "The size of the files that are ready to be archived.",
            backlog.bytes,
        );
        let help = "Whether a running server has got nothing archived for minutes, though files wait.";
        metrics.one("walkeep_backlog_stuck", help, u64::from(backlog.stuck(status.at).is_some()));
        if let Some(oldest) = backlog.oldest {
            let help = "Since when the file that has waited longest has been ready to be archived.";
            metrics.one("walkeep_backlog_oldest_timestamp_seconds", help, seconds(oldest));
        }
    }
    if let Ok(known) = &status.archive {
        of_archive(metrics, known, status.at, status.backlog.is_some());
    }
}

/// Adds that nothing could be found out about a system; `None` for all systems.
pub(super) fn of_unknown(metrics: &mut Metrics, system: Option<SystemIdentifier>, names: &SystemNames) {
    metrics.are_of(system, names);
    metrics.one(UP, IS_UP, 0);
}

/// Adds the number of systems.
pub(super) fn of_systems(metrics: &mut Metrics, systems: usize) {
    metrics.labels.clear();
    metrics.one("walkeep_systems", "How many systems have a directory in the archive.", systems);
}

/// Adds the metrics of an archive.
fn of_archive(metrics: &mut Metrics, known: &ArchiveStatus, at: Timestamp, has_data: bool) {
    let newest = known.newest.iter().filter_map(|file| {
        let timeline = file.name.segment()?.timeline().to_string();
        Some((timeline, seconds(file.since)))
    });
    let newest: Vec<(String, String)> = newest.collect();
    let labelled: Vec<[(&str, &str); 1]> =
        newest.iter().map(|(timeline, _)| [("timeline", timeline.as_str())]).collect();
    let samples = labelled.iter().zip(&newest).map(|(labels, (_, since))| (&labels[..], since));
    let help = "When the newest segment of a timeline was archived.";
    metrics.family("walkeep_newest_segment_timestamp_seconds", help, samples);
    of_content(metrics, known);
    of_timelines(metrics, known, at);
    if has_data {
        of_server(metrics, known);
    }
    if let Some(standby) = known.standby {
        let help = "Whether the archive lacks the segment that the standby needs next, and has later ones.";
        metrics.one("walkeep_standby_stranded", help, u64::from(standby.is_stranded()));
        let help = "Whether the newest timeline left the standby's before its restart point, so that it cannot be restarted.";
        metrics.one("walkeep_standby_barred", help, u64::from(standby.barred_by.is_some()));
    }
    of_work(metrics, known);
}

/// Adds the metrics of files and base backups.
fn of_content(metrics: &mut Metrics, known: &ArchiveStatus) {
    if let Some((totals, at, _)) = known.totals() {
        let help = "How many files were in the archive when they were last counted.";
        metrics.one("walkeep_archive_files", help, totals.files);
        let help = "The bytes that the files took in the archive when they were last counted.";
        metrics.one("walkeep_archive_stored_bytes", help, totals.stored_bytes);
        let help = "The bytes that the segments had before they were archived, when they were last counted.";
        metrics.one("walkeep_archive_original_bytes", help, totals.original_bytes);
        let help = "When the last prune or verify counted the files in the archive.";
        metrics.one("walkeep_archive_counted_timestamp_seconds", help, seconds(at));
    }
    if let Some((start, end)) = known.window() {
        let help = "When the oldest base backup had ended that can be recovered.";
        metrics.one("walkeep_recovery_window_start_timestamp_seconds", help, seconds(start));
        let help = "When the newest segment was archived; the last commit in it, up to which the cluster can be recovered if \
                    verify finds no gaps, is older.";
        metrics.one("walkeep_recovery_window_end_timestamp_seconds", help, seconds(end));
    }
    if let Some(newest) = &known.newest_backup {
        let help = "When the newest base backup had ended that can be recovered.";
        metrics.one("walkeep_newest_backup_timestamp_seconds", help, seconds(newest.ended));
    }
}

/// Adds the metrics of holes, and of timelines written in parallel.
fn of_timelines(metrics: &mut Metrics, known: &ArchiveStatus, at: Timestamp) {
    let help = "How many segments are missing on the way to the newest timeline where one was left, so that no base backup \
                gets there.";
    let missing: u64 = known.holes.iter().filter(|hole| !hole.passed).map(|hole| hole.segments).sum();
    metrics.one("walkeep_hole_segments", help, missing);
    let help = "How many timelines somebody else writes, by what was archived within a day.";
    let written = known.parallel.iter().filter(|parallel| parallel.may_go_on(at)).count();
    metrics.one("walkeep_parallel_timelines", help, written);
}

/// Adds what is known of a server's timeline, if its data directory was named: a 0 without one would say that all is well.
fn of_server(metrics: &mut Metrics, known: &ArchiveStatus) {
    let help = "Whether the archive lacks the history file of the timeline that the server is on whose data directory was named.";
    metrics.one("walkeep_history_missing", help, u64::from(known.without_history.is_some()));
    let help = "Whether another server has left the timeline behind that the server writes whose data directory was named.";
    metrics.one("walkeep_server_left_behind", help, u64::from(known.left.is_some()));
}

/// Adds the metrics of the last prune and the last verification.
fn of_work(metrics: &mut Metrics, known: &ArchiveStatus) {
    if let Some(prune) = &known.prune {
        metrics.one("walkeep_last_prune_timestamp_seconds", "When the last prune ended.", seconds(prune.at));
        metrics.one(
            "walkeep_last_prune_success",
            "Whether the last prune did all it should.",
            u64::from(prune.ok),
        );
        let help = "How many files the last prune has deleted.";
        metrics.one("walkeep_last_prune_deleted_files", help, prune.deleted_files);
        let help = "The bytes of the files that the last prune has deleted.";
        metrics.one("walkeep_last_prune_deleted_bytes", help, prune.deleted_bytes);
    }
    if let Some(verify) = known.verify.as_ref().map(VerifyReport::decisive) {
        metrics.one(
            "walkeep_last_verify_timestamp_seconds",
            "When the last verify ended.",
            seconds(verify.at),
        );
        let help = "Whether the last verify came to its end and found no failure.";
        metrics.one("walkeep_last_verify_success", help, u64::from(verify.ok));
        let help = "How many findings of the last verify endanger a recovery.";
        metrics.one("walkeep_last_verify_failures", help, verify.failures);
        let help = "How many files the last verify has checked.";
        metrics.one("walkeep_last_verify_checked_files", help, verify.checked_files);
    }
}

/// The output so far. The format wants all samples of a metric together, whichever system they are of.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    families: Vec<Family>,
    /// Labels of the system that samples are added for.
    labels: Vec<(&'static str, String)>,
}

/// A metric with its samples.
#[derive(Debug)]
struct Family {
    name: &'static str,
    /// Its lines of the output.
    lines: String,
}

impl Metrics {
    /// Returns the output.
    pub(super) fn text(&self) -> String {
        self.families.iter().map(|family| family.lines.as_str()).collect()
    }

    /// Determines the system that samples are added for.
    fn are_of(&mut self, system: Option<SystemIdentifier>, names: &SystemNames) {
        let identifier = system.map(|system| ("system_identifier", system.to_string()));
        let name = system.and_then(|system| names.name(system)).map(|name| ("name", name.to_owned()));
        self.labels = identifier.into_iter().chain(name).collect();
    }

    /// Adds a gauge with one sample.
    fn one(&mut self, name: &'static str, help: &str, value: impl std::fmt::Display) {
        self.family(name, help, [(&[][..], value)]);
    }

    /// Adds a gauge whose samples have their own labels in addition to the system identifier.
    fn family<'l, V: std::fmt::Display>(
        &mut self,
        name: &'static str,
        help: &str,
        samples: impl IntoIterator<Item = (&'l [(&'l str, &'l str)], V)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let mut lines = String::new();
        // Writing to a string cannot fail.
        for (labels, value) in samples {
            let of_system = self.labels.iter().map(|(label, value)| (*label, value.as_str()));
            let labels: Vec<String> = of_system
                .chain(labels.iter().copied())
                .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
                .collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(lines, "{name}{labels} {value}");
        }
        match self.families.iter_mut().find(|family| family.name == name) {
            Some(family) => family.lines += &lines,
            None => {
                let lines = format!("# HELP {name} {help}\n# TYPE {name} gauge\n{lines}");
                self.families.push(Family { name, lines });
            }
        }
    }
}

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Formats seconds since 1970, with milliseconds if there are any.
fn seconds(moment: Timestamp) -> String {
    let milliseconds = moment.as_millisecond();
    match milliseconds.rem_euclid(1000) {
        0 => milliseconds.div_euclid(1000).to_string(),
        rest => format!("{}.{rest:03}", milliseconds.div_euclid(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_times_are_numbers() {
        let mut metrics = Metrics::default();
        metrics.one("a", "b", 1);
        metrics.family("c", "d", [(&[("x", "1\"2\\3\n4")][..], 2)]);
        metrics.family("nothing", "e", [(&[][..], 2); 0]);
        assert_eq!(
            metrics.text(),
            "# HELP a b\n# TYPE a gauge\na 1\n# HELP c d\n# TYPE c gauge\nc{x=\"1\\\"2\\\\3\\n4\"} 2\n"
        );
        metrics.are_of(SystemIdentifier::new(7), &SystemNames::default());
        metrics.one("a", "b", 2);
        assert!(
            metrics
                .text()
                .starts_with("# HELP a b\n# TYPE a gauge\na 1\na{system_identifier=\"7\"} 2\n# HELP c "),
            "the samples of a metric are together"
        );
        let text = |milliseconds| seconds(Timestamp::from_millisecond(milliseconds).unwrap());
        assert_eq!([text(1_764_000_000_000), text(1_764_000_000_012)], ["1764000000", "1764000000.012"]);
    }
}
