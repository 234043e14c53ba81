//! Comparison of the model with real servers: they request the same segments in the same order, and end in the same
//! way.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use walkeep::wal::{Lsn, SegmentSize, WalName};

use super::recovery::{Archive, BaseBackup, Content, Position, Stop, Tli};
use support::{
    cluster::{Cluster, Shutdown},
    files::names_in,
    recovery::Role,
    sandbox::Sandbox,
    wait_until,
};

const SIZE: SegmentSize = SegmentSize::MIN;

/// Servers that archive into a plain directory, and recover from it.
struct Scene<'a> {
    sandbox: &'a Sandbox,
    archive: PathBuf,
}

impl<'a> Scene<'a> {
    fn archives(&self, cluster: &Cluster<'a>) {
        let archive = self.archive.display();
        cluster.set("archive_mode", "on");
        cluster.set("archive_command", &format!("test ! -e {archive}/%f && cp %p {archive}/%f"));
    }

    /// Copies a base backup, and prepares a recovery without the files in `lost` that records the requested names in
    /// a file.
    fn recovering(&self, backup: &Cluster<'a>, name: &str, lost: &[&str]) -> (Cluster<'a>, PathBuf) {
        let copy = backup.copy(name);
        let asked = self.sandbox.join(format!("{name}.asked"));
        let is_lost = if lost.is_empty() {
            String::new()
        } else {
            format!("case %f in {}) exit 1;; esac; ", lost.join("|"))
        };
        let get = format!("cp {}/%f %p", self.archive.display());
        copy.set("restore_command", &format!("echo %f >> {}; {is_lost}{get}", asked.display()));
        copy.set("archive_mode", "off");
        if copy.knows("recovery_prefetch") {
            copy.set("recovery_prefetch", "off");
        }
        copy.becomes(Role::Recovery);
        (copy, asked)
    }

    /// Recovers a base backup in part, on the path to the latest timeline, and writes two segments on the new one.
    fn branch(&self, backup: &Cluster<'a>, name: &str, until: Option<&str>) {
        let (mut branch, _) = self.recovering(backup, name, &[]);
        self.archives(&branch);
        if let Some(point) = until {
            branch.set("recovery_target_name", point);
            branch.set("recovery_target_action", "promote");
        }
        branch.start();
        for _ in 0..2 {
            branch.sql("insert into orders values (2)");
            branch.archive_segment();
        }
        branch.stop(Shutdown::Immediate);
    }

    /// Returns the content of the archive without the files in `lost`.
    fn archive(&self, lost: &[&str]) -> Archive {
        let mut archive = Archive { segment_bytes: SIZE.bytes(), ..Archive::default() };
        let mut newest = Vec::new();
        for name in names_in(&self.archive) {
            let is_there = !lost.contains(&name.as_str());
            match name.parse().unwrap() {
                WalName::Segment(segment) => {
                    let (tli, number) = (segment.timeline().get(), segment.number(SIZE).unwrap());
                    newest.push((tli, number));
                    archive.segments.extend(is_there.then_some((tli, number)));
                }
                WalName::History(tli) if is_there => {
                    archive.histories.insert(tli.get(), lines(&self.archive.join(&name)));
                }
                _ => {}
            }
        }
        for tli in newest.iter().map(|(tli, _)| *tli).collect::<BTreeSet<_>>() {
            let end = newest.iter().filter(|(of, _)| *of == tli).map(|(_, number)| number + 1).max().unwrap();
            let history = self.archive.join(format!("{tli:08X}.history"));
            let mut content = if tli == 1 { Vec::new() } else { lines(&history) };
            let mut lowest = Position::MAX;
            for (_, left_at) in content.iter_mut().rev() {
                lowest = lowest.min(*left_at);
                *left_at = lowest;
            }
            content.push((tli, end * SIZE.bytes()));
            archive.contents.insert(tli, Content(content));
        }
        archive
    }

