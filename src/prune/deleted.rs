//! What of a plan has been done, file by file: for reports, and for an audit in the log.

use jiff::Timestamp;

use super::PrunePlan;
use crate::archive::{ArchivedFile, OtherFile};
use crate::error::Error;
use crate::reports::PruneReport;

/// The target of those lines of the log that say what was deleted: whoever keeps the log for an audit wants them, asked or not.
pub const AUDIT: &str = "walkeep::audit";

/// What of a plan has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// By place in the plan.
    files: Vec<bool>,
    leftovers: Vec<bool>,
    number: usize,
    bytes: u64,
}

impl Deleted {
    /// Nothing of that plan yet.
    #[must_use]
    pub fn nothing_of(plan: &PrunePlan) -> Self {
        let files = vec![false; plan.goes.len()];
        Self { files, leftovers: vec![false; plan.staged.len()], number: 0, bytes: 0 }
    }

    /// All of that plan, as if it had been carried out.
    #[must_use]
    pub fn all_of(plan: &PrunePlan) -> Self {
        Self {
            files: vec![true; plan.goes.len()],
            leftovers: vec![true; plan.staged.len()],
            number: plan.number(),
            bytes: plan.bytes(),
        }
    }

    /// How many files have gone, leftovers among them.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// How many bytes they took.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The archived files that have gone, in that order.
    pub fn files<'a>(&'a self, plan: &'a PrunePlan) -> impl Iterator<Item = &'a ArchivedFile> {
        plan.goes.iter().zip(&self.files).filter_map(|(file, gone)| gone.then_some(file))
    }

    /// The leftovers that have gone.
    pub fn leftovers<'a>(&'a self, plan: &'a PrunePlan) -> impl Iterator<Item = &'a OtherFile> {
        plan.staged.iter().zip(&self.leftovers).filter_map(|(file, gone)| gone.then_some(file))
    }

    /// What is noted of it in the archive. What is there now is known only if all has been done.
    #[must_use]
    pub fn report(&self, plan: &PrunePlan, at: Timestamp, error: Option<&Error>) -> PruneReport {
        PruneReport {
            at,
            ok: error.is_none(),
            error: error.map(Error::report),
            deleted_files: self.number as u64,
            deleted_bytes: self.bytes,
            totals: error.is_none().then_some(plan.stays),
        }
    }

    pub(super) fn has_file(&self, place: usize) -> bool {
        self.files.get(place).copied().unwrap_or_default()
    }

    /// An archived file went.
    pub(super) fn file(&mut self, plan: &PrunePlan, place: usize) {
        if let (Some(file), Some(gone)) = (plan.goes.get(place), self.files.get_mut(place)) {
            *gone = true;
            let why = plan.begins_at.map_or_else(
                || "before the boundary, behind which nothing is left".to_owned(),
                |begins_at| format!("before the boundary at {begins_at}"),
            );
            audit(&file.name.to_string(), file.stored_size, &why);
            self.number += 1;
            self.bytes += file.stored_size;
        }
    }

    /// A leftover went.
    pub(super) fn leftover(&mut self, plan: &PrunePlan, place: usize) {
        if let (Some(file), Some(gone)) = (plan.staged.get(place), self.leftovers.get_mut(place)) {
            *gone = true;
            let why = format!("left at {} by a push that was killed", file.since);
            audit(&file.key, file.size, &why);
            self.number += 1;
            self.bytes += file.size;
        }
    }

    /// A directory went. No report counts these.
    #[allow(clippy::unused_self, reason = "it goes with the two above")]
    pub(super) fn directory(&mut self, plan: &PrunePlan, place: usize) {
        if let Some(directory) = plan.empty.get(place) {
            audit(&directory.key, 0, &format!("an empty directory since {}", directory.since));
        }
    }
}

fn audit(name: &str, size: u64, why: &str) {
    tracing::info!(target: AUDIT, %name, size, %why, "deleted");
}
