//! A verification from its request to its report: continuation of an earlier one, intermediate reports, and the
//! result.

use std::time::Duration;

use jiff::Timestamp;

use super::acknowledge::drop_useless;
use super::{ContentRequest, Interval, Run, Survey, Target};
use crate::archive::Archive;
use crate::catalog::concerns_one_file;
use crate::error::{Error, ErrorKind};
use crate::reports::{Acknowledgement, Extent, Finding, Scope, Severity, VerifyReport};
use crate::wal::SystemIdentifier;
use crate::work::{LAST_REPORT, Work};

/// A verification request.
#[derive(Debug, Clone)]
pub struct VerifyRequest {
    /// Cluster to verify, with settings.
    pub target: Target,
    /// Contents to verify; `None` for names and text files only.
    pub contents: Option<ContentRequest>,
    /// `true` to continue the last interrupted verification of everything.
    pub resume: bool,
    /// Failures to acknowledge.
    pub acknowledge: Vec<Extent>,
    /// Reason for the acknowledgements.
    pub reason: Option<String>,
    /// Acknowledgements to revoke.
    pub forget: Vec<Extent>,
    /// Interval between intermediate reports.
    pub note_every: Duration,
}

/// Result of a verification.
#[derive(Debug)]
pub struct Verified {
    /// Findings from names and text files.
    pub survey: Survey,
    /// Findings from contents.
    pub run: Run,
    /// Report in the archive.
    pub report: VerifyReport,
    /// Reason why the verification is incomplete, or an acknowledgement failed.
    pub error: Option<Error>,
    /// Removed acknowledgements.
    pub dropped: Vec<Acknowledgement>,
}

impl Verified {
    /// Iterates over the findings: failures first, and findings from names before those from contents.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        let all = || self.survey.findings(&self.run);
        let of = move |severity| all().filter(move |finding| finding.severity == severity);
        of(Severity::Failure).chain(of(Severity::Note))
    }
}

const STOPPED: &str = "stopped before all was verified";

/// Verifies an archive, and writes a report to it. Returns an error if not even the names could be read.
pub async fn verify(archive: &Archive, request: VerifyRequest, work: &Work<'_>) -> Result<Verified, Error> {
    let system = request.target.system;
    let last_full = last_full(archive, system).await;
    let resumed = last_full.as_ref().filter(|report| request.resumes(report));
    let (acknowledged, is_warned) = request.acknowledged(archive).await?;
    let surveying = Box::pin(Survey::of(archive, request.target.clone(), acknowledged, work.clock));
    let mut survey = match work.unless_stopped(surveying, STOPPED).await {
        Ok(survey) => survey,
        Err(error) => {
            let report = request.failed(resumed, last_full.as_ref(), work.now(), &error);
            note(archive, system, report, is_warned, work).await;
            return Err(error);
        }
    };
    let contents = request.contents.map(|contents| ContentRequest {
        deep: contents.deep || resumed.is_some_and(|report| report.deep),
        ..contents
    });
    let mut run = Run::new(&mut survey, contents, resumed, last_full.clone());
    // Contents may take hours, so everything that can be checked before is.
    request.check_acknowledged(&survey, &run)?;
    let looked = Box::pin(request.look(archive, &mut survey, &mut run, work)).await;
    if looked.is_err() {
        survey.conclude(None, &run.so_far.bad).await;
    }
    let unknown = match &looked {
        Ok(()) => request.acknowledge_now(archive, &mut survey, &mut run, work.now()).await.err(),
        Err(_) => None,
    };
    let error = looked.err().map(|error| match request.scope() {
        Scope::All => error.hint_also("the same command with --resume goes on from there"),
        Scope::Part | Scope::Names => error,
    });
    let report = run.report(&survey, work.now(), error.as_ref().map(Error::report));
    note(archive, system, report.clone(), is_warned, work).await;
    let dropping = drop_useless(archive, system, &mut survey, &run, &report);
    let dropped = work.finish_within(LAST_REPORT, dropping).await.unwrap_or_default();
    Ok(Verified { survey, run, report, error: error.or(unknown), dropped })
}

impl VerifyRequest {
    fn scope(&self) -> Scope {
        ContentRequest::scope(self.contents)
    }

