//! Dangers to a recovery that are reported without any limits: problems and notes.

use jiff::Timestamp;

use super::{ArchiveStatus, Standby};
use crate::reports::{Finding, VerifyReport};

impl ArchiveStatus {
    /// Returns the dangers that somebody must act on, as sentences.
    #[must_use]
    pub fn dangers(&self, now: Timestamp) -> Vec<String> {
        sentences(now, self, true)
    }

    /// Returns what the last verification that decides has found wrong, and the remedy; `None` if it found no failure.
    #[must_use]
    pub fn failed_verification(&self) -> Option<(String, &'static str)> {
        let report = self.verify.as_ref().map(VerifyReport::decisive).filter(|report| !report.ok)?;
        let at = Timestamp::from_second(report.at.as_second()).unwrap_or(report.at);
        let found = match report.failures {
            0 => return None,
            1 => "1 failure".to_owned(),
            number => format!("{number} failures"),
        };
        let first =
            report.first_failure.as_ref().map_or_else(String::new, |Finding { file, what, .. }| {
                format!(", the first about {file}: {what}")
            });
        let remedy = "a verify of this system says which, and what they mean for a recovery";
        Some((format!("the last verify, at {at}, found {found}{first}"), remedy))
    }

    /// Returns the notes that somebody should know, as sentences.
    #[must_use]
    pub fn notes(&self, now: Timestamp) -> Vec<String> {
        sentences(now, self, false)
    }
}

fn sentences(now: Timestamp, archive: &ArchiveStatus, urgent: bool) -> Vec<String> {
    let holes = archive.holes.iter().filter(|hole| hole.passed != urgent);
    let holes = holes.map(|hole| format!("{}; {}", hole.what(), hole.remedy()));
    let parallel = archive.parallel.iter().filter(|parallel| parallel.may_go_on(now) == urgent);
    let parallel = parallel.map(|parallel| format!("{}; {}", parallel.what(), parallel.remedy(now)));
    let standby = archive.standby.iter().filter(|_| urgent).flat_map(Standby::wrongs);
    let standby = standby.map(|(what, remedy)| format!("{what}; {remedy}"));
    let without = archive.without_history.filter(|_| urgent);
    let without = without.map(|without| format!("{}; {}", without.what(), without.remedy()));
    let left = archive.left.filter(|_| urgent).map(|left| format!("{}; {}", left.what(), left.remedy()));
    without.into_iter().chain(left).chain(holes).chain(parallel).chain(standby).collect()
}
