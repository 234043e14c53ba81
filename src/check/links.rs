//! Finds directories of the archive that are symbolic links, into which pushes are refused.

use std::collections::BTreeMap;
use std::time::Duration;

use super::CheckFinding;
use super::shell::{Shell, quoted};
use crate::archive::{Archive, LinkedDirectory};
use crate::catalog::{Reading, texts};

/// A local directory answers at once, or not.
const READING: Reading = Reading { at_once: 1, patience: Duration::ZERO };

/// Reports each of them. What cannot be listed is reported by other checks.
pub(super) async fn check(archive: &Archive, shell: &Shell, findings: &mut Vec<CheckFinding>) {
    if archive.is_store() {
        return;
    }
    for system in archive.systems().await.unwrap_or_default() {
        let links = archive.links(system).await;
        // Read only for a timeline that may have ended.
        let histories = if links.iter().any(|link| link.timeline().is_some()) {
            texts(archive, system, READING).await.map(|texts| texts.histories).unwrap_or_default()
        } else {
            BTreeMap::new()
        };
        let url = archive.url().to_string();
        let of = |link: &LinkedDirectory| finding(&url, link, link.is_pushed_into(histories.values()), shell);
        findings.extend(links.iter().map(of));
    }
}

fn finding(archive: &str, link: &LinkedDirectory, is_pushed_into: bool, shell: &Shell) -> CheckFinding {
    let what = format!("{archive}/{} is a symbolic link", link.key);
    let found =
        if is_pushed_into { CheckFinding::fail("links", what) } else { CheckFinding::note("links", what) };
    let path = format!("{archive}/{}", link.key);
    found.by_typing(
        format!("{}; where it leads", link.advice()),
        shell.as_server(&format!("readlink -f {}", quoted(&path))),
    )
}
