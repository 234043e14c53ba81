//! Finds directories of the archive that are symbolic links, into which pushes are refused.

use super::CheckFinding;
use crate::archive::{Archive, LinkedDirectory};

/// Reports each of them. What cannot be listed is reported by other checks.
pub(super) async fn check(archive: &Archive, findings: &mut Vec<CheckFinding>) {
    if archive.is_store() {
        return;
    }
    for system in archive.systems().await.unwrap_or_default() {
        let links = archive.links(system).await;
        findings.extend(links.iter().map(|link| finding(&archive.url().to_string(), link)));
    }
}

fn finding(archive: &str, link: &LinkedDirectory) -> CheckFinding {
    let what = format!("{archive}/{} is a symbolic link", link.key);
    let found = if link.is_pushed_into {
        CheckFinding::fail("links", what)
    } else {
        CheckFinding::note("links", what)
    };
    found.hint(link.advice())
}
