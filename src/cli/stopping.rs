//! Shorter waits during a shutdown of the server. Its archiver calls up to six times before it gives up, so waiting for
//! a hanging archive gains little and delays the shutdown much.
//!
//! Only waiting is shortened. A transfer that moves keeps its full time, because a smart shutdown may take hours, with
//! clients still connected.

use std::time::Duration;

use super::hang::HangNote;
use crate::blocking::blocking;
use crate::cluster::Caller;
use crate::config::Settings;
use crate::error::Error;
use crate::limit::TimeLimit;
use crate::wal::SystemIdentifier;

/// Interval between checks for a shutdown. Most pushes are done before the first one.
const TICK: Duration = Duration::from_millis(500);

/// Runs the work. Once the calling server is shutting down, shortens the waits for hanging and failing requests.
pub(super) async fn hurry_at_shutdown<T>(
    settings: &Settings,
    caller: &Caller,
    system: Option<SystemIdentifier>,
    limit: &TimeLimit,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let hurrying = async {
        loop {
            tokio::time::sleep(TICK).await;
            let caller = caller.clone();
            if blocking(move || caller.data().is_stopping()).await {
                break;
            }
        }
        let (settings, caller) = (settings.clone(), caller.clone());
        let hang_note = blocking(move || HangNote::read(&settings, &caller, system)).await;
        hang_note.hurry(limit);
        hang_note
    };
    let (mut work, mut hurrying) = (std::pin::pin!(work), std::pin::pin!(hurrying));
    let hang_note = tokio::select! {
        biased;
        outcome = &mut work => return outcome,
        hang_note = &mut hurrying => hang_note,
    };
    let outcome = work.await;
    hang_note.remember(outcome.as_ref().err(), limit);
    outcome
}
