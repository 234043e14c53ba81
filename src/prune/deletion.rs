//! Execution of a plan.

use tokio_util::sync::CancellationToken;

use super::{Deleted, PrunePlan};
use crate::archive::{Archive, ArchivedFile};
use crate::catalog::Reading;
use crate::error::Error;

/// Number of objects that a store deletes per request.
const AT_A_TIME: usize = 1_000;

impl PrunePlan {
    /// Deletes the planned files until `stop` is cancelled. Calls `done` with the number of files processed.
    ///
    /// Records each deletion in `deleted` at once, so the record is complete after an error, and even if this is dropped.
    pub async fn carry_out(
        &self,
        archive: &Archive,
        reading: Reading,
        stop: &CancellationToken,
        deleted: &mut Deleted,
        mut done: impl FnMut(usize),
    ) -> Result<(), Error> {
        for first in (0..self.goes.len()).step_by(AT_A_TIME) {
            let batch = first..self.goes.len().min(first + AT_A_TIME);
            let number = batch.len();
            reading
                .retry(async || {
                    let left: Vec<usize> = batch.clone().filter(|index| !deleted.has_file(*index)).collect();
                    let files: Vec<ArchivedFile> =
                        left.iter().filter_map(|index| self.goes.get(*index).copied()).collect();
                    let mut gone = |index: usize| {
                        if let Some(index) = left.get(index) {
                            deleted.file(self, *index);
                        }
                    };
                    archive.delete(self.system, &files, stop, &mut gone).await
                })
                .await?;
            done(number);
        }
        reading
            .retry(async || {
                archive.delete_staged(&self.staged, stop, &mut |index| deleted.leftover(self, index)).await
            })
            .await?;
        archive.remove_empty(&self.empty, &mut |index| deleted.directory(self, index)).await;
        Ok(())
    }
}
