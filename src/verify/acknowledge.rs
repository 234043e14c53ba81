//! Acknowledgements in a verification: reading, adding and revoking.

use jiff::Timestamp;

use super::{Known, Run, Survey, VerifyRequest};
use crate::archive::Archive;
use crate::error::{Error, ErrorKind};
use crate::reports::{Acknowledgement, Acknowledgements, VerifyReport};
use crate::wal::SystemIdentifier;

impl VerifyRequest {
    /// Reads the acknowledgements, without those to be revoked. Says also whether reports are denied to this user, which it
    /// has warned of.
    pub(super) async fn acknowledged(&self, archive: &Archive) -> Result<(Acknowledgements, bool), Error> {
        let mut denied = false;
        let system = self.target.system;
        let mut known = match Acknowledgements::read(archive, system).await {
            Ok(known) => known,
            // Replacing the list would lose acknowledgements of others.
            Err(error) if !self.acknowledge.is_empty() || !self.forget.is_empty() => return Err(error),
            Err(error) => {
                denied = error.is_denied();
                tracing::warn!("{}; what was acknowledged is a failure again", error.report());
                Acknowledgements::default()
            }
        };
        if self.forget.is_empty() {
            return Ok((known, denied));
        }
        for extent in &self.forget {
            if known.forget(extent) == 0 {
                let all: Vec<&str> = known.acknowledged.iter().map(|known| known.file.as_str()).collect();
                let error = refused(format!("cannot forget {extent}: nothing of that name is acknowledged"));
                let all = all.join(", ");
                return Err(if all.is_empty() { error } else { error.hint(format!("what is: {all}")) });
            }
        }
        known.write(archive, system).await?;
        Ok((known, denied))
    }

    /// Refuses acknowledgements of something that is known not to be a finding.
    pub(super) fn check_acknowledged(&self, survey: &Survey, run: &Run) -> Result<(), Error> {
        for extent in &self.acknowledge {
            if let Known::Refused(why) = survey.knows(run, extent) {
                return Err(refused(format!("cannot acknowledge {extent}: {why}")));
            }
        }
        Ok(())
    }

    /// Writes new acknowledgements to the archive.
    pub(super) async fn acknowledge_now(
        &self,
        archive: &Archive,
        survey: &mut Survey,
        run: &mut Run,
        at: Timestamp,
    ) -> Result<(), Error> {
        if self.acknowledge.is_empty() {
            return Ok(());
        }
        self.check_acknowledged(survey, run)?;
        survey.acknowledge(run, &self.acknowledge, at, self.reason.as_deref());
        survey.acknowledged.write(archive, self.target.system).await
    }
}

fn refused(what: String) -> Error {
    Error::new(ErrorKind::Configuration, what)
}

/// Removes outdated acknowledgements, and returns them.
pub(super) async fn drop_useless(
    archive: &Archive,
    system: SystemIdentifier,
    survey: &mut Survey,
    run: &Run,
    report: &VerifyReport,
) -> Vec<Acknowledgement> {
    let dropped = survey.drop_useless(run, report);
    if !dropped.is_empty()
        && let Err(error) = survey.acknowledged.write(archive, system).await
    {
        tracing::warn!("{}; what is acknowledged for nothing stays so", error.report());
    }
    dropped
}
