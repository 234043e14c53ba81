//! `walkeep backfill` while the server, its archiver and others are running.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{fs, num::NonZeroUsize, time::Duration};

use support::{
    kept::{archived, days_ago, name, put_file},
    push::{Pusher, SYSTEM, succeeds},
    wal_writer::WalWriter,
};
use tokio_util::sync::CancellationToken;
use walkeep::{
    archive::{Archive, ArchiveOptions, StoreOptions},
    backfill::{BackfillPlan, BackfillRequest, Backfilled, Pushing, Reason, plan},
    catalog::Reading,
    error::ErrorKind,
    frame::Codec,
    spool::OverflowDirectory,
    wal::SystemIdentifier,
};

/// A server with four full segments, the first of which is archived, and its second timeline.
struct Race {
    pusher: Pusher,
    archive: Archive,
}

impl Race {
    async fn new() -> Self {
        let pusher = Pusher::new();
        for (timeline, number) in [(1, 1), (2, 5)] {
            let mut wal = WalWriter::new(SYSTEM, timeline, number, 1 << 20);
            (0..4).for_each(|_| wal.fill());
            for (segment, number) in wal.segments().iter().zip(number..) {
                pusher.data.file(&format!("pg_wal/{}", name(timeline, number)), segment);
            }
        }
        pusher.data.file("pg_wal/00000002.history", "1\t0/500000\tno recovery target specified\n");
        succeeds(pusher.push(&name(1, 1)));
        let url = pusher.archive.url().parse().unwrap();
        let options = ArchiveOptions::new(url, StoreOptions::default());
        let archive = Archive::open(&options).await.unwrap();
        Self { pusher, archive }
    }

    async fn plan(&self) -> BackfillPlan {
        let request = BackfillRequest {
            data: self.pusher.data.join(""),
            system: SystemIdentifier::new(SYSTEM).unwrap(),
            reading: Reading { at_once: 1, patience: Duration::from_secs(1) },
        };
        let plan = plan(&self.archive, request).await.unwrap();
        assert_eq!((plan.goes.len(), plan.held), (8, 1));
        plan
    }

    async fn carry_out(&self, plan: BackfillPlan, stop: &CancellationToken) -> Backfilled {
        let pushing = Pushing {
            codec: Codec::None,
            threads: NonZeroUsize::MIN,
            at_once: NonZeroUsize::MIN,
            overflow: OverflowDirectory::new(self.pusher.sandbox.path()),
            patience: Duration::from_mins(1),
            host: None,
        };
        plan.carry_out(&self.archive, &pushing, stop, |_| {}).await
    }

    fn wal(&self, name: &str) -> std::path::PathBuf {
        self.pusher.data.join("pg_wal").join(name)
    }
}

fn names(outcome: &Backfilled) -> Vec<String> {
    outcome.archived.iter().map(|file| file.name.to_string()).collect()
}

#[tokio::test]
async fn a_file_archived_in_the_meantime_counts_even_if_it_is_gone_here() {
    let race = Race::new().await;
    let plan = race.plan().await;
    for number in [2, 3, 4] {
        succeeds(race.pusher.push(&name(1, number)));
    }
    fs::remove_file(race.wal(&name(1, 3))).unwrap();
    // The server reuses the file for new WAL.
    fs::rename(race.wal(&name(1, 4)), race.wal(&name(2, 9))).unwrap();
    fs::write(race.wal(&name(1, 4)), vec![0; 1 << 20]).unwrap();
    let outcome = race.carry_out(plan, &CancellationToken::new()).await;
    assert_eq!((outcome.held, outcome.failed.len()), (4, 0));
    assert_eq!(names(&outcome), ["00000002.history", &name(2, 5), &name(2, 6), &name(2, 7), &name(2, 8)]);
}

#[tokio::test]
async fn a_file_that_has_changed_or_disappeared_is_not_archived() {
    let race = Race::new().await;
    let plan = race.plan().await;
    fs::remove_file(race.wal(&name(1, 2))).unwrap();
    let mut other = fs::read(race.wal(&name(1, 3))).unwrap();
    other[5000] ^= 1;
    fs::write(race.wal(&name(1, 3)), other).unwrap();
    let outcome = race.carry_out(plan, &CancellationToken::new()).await;
    let [(changed, error)] = &outcome.failed[..] else { panic!("{outcome:?}") };
    assert_eq!(changed.to_string(), name(1, 3));
    assert!(error.report().contains("changed while it was read"), "{error:?}");
    let [(gone, reason)] = &outcome.left[..] else { panic!("{outcome:?}") };
    assert_eq!((gone.to_string(), reason), (name(1, 2), &Reason::Gone));
    assert!(reason.is_problem());
    assert_eq!(outcome.archived.len(), 6, "and the others are");
    assert!(!race.pusher.file(&name(1, 3)).exists());
}

#[tokio::test]
async fn different_content_is_never_replaced_and_stops_only_its_timeline() {
    let race = Race::new().await;
    let plan = race.plan().await;
    let theirs = archived(&name(1, 3), b"of another server", days_ago(0));
    put_file(&race.pusher.file(&name(1, 3)), &theirs, days_ago(0));
    let outcome = race.carry_out(plan, &CancellationToken::new()).await;
    let [(conflict, error)] = &outcome.failed[..] else { panic!("{outcome:?}") };
    assert_eq!((conflict.to_string(), error.kind()), (name(1, 3), ErrorKind::Conflict));
    assert_eq!(race.pusher.stored(&name(1, 3)), theirs);
    // The second timeline descends from the first.
    assert_eq!(names(&outcome), ["00000002.history", &name(1, 2)]);
    assert!(outcome.left.iter().all(|(_, reason)| reason.is_problem()), "{outcome:?}");
    assert_eq!(outcome.left.len(), 5);
}

#[tokio::test]
async fn an_unavailable_archive_or_a_signal_stops_it() {
    let race = Race::new().await;
    let plan = race.plan().await;
    race.pusher.archive.vanish();
    let outcome = race.carry_out(plan, &CancellationToken::new()).await;
    assert_eq!(
        (outcome.failed.len(), outcome.untried.len(), outcome.archived.len()),
        (1, 7, 0),
        "{outcome:?}"
    );
    race.pusher.archive.come_back();

    let plan = race.plan().await;
    let stop = CancellationToken::new();
    stop.cancel();
    let outcome = race.carry_out(plan, &stop).await;
    assert_eq!((outcome.untried.len(), outcome.archived.len()), (8, 0));
}
