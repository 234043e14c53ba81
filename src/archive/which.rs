//! Which cluster is meant in an archive that is to hold one, and a message that tells several apart.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;

use super::summary::latest;
use super::{Archive, ArchivedFile};
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;

/// Maximum number of clusters that a message tells apart.
const MOST_TOLD: usize = 10;

/// Time for looking at what tells them apart. The refusal stands without it.
const PATIENCE: Duration = Duration::from_secs(3);

impl Archive {
    /// Returns the only cluster that has files in the archive.
    pub async fn only_system(&self) -> Result<SystemIdentifier, Error> {
        let systems = self.systems().await?;
        match systems.as_slice() {
            [only] => Ok(*only),
            [] => Err(self.holds_no_system().await),
            // On the heap: it is rare, and every read would carry its size.
            several => Err(Box::pin(self.holds_several(several)).await),
        }
    }

    /// Returns the error for an archive that holds nothing of any cluster.
    pub async fn holds_no_system(&self) -> Error {
        let held = self.held().await;
        let instead = if held.plain > 0 { format!(", but {held}") } else { String::new() };
        let what = format!("the archive {} holds no system's WAL{instead}", self.url());
        let hint = held.remedy().unwrap_or("is it mounted, and is it the right one?");
        Error::new(ErrorKind::Empty, what).hint(hint)
    }

    async fn holds_several(&self, systems: &[SystemIdentifier]) -> Error {
        let told: Vec<SystemIdentifier> = systems.iter().take(MOST_TOLD).copied().collect();
        let mut newest = BTreeMap::new();
        let look = async |system: SystemIdentifier| {
            (system, self.newest_segments(system).await.ok().and_then(latest))
        };
        let mut looking = futures_util::stream::iter(told.clone()).map(look).buffer_unordered(MOST_TOLD);
        let looking = async {
            while let Some((system, file)) = looking.next().await {
                newest.extend(file.map(|file| (system, file)));
            }
        };
        // What is not found by then is left out.
        let _ = tokio::time::timeout(PATIENCE, looking).await;
        let told_apart =
            |system: &SystemIdentifier| told_apart(*system, self.names().name(*system), newest.get(system));
        let told: Vec<String> = told.iter().map(told_apart).collect();
        let more = match systems.len() - told.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = format!("the archive {} holds several systems: {}{more}", self.url(), told.join(", "));
        Error::new(ErrorKind::Configuration, what).hint(
            "give one of them with --system-identifier, or --all-systems to verify, prune and status; walkeep list shows what the \
             archive holds of each",
        )
    }
}

/// Formats a cluster with what tells it from others: `7381092445103374871 (main; newest …, archived …)`.
fn told_apart(system: SystemIdentifier, name: Option<&str>, newest: Option<&ArchivedFile>) -> String {
    let name = name.map(str::to_owned);
    // Whole seconds are enough for a person.
    let newest = newest.map(|file| format!("newest {}, archived {:.0}", file.name, file.since));
    let parts: Vec<String> = name.into_iter().chain(newest).collect();
    if parts.is_empty() { system.to_string() } else { format!("{system} ({})", parts.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn a_cluster_is_told_by_its_name_and_its_newest_segment() {
        let name = "000000010000000000000007".parse().unwrap();
        let since: Timestamp = "2026-11-21T12:00:00.987Z".parse().unwrap();
        let (system, newest) =
            (SystemIdentifier::new(7).unwrap(), ArchivedFile { name, since, stored_size: 1 });
        let told = |name, newest| told_apart(system, name, newest);
        let of_segment = "newest 000000010000000000000007, archived 2026-11-21T12:00:00Z";
        assert_eq!(told(Some("main"), Some(&newest)), format!("7 (main; {of_segment})"));
        assert_eq!(told(None, Some(&newest)), format!("7 ({of_segment})"));
        assert_eq!(told(Some("main"), None), "7 (main)");
        assert_eq!(told(None, None), "7");
    }
}
