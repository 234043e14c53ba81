//! Carrying a plan out, and what is noted of that.

use jiff::Timestamp;

use super::PrunePlan;
use crate::archive::Archive;
use crate::catalog::{PruneReport, Reading};
use crate::error::Error;

/// How many a store deletes by one request.
const AT_A_TIME: usize = 1_000;

impl PrunePlan {
    /// How many bytes the files that go take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let staged: u64 = self.staged.iter().map(|file| file.size).sum();
        self.goes.iter().map(|file| file.stored_size).sum::<u64>() + staged
    }

    /// What is noted of it once it has been carried out.
    #[must_use]
    pub fn report(&self, at: Timestamp) -> PruneReport {
        PruneReport {
            at,
            ok: true,
            error: None,
            deleted_files: (self.goes.len() + self.staged.len()) as u64,
            deleted_bytes: self.bytes(),
            totals: Some(self.stays),
        }
    }

    /// Deletes what goes. `done` hears how many more files are gone.
    pub async fn carry_out(
        &self,
        archive: &Archive,
        reading: Reading,
        mut done: impl FnMut(usize),
    ) -> Result<(), Error> {
        for files in self.goes.chunks(AT_A_TIME) {
            reading.patiently(async || archive.delete(self.system, files).await).await?;
            done(files.len());
        }
        reading.patiently(async || archive.delete_staged(&self.staged).await).await?;
        archive.remove_empty(&self.empty).await;
        Ok(())
    }
}
