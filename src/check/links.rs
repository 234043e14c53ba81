//! Finds directories of the archive that are symbolic links, into which pushes are refused.

use super::CheckFinding;
use super::shell::{Shell, quoted};
use crate::archive::{Archive, LinkedDirectory};

/// Reports each of them. What cannot be listed is reported by other checks.
pub(super) async fn check(archive: &Archive, shell: &Shell, findings: &mut Vec<CheckFinding>) {
    if archive.is_store() {
        return;
    }
    for system in archive.systems().await.unwrap_or_default() {
        let links = archive.links(system).await;
        findings.extend(links.iter().map(|link| finding(&archive.url().to_string(), link, shell)));
    }
}

fn finding(archive: &str, link: &LinkedDirectory, shell: &Shell) -> CheckFinding {
    let what = format!("{archive}/{} is a symbolic link", link.key);
    let found = if link.is_pushed_into {
        CheckFinding::fail("links", what)
    } else {
        CheckFinding::note("links", what)
    };
    let path = format!("{archive}/{}", link.key);
    found.by_typing(
        format!("{}; where it leads", link.advice()),
        shell.as_server(&format!("readlink -f {}", quoted(&path))),
    )
}
