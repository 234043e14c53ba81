//! Deleting what need not be kept: the policy is applied to what the archive holds, the outcome is a plan, and the plan can
//! be printed or carried out.
//!
//! Any doubt about what is there, or about the time, is a failure, and deletes nothing. Files that walkeep knows nothing of
//! are never touched.

mod deleted;
mod deletion;
mod needs;
mod plan;
mod replicas;

use std::path::PathBuf;

use jiff::Timestamp;

use crate::archive::{Archive, MUCH_SKEW, clock_difference};
use crate::blocking::blocking;
use crate::catalog::{Labels, Reading, backups_elsewhere, catalog};
use crate::error::Error;
use crate::retention::Policy;
use crate::server::{Need, Server};
use crate::wal::SystemIdentifier;

pub use deleted::{AUDIT, Deleted};
pub use plan::PrunePlan;
use plan::doubtful;

/// What is to be pruned, and how.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// The cluster.
    pub system: SystemIdentifier,
    /// What is to be kept.
    pub policy: Policy,
    /// Where base backups are kept.
    pub backup_directories: Vec<PathBuf>,
    /// The labels of the base backups in the archive that count.
    pub labels: Labels,
    /// The running servers that are asked what they and their standbys still need.
    pub servers: Vec<Server>,
    /// This moment.
    pub now: Timestamp,
    /// How the archive is read.
    pub reading: Reading,
}

/// Looks at everything and decides.
pub async fn plan(archive: &Archive, request: PruneRequest) -> Result<PrunePlan, Error> {
    let PruneRequest { system, policy, backup_directories, labels, servers, now, reading } = request;
    let given = policy.keep_from.map(|from| Need { from, who: "what was given as --keep-from".to_owned() });
    let asked = blocking(move || needs::of(&servers, system)).await?;
    let needed = given.into_iter().chain(asked).min_by_key(|need| need.from);
    let policy = Policy { keep_from: needed.as_ref().map(|need| need.from), ..policy };
    let catalog = catalog(archive, system, reading).await?;
    if let Some(ahead) = archive.clock_ahead().filter(|ahead| ahead.abs() > MUCH_SKEW) {
        return Err(doubtful(&clock_difference(ahead)));
    }
    let size = catalog.coverage.size();
    let elsewhere = blocking(move || backups_elsewhere(&backup_directories, system, size))
        .await
        .map_err(|error| error.so("nothing is deleted, because not all base backups can be seen"))?;
    PrunePlan::of(catalog, &elsewhere, &labels, &policy, now).map(|plan| PrunePlan { needed, ..plan })
}