    /// Verifies contents, lists files again that disappeared, and draws the conclusion.
    async fn look(
        &self,
        archive: &Archive,
        survey: &mut Survey,
        run: &mut Run,
        work: &Work<'_>,
    ) -> Result<(), Error> {
        work.progress.begin(run.files());
        let mut interval = Interval::new(self.note_every);
        let looking = run.contents(archive, survey, async |run| {
            work.progress.add(1);
            if self.scope() == Scope::All && interval.is_due() {
                let report = run.report_so_far(survey, work.now());
                if let Err(error) = report.write(archive, self.target.system).await {
                    tracing::debug!("{}", error.report());
                }
            }
        });
        let looked = work.unless_stopped(looking, STOPPED).await;
        work.progress.end();
        looked?;
        work.unless_stopped(run.look_again(archive, survey, work.clock), STOPPED).await?;
        let concluding = async {
            survey.conclude(Some(archive), &run.so_far.bad).await;
            Ok(())
        };
        work.unless_stopped(concluding, STOPPED).await
    }

    /// Returns `true` if that verification can be continued.
    fn resumes(&self, report: &VerifyReport) -> bool {
        if !self.resume {
            return false;
        }
        let deep = self.contents.is_some_and(|contents| contents.deep);
        if deep && !report.deep && report.checked_up_to.is_some() {
            tracing::warn!("the last verification was not --deep, so this one starts at the beginning");
            return false;
        }
        report.checked_up_to.is_some()
    }

    /// Creates the report for a verification that could not start. One that can be continued still can.
    fn failed(
        &self,
        resumed: Option<&VerifyReport>,
        last_full: Option<&VerifyReport>,
        at: Timestamp,
        error: &Error,
    ) -> VerifyReport {
        let (scope, error) = (self.scope(), Some(error.report()));
        if let Some(resumed) = resumed {
            return VerifyReport { at, ok: false, error, at_work: false, ..resumed.clone() };
        }
        VerifyReport {
            at,
            ok: false,
            error,
            at_work: false,
            checked_up_to: None,
            scope,
            deep: self.contents.is_some_and(|contents| contents.deep),
            checked_files: 0,
            uncompared_files: 0,
            failures: 0,
            notes: 0,
            first_failure: None,
            gone_files: 0,
            went: Vec::new(),
            content_failures: 0,
            content_notes: 0,
            content_findings: Vec::new(),
            totals: None,
            last_full: last_full.filter(|_| scope != Scope::All).cloned().map(Box::new),
        }
    }
}

/// Reads the report of the last verification of everything. It helps, but is not required.
async fn last_full(archive: &Archive, system: SystemIdentifier) -> Option<VerifyReport> {
    match VerifyReport::read(archive, system).await {
        Ok(report) => report.and_then(VerifyReport::full),
        Err(error) if concerns_one_file(error.kind()) => {
            tracing::warn!("{}; this run starts at the beginning", error.report());
            None
        }
        // The acknowledgements beside it cannot be read either, and that is said once.
        Err(_) => None,
    }
}

