//! Findings for an archive with several segment sizes.

use super::names::finding;
use crate::catalog::Catalog;
use crate::coverage::BaseBackup;
use crate::reports::{Finding, FindingKind, Severity};

/// Returns a failure for each size other than the current one.
pub(super) fn other_sizes(catalog: &Catalog) -> Vec<Finding> {
    let current = catalog.sizes.current();
    let others = catalog.sizes.others().into_iter();
    others
        .map(|other| {
            let subject = match (other.segments.len(), other.backups.len()) {
                (0, 1) => "a base backup begins with a segment".to_owned(),
                (0, backups) => format!("{backups} base backups begin with segments"),
                (1, _) => "a segment is".to_owned(),
                (segments, _) => format!("{segments} segments are"),
            };
            let what = format!(
                "{subject} of {}, and what is archived now is of {current}: pg_resetwal has changed the size",
                other.size
            );
            let is_of_it = |backup: &&BaseBackup| {
                backup.known_from.history().is_some_and(|name| other.backups.contains(&name.into()))
            };
            let newest = catalog.backups.iter().filter(is_of_it).max_by_key(|backup| backup.known_since);
            let beyond = newest.map_or_else(String::new, |newest| {
                format!(", so {}, the newest base backup of that size, cannot be recovered beyond it", newest.title())
            });
            let meaning = format!(
                "nothing leads from before the change to what is written now{beyond}; nothing can be pruned while both are here"
            );
            finding(Severity::Failure, FindingKind::OtherSize, other.range(), what, meaning)
        })
        .collect()
}
