//! A server that is shut down does not wait for an archive that hangs: the archiver calls up to six times before it gives
//! up, so what a call gains by waiting is a fraction of what the shutdown loses.
//!
//! A smart shutdown may last for hours, with clients at work. So it is waiting alone that is shortened: whatever moves has
//! all of its time.

use std::path::Path;
use std::time::Duration;

use super::hang::Hangs;
use crate::blocking::blocking;
use crate::cluster::DataDirectory;
use crate::config::Settings;
use crate::error::Error;
use crate::limit::TimeLimit;
use crate::wal::SystemIdentifier;

/// How often is looked whether the server is being shut down. Most pushes are done before the first time.
const TICK: Duration = Duration::from_millis(500);

/// Does the work, and makes its time limit one that does not wait for what hangs or fails as soon as the server that keeps
/// the file at `path` is being shut down.
pub(super) async fn hurry_at_shutdown<T>(
    settings: &Settings,
    path: &Path,
    system: Option<SystemIdentifier>,
    limit: &TimeLimit,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let hurrying = async {
        loop {
            tokio::time::sleep(TICK).await;
            let data = DataDirectory::of(path);
            if blocking(move || data.is_stopping()).await {
                break;
            }
        }
        let (settings, path) = (settings.clone(), path.to_owned());
        let hangs = blocking(move || Hangs::look(&settings, &path, system)).await;
        hangs.hurry_at_shutdown(limit);
        hangs
    };
    let (mut work, mut hurrying) = (std::pin::pin!(work), std::pin::pin!(hurrying));
    let hangs = tokio::select! {
        biased;
        outcome = &mut work => return outcome,
        hangs = &mut hurrying => hangs,
    };
    let outcome = work.await;
    hangs.remember(outcome.as_ref().err(), limit);
    outcome
}