/// Writes a report to the archive, for `walkeep status` and `--resume`. A failure to write it does not fail the
/// verification. `is_warned` after a warning that reports are denied to this user.
async fn note(
    archive: &Archive,
    system: SystemIdentifier,
    report: VerifyReport,
    is_warned: bool,
    work: &Work<'_>,
) {
    let written = work.finish_within(LAST_REPORT, report.write(archive, system)).await;
    let written =
        written.unwrap_or_else(|| Err(Error::new(ErrorKind::Stopped, "stopped before this was noted")));
    match written {
        Err(error) if is_warned && error.is_denied() => tracing::debug!("{}", error.report()),
        Err(error) => tracing::warn!("{}; \"walkeep status\" will not know of this run", error.report()),
        Ok(()) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::rc::Rc;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::catalog::Labels;
    use crate::reports::{Acknowledgements, FindingKind};
    use crate::scene::{NOW, READING, Scene, days_ago, segment, write};
    use crate::verify::Answer;

    /// Creates six segments, and a base backup that needs all of them.
    async fn scene() -> Scene {
        let scene = Scene::new().await;
        scene.segments(1, 1..=4, 9);
        scene.segments(1, 5..=6, 2);
        scene.backup(1, 1, 2, 8);
        scene
    }

    fn request(scene: &Scene, contents: Option<ContentRequest>) -> VerifyRequest {
        VerifyRequest {
            target: Target {
                system: scene.system,
                backup_directories: Vec::new(),
                labels: Labels::default(),
                given_up: Vec::new(),
                reading: READING,
            },
            contents,
            resume: false,
            acknowledge: Vec::new(),
            reason: None,
            forget: Vec::new(),
            note_every: Duration::MAX,
        }
    }

    fn all(scene: &Scene) -> VerifyRequest {
        request(scene, Some(ContentRequest::default()))
    }

    fn resumed(scene: &Scene) -> VerifyRequest {
        VerifyRequest { resume: true, ..all(scene) }
    }

    async fn verified(scene: &Scene, request: VerifyRequest) -> Verified {
        verify(&scene.archive, request, &scene.work()).await.unwrap()
    }

    async fn noted(scene: &Scene) -> VerifyReport {
        VerifyReport::read(&scene.archive, scene.system).await.unwrap().unwrap()
    }

    fn damage(file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let at = fs::metadata(file).unwrap().modified().unwrap();
        write(file, &bytes, at.try_into().unwrap());
    }

    /// Returns the failures, each as file and kind.
    fn failures(verified: &Verified) -> Vec<(&str, FindingKind)> {
        let failures = verified.findings().filter(|finding| finding.severity == Severity::Failure);
        failures.map(|finding| (&*finding.file, finding.kind)).collect()
    }

    /// Runs a verification that is stopped after two segments, the first of which is damaged.
    async fn interrupted(contents: ContentRequest) -> (Scene, VerifyReport) {
        let mut scene = scene().await;
        damage(&scene.archived(&segment(1, 1).to_string()));
        scene.heard.when(2, {
            let stop = scene.stop.clone();
            move || stop.cancel()
        });
        let verified = verified(&scene, request(&scene, Some(contents))).await;
        assert_eq!(verified.error.unwrap().kind(), ErrorKind::Stopped);
        scene.stop = CancellationToken::new();
        let report = noted(&scene).await;
        (scene, report)
    }

    #[tokio::test]
    async fn an_intact_archive_passes_and_a_report_is_written() {
        let scene = scene().await;
        let verified = verified(&scene, all(&scene)).await;
        assert_eq!(failures(&verified), []);
        assert!(verified.report.ok && verified.error.is_none());
        assert_eq!(noted(&scene).await, verified.report);
        let report = &verified.report;
        assert_eq!((report.at, report.scope, report.checked_files), (NOW, Scope::All, 7));
        let heard = &scene.heard;
        assert_eq!((heard.begun.get(), heard.done.get(), heard.ended.get()), (6, 6, true));
        let Answer::Recoverable { from, to, .. } = verified.survey.present.unwrap().answer else { panic!() };
        assert_eq!((from, to), (days_ago(8), Some(days_ago(2))));
    }

    #[tokio::test]
    async fn damage_is_found_in_contents_and_not_in_names() {
        let scene = scene().await;
        let damaged = segment(1, 3).to_string();
        damage(&scene.archived(&damaged));
        let by_names = verified(&scene, request(&scene, None)).await;
        assert_eq!((failures(&by_names), by_names.report.scope), (Vec::new(), Scope::Names));
        let newer = ContentRequest { since: Some(days_ago(3)), ..ContentRequest::default() };
        let of_a_part = verified(&scene, request(&scene, Some(newer))).await;
        assert_eq!((failures(&of_a_part), of_a_part.report.checked_files), (Vec::new(), 3));
        let by_contents = verified(&scene, all(&scene)).await;
        let found = [("timeline 1", FindingKind::Present), (&*damaged, FindingKind::Damaged)];
        assert_eq!(failures(&by_contents), found);
        assert!(!noted(&scene).await.ok);
        let Answer::Lost { .. } = by_contents.survey.present.unwrap().answer else { panic!() };
        verified(&scene, request(&scene, None)).await;
        let full = noted(&scene).await.full().unwrap();
        assert_eq!((full.scope, full.ok), (Scope::All, false), "a look at names does not outdo it");
    }

    #[tokio::test]
    async fn an_interrupted_verification_continues_with_its_findings() {
        let (scene, report) = interrupted(ContentRequest::default()).await;
        assert!(report.checked_files >= 2 && !report.ok && !report.at_work);
        let up_to = report.checked_up_to.unwrap();
        assert!(up_to >= segment(1, 2).to_string(), "{up_to}");
        assert!(report.error.unwrap().contains("--resume"));
        assert!(scene.heard.ended.get());
        // It does not read what was verified before.
        damage(&scene.archived(&segment(1, 2).to_string()));
        let verified = verified(&scene, resumed(&scene)).await;
        assert_eq!(verified.run.resumed_after.unwrap().to_string(), up_to);
        let first = segment(1, 1).to_string();
        let found = [("timeline 1", FindingKind::Present), (&*first, FindingKind::Damaged)];
        assert_eq!(failures(&verified), found);
        assert_eq!((verified.report.checked_files, verified.report.checked_up_to), (7, None));
    }

    #[tokio::test]
    async fn a_continued_verification_is_at_least_as_thorough() {
        let deep = ContentRequest { deep: true, ..ContentRequest::default() };
        let (scene, report) = interrupted(deep).await;
        assert!(report.deep);
        let verified = self::verified(&scene, resumed(&scene)).await;
        assert!(verified.report.deep && verified.run.resumed_after.is_some());
        let (scene, _) = interrupted(ContentRequest::default()).await;
        let closer = VerifyRequest { contents: Some(deep), ..resumed(&scene) };
        let verified = self::verified(&scene, closer).await;
        assert_eq!((verified.report.deep, verified.run.resumed_after), (true, None));
    }

    #[tokio::test]
    async fn a_killed_verification_has_reported_its_progress() {
        let scene = scene().await;
        let report = scene.path("archive").join(format!("{}/reports/verify.json", scene.system));
        let on_the_way = Rc::new(std::cell::RefCell::new(String::new()));
        scene.heard.when(3, {
            let (on_the_way, report) = (Rc::clone(&on_the_way), report.clone());
            move || *on_the_way.borrow_mut() = fs::read_to_string(report).unwrap()
        });
        verified(&scene, VerifyRequest { note_every: Duration::ZERO, ..all(&scene) }).await;
        assert!(noted(&scene).await.ok, "it came to its end");
        fs::write(report, &*on_the_way.borrow()).unwrap();
        let killed = noted(&scene).await;
        let up_to = Some(segment(1, 2).to_string());
        assert_eq!((killed.ok, killed.at_work, killed.checked_up_to), (false, true, up_to));
        let verified = verified(&scene, resumed(&scene)).await;
        assert_eq!(verified.run.resumed_after.unwrap().segment(), Some(segment(1, 2)));
        assert_eq!((verified.report.ok, verified.report.checked_files), (true, 7));
    }

    #[tokio::test]
    async fn a_failed_listing_is_reported_and_an_interrupted_verification_stays_resumable() {
        let (mut scene, before) = interrupted(ContentRequest::default()).await;
        scene.stop.cancel();
        let error = verify(&scene.archive, resumed(&scene), &scene.work()).await.unwrap_err();
        assert_eq!(error.report(), STOPPED);
        let report = noted(&scene).await;
        assert_eq!(report, VerifyReport { error: Some(error.report()), ..before });
        verify(&scene.archive, all(&scene), &scene.work()).await.unwrap_err();
        assert_eq!(noted(&scene).await.checked_up_to, None, "a new beginning");
        scene.stop = CancellationToken::new();
        assert_eq!(verified(&scene, resumed(&scene)).await.run.resumed_after, None);
    }

    #[tokio::test]
    async fn an_acknowledged_failure_is_a_note_until_revoked_or_repaired() {
        let scene = scene().await;
        let missing = segment(1, 4).to_string();
        let lost = scene.archived(&missing);
        fs::rename(&lost, scene.path("lost")).unwrap();
        scene.backup(1, 5, 6, 2);
        let gap = |verified: &Verified| failures(verified).iter().any(|(file, _)| *file == missing);
        assert!(gap(&verified(&scene, all(&scene)).await));
        let extents = vec![Extent::parse(&missing)];
        let reason = Some("the disk burnt".to_owned());
        let known = VerifyRequest { acknowledge: extents.clone(), reason, ..all(&scene) };
        let verified = self::verified(&scene, known).await;
        assert!(verified.report.ok && !gap(&verified));
        assert!(self::verified(&scene, all(&scene)).await.report.ok, "from now on");
        let read = Acknowledgements::read(&scene.archive, scene.system).await.unwrap().acknowledged;
        assert_eq!((read.len(), read[0].acknowledged.at, &*read[0].file), (1, NOW, &*missing));
        let taken_back = VerifyRequest { forget: extents.clone(), ..all(&scene) };
        assert!(gap(&self::verified(&scene, taken_back).await));
        assert!(gap(&self::verified(&scene, all(&scene)).await), "from then on");
        self::verified(&scene, VerifyRequest { acknowledge: extents, ..all(&scene) }).await;
        fs::rename(scene.path("lost"), lost).unwrap();
        let mended = self::verified(&scene, all(&scene)).await;
        assert_eq!((mended.report.ok, mended.dropped.len()), (true, 1));
        let read = Acknowledgements::read(&scene.archive, scene.system).await.unwrap();
        assert_eq!(read, Acknowledgements::default());
    }

    #[tokio::test]
    async fn intact_files_can_be_neither_acknowledged_nor_revoked() {
        let scene = scene().await;
        for (acknowledge, forget) in [(vec![Extent::parse("x")], vec![]), (vec![], vec![Extent::parse("x")])]
        {
            let wrong = VerifyRequest { acknowledge, forget, ..all(&scene) };
            let error = verify(&scene.archive, wrong, &scene.work()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
        }
        assert_eq!(VerifyReport::read(&scene.archive, scene.system).await.unwrap(), None);
    }
}
