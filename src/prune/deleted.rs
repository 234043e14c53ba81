//! Record of deleted files, for reports and for an audit in the log.

use jiff::Timestamp;

use super::PrunePlan;
use crate::archive::{ArchivedFile, OtherFile};
use crate::error::Error;
use crate::reports::PruneReport;

/// Log target of the lines that name deleted files, for users who audit the log. Shown with `-v`, and always in a JSON
/// log.
pub const AUDIT: &str = "walkeep::audit";

/// Files of a plan that were deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// Indexed as in the plan.
    files: Vec<bool>,
    leftovers: Vec<bool>,
    number: usize,
    bytes: u64,
}

impl Deleted {
    /// Creates a record without deleted files.
    #[must_use]
    pub fn nothing_of(plan: &PrunePlan) -> Self {
        let files = vec![false; plan.goes.len()];
        Self { files, leftovers: vec![false; plan.staged.len()], number: 0, bytes: 0 }
    }

    /// Creates a record of all files of the plan, as if it had been carried out.
    #[must_use]
    pub fn all_of(plan: &PrunePlan) -> Self {
        Self {
            files: vec![true; plan.goes.len()],
            leftovers: vec![true; plan.staged.len()],
            number: plan.number(),
            bytes: plan.bytes(),
        }
    }

    /// Returns the number of deleted files, staging files included.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns the total size of deleted files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Iterates over the deleted archived files, in the order of the plan.
    pub fn files<'a>(&'a self, plan: &'a PrunePlan) -> impl Iterator<Item = &'a ArchivedFile> {
        plan.goes.iter().zip(&self.files).filter_map(|(file, gone)| gone.then_some(file))
    }

    /// Iterates over the deleted staging files.
    pub fn leftovers<'a>(&'a self, plan: &'a PrunePlan) -> impl Iterator<Item = &'a OtherFile> {
        plan.staged.iter().zip(&self.leftovers).filter_map(|(file, gone)| gone.then_some(file))
    }

    /// Creates the report for the archive. It contains the totals only if the whole plan was carried out.
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

    pub(super) fn has_file(&self, index: usize) -> bool {
        self.files.get(index).copied().unwrap_or_default()
    }

    /// Records the deletion of an archived file.
    pub(super) fn file(&mut self, plan: &PrunePlan, index: usize) {
        if let (Some(file), Some(gone)) = (plan.goes.get(index), self.files.get_mut(index)) {
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

    /// Records the deletion of a staging file.
    pub(super) fn leftover(&mut self, plan: &PrunePlan, index: usize) {
        if let (Some(file), Some(gone)) = (plan.staged.get(index), self.leftovers.get_mut(index)) {
            *gone = true;
            let why = format!("left at {} by a push that was killed", file.since);
            audit(&file.key, file.size, &why);
            self.number += 1;
            self.bytes += file.size;
        }
    }

    /// Records the removal of a directory, which no report counts.
    #[allow(clippy::unused_self, reason = "called like `file` and `leftover`")]
    pub(super) fn directory(&mut self, plan: &PrunePlan, index: usize) {
        if let Some(directory) = plan.empty.get(index) {
            audit(&directory.key, 0, &format!("an empty directory since {}", directory.since));
        }
    }
}

fn audit(name: &str, size: u64, why: &str) {
    tracing::info!(target: AUDIT, %name, size, %why, "deleted");
}
