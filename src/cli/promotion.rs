//! End of a long transfer for a standby that can do without it: its server notices a promotion only between two calls, and
//! requests its last segments once more then, which it has itself.
//!
//! A standby that can do without nothing keeps the transfer. Cut off at its time limit each time, it would never catch up over a
//! slow link.

use std::time::Duration;

use crate::blocking::blocking;
use crate::cluster::{breaks_off, holds_segment};
use crate::limit::TimeLimit;
use crate::restore::RestoreRequest;

/// Interval between looks, once the time limit was extended.
const TICK: Duration = Duration::from_millis(500);

/// Runs the work. Ends the extension of its limit once the calling server is to be promoted, or at once if it has the file itself.
pub(super) async fn unless_promoted<T>(
    request: &RestoreRequest,
    limit: &TimeLimit,
    work: impl Future<Output = T>,
) -> T {
    let giving_way = async {
        while !limit.is_extended() {
            tokio::time::sleep(TICK).await;
        }
        let (asked, caller) = (request.clone(), request.caller.clone());
        let mut is_asked = blocking(move || has_own_copy(&asked)).await;
        let files = blocking(move || caller.data().promotion_files()).await;
        while !is_asked {
            tokio::time::sleep(TICK).await;
            let files = files.clone();
            is_asked = blocking(move || files.iter().any(|file| file.exists())).await;
        }
        limit.extend_no_more();
    };
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => outcome,
        () = giving_way => work.await,
    }
}

/// Returns `true` if the server's own `pg_wal` has the whole segment. What it was receiving when it stopped breaks off.
fn has_own_copy(request: &RestoreRequest) -> bool {
    let data = request.caller.data();
    let wal = data.path().join("pg_wal");
    let system = request.system.or_else(|| data.system_identifier().ok().flatten());
    request
        .name
        .segment()
        .zip(system)
        .is_some_and(|(segment, system)| holds_segment(&wal, system, segment) && !breaks_off(&wal, segment))
}
