//! Second listing, for files that disappeared during the verification. A prune or somebody else may have deleted
//! them; or the archive has lost them, and its listings do not show it.

use std::collections::BTreeSet;

use futures_util::StreamExt;

use super::content::{Verdict, check};
use super::run::bad;
use super::{LISTED_AND_ABSENT, Run, Survey};
use crate::archive::{Archive, ArchivedName};
use crate::error::Error;
use crate::reports::FindingKind;
use crate::work::Clock;

impl Run {
    /// Lists the archive again if any file disappeared. A file that is still listed is inaccessible; one that is not
    /// is missing, if any present file needs it.
    pub(super) async fn look_again(
        &mut self,
        archive: &Archive,
        survey: &mut Survey,
        clock: Clock<'_>,
    ) -> Result<(), Error> {
        if self.so_far.went.is_empty() && survey.absent_texts == 0 {
            return Ok(());
        }
        survey.look_again(archive, clock).await?;
        let listed: BTreeSet<ArchivedName> =
            survey.catalog.inventory.files.iter().map(|file| file.name).collect();
        let (still, gone): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.so_far.went).into_iter().partition(|name| listed.contains(name));
        self.so_far.gone_files += gone.len() as u64;
        self.judge_anew(survey, &listed);
        let request = self.request.unwrap_or_default();
        let looks = still.iter().map(async |name| {
            let depth = request.depth(survey, *name);
            (
                *name,
                check(
                    archive,
                    survey.system,
                    *name,
                    Some(survey.catalog.sizes.of(*name)),
                    depth,
                    survey.reading,
                )
                .await,
            )
        });
        let mut looks = futures_util::stream::iter(looks).buffered(survey.reading.at_once);
        while let Some((name, verdict)) = looks.next().await {
            match verdict? {
                Verdict::Gone => {
                    self.so_far.uncompared_files += 1;
                    let what = LISTED_AND_ABSENT.to_owned();
                    self.so_far.add(bad(survey, name, FindingKind::Unreadable, what), name);
                }
                verdict => self.note(survey, name, verdict),
            }
        }
        Ok(())
    }

    /// Interprets the earlier findings by the new listing.
    fn judge_anew(&mut self, survey: &Survey, listed: &BTreeSet<ArchivedName>) {
        self.so_far.findings.change(|finding| match finding.file.parse::<ArchivedName>() {
            Ok(name) if listed.contains(&name) => Some(bad(survey, name, finding.kind, finding.what)),
            Ok(_) => None,
            Err(_) => Some(finding),
        });
        self.so_far.bad.retain(|segment| listed.contains(&crate::wal::WalName::Segment(*segment).into()));
    }
}
