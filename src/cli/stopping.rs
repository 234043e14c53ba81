//! Shorter waits during a shutdown of the server: its archiver calls up to six times before it gives up, so waiting
//! for a hanging archive gains little and delays the shutdown much.
//!
//! A smart shutdown may take hours, with clients still connected. Therefore only waiting is shortened: a transfer
//! that moves keeps its full time.

use std::time::Duration;

use super::hang::Hangs;
use crate::blocking::blocking;
use crate::cluster::Caller;
use crate::config::Settings;
use crate::error::Error;
use crate::limit::TimeLimit;
use crate::wal::SystemIdentifier;

/// Interval between checks for a shutdown. Most pushes are done before the first one.
const TICK: Duration = Duration::from_millis(500);

/// Runs the work. Once the server that calls is shutting down, the time limit no longer waits for hanging or failing
/// requests.
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
        let hangs = blocking(move || Hangs::look(&settings, &caller, system)).await;
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