    /// Returns the archive's facts about the base backup with that label.
    fn backup(&self, label: &str) -> BaseBackup {
        let texts = names_in(&self.archive).into_iter().filter(|name| name.ends_with(".backup"));
        let texts = texts.map(|name| fs::read_to_string(self.archive.join(name)).unwrap());
        let text = texts.into_iter().find(|text| text.contains(&format!("LABEL: {label}\n"))).unwrap();
        let position = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            value.split(' ').next().unwrap().parse::<Lsn>().unwrap().0
        };
        BaseBackup {
            tli: 1,
            redo: position("START WAL LOCATION: "),
            checkpoint: position("CHECKPOINT LOCATION: "),
            stop: position("STOP WAL LOCATION: "),
            stop_tli: 1,
            from_standby: false,
        }
    }

    /// Recovers a base backup on the path to a timeline, with a server and with the model.
    fn compare(&self, backup: &Cluster<'a>, label: &str, target: Tli, lost: &[&str]) -> Stop {
        let name = format!("{label}-to-{target}-without-{}", lost.len());
        let (mut server, asked) = self.recovering(backup, &name, lost);
        server.set("recovery_target_timeline", &target.to_string());
        server.launch();
        let has_ended = || server.try_sql("select pg_is_in_recovery()").as_deref() == Ok("f");
        wait_until("the recovery has ended", || has_ended() || server.log().contains("startup FATAL"));
        let log = server.log();
        if log.contains("startup FATAL") {
            server.wait_for_exit();
        } else {
            server.stop(Shutdown::Immediate);
        }
        let asked = fs::read_to_string(asked).unwrap();
        let segments = asked.lines().filter_map(|name| match name.parse().unwrap() {
            WalName::Segment(segment) => Some((segment.timeline().get(), segment.number(SIZE).unwrap())),
            _ => None,
        });
        let outcome = self.archive(lost).recover(&self.backup(label), target);
        let model = each_once(outcome.asked.iter().copied());
        let mut real = each_once(segments);
        if outcome.stop == Stop::Astray {
            // The model does not say how it continues.
            real.truncate(model.len());
        }
        assert_eq!(real, model, "{name}: {outcome:?}\n{log}");
        let complaint = match outcome.stop {
            Stop::NoSuchTimeline => "does not exist",
            Stop::NoCheckpoint => "could not locate required checkpoint record",
            Stop::NotAChild => "is not a child of this server's history",
            Stop::EndOfLog | Stop::Astray if outcome.consistent => "archive recovery complete",
            Stop::EndOfLog | Stop::Astray => "WAL ends before",
        };
        assert!(log.contains(complaint), "{name}: {complaint}, {outcome:?}\n{log}");
        outcome.stop
    }
}

fn lines(history: &Path) -> Vec<(Tli, Position)> {
    let text = fs::read_to_string(history).unwrap();
    let entry = |line: &str| {
        let mut fields = line.split('\t');
        Some((fields.next()?.parse().ok()?, fields.next()?.parse::<Lsn>().ok()?.0))
    };
    text.lines().filter_map(entry).collect()
}

fn each_once<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut once = Vec::new();
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

#[test]
fn a_real_server_requests_the_same_segments_and_ends_in_the_same_way() {
    let sandbox = Sandbox::new();
    let scene = Scene { sandbox: &sandbox, archive: sandbox.directory("wal") };
    let mut primary = Cluster::initialised_with(&sandbox, "primary", &["--wal-segsize=1"]);
    scene.archives(&primary);
    primary.start();
    primary.sql("create table orders (number int)");
    let early = primary.base_backup("early");
    primary.sql("insert into orders values (1)");
    primary.sql("select pg_create_restore_point('point')");
    primary.sql("insert into orders values (1)");
    let forked_in = primary.finish_segment();
    let late = primary.base_backup("late");
    primary.sql("insert into orders values (1)");
    primary.archive_segment();
    primary.stop(Shutdown::Immediate);
    // 2 continues where 1 ended. 3 leaves 1 in the middle of a segment, on the path to 2; 4 continues where 3 ended.
    scene.branch(&early, "second", None);
    scene.branch(&early, "third", Some("point"));
    scene.branch(&early, "fourth", None);
    let names = names_in(&scene.archive);
    let mut backups = names.iter().filter(|name| name.ends_with(".backup"));
    let late_from = backups.clone().next_back().unwrap();
    let third_has = format!("00000003{}", &forked_in[8..]);
    assert!(names.contains(&forked_in) && names.contains(&third_has), "{names:?}");
    assert_eq!(lines(&scene.archive.join("00000003.history")).len(), 2, "it calls 2 its parent");

    for target in 1..=4 {
        assert_eq!(scene.compare(&early, "early", target, &[]), Stop::EndOfLog);
    }
    assert_eq!(scene.compare(&late, "late", 2, &[]), Stop::EndOfLog);
    // Timeline 3 has something else at the position of the backup's checkpoint.
    let other = format!("00000003{}", &late_from[8..24]);
    assert!(names.contains(&other), "{names:?}");
    assert_eq!(scene.compare(&late, "late", 3, &[]), Stop::NoCheckpoint);
    assert_eq!(scene.compare(&late, "late", 3, &[&other]), Stop::NotAChild);
    assert_eq!(scene.compare(&early, "early", 4, &["00000004.history"]), Stop::NoSuchTimeline);
    assert_eq!(scene.compare(&early, "early", 3, &[&third_has]), Stop::Astray);
    let lost = [forked_in.as_str(), "00000002.history"];
    assert_eq!(scene.compare(&early, "early", 1, &lost), Stop::EndOfLog, "a gap");
    let first = backups.next().unwrap();
    let lost = [&first[..24], "00000002.history", "00000003.history"];
    assert_eq!(scene.compare(&early, "early", 1, &lost), Stop::NoCheckpoint);
}
