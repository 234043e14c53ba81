//! Situations in which a property of prune or verify matters, so that a history is more than a sequence of events.

use walkeep::wal::WalName;

use super::events::Counts;
use super::promises::is_complete;
use super::view;
use super::world::{World, known_timelines};

/// Counts the situations at a prune or a verification.
pub(crate) fn count(world: &World, counts: &mut Counts) {
    let archive = world.archive(&world.files);
    let targets = known_timelines(&world.files);
    let known = view::known(world, &world.files, true);
    let bytes = archive.segment_bytes;
    let begins = || world.lines.values().filter(|line| !line.history.is_empty()).map(|line| line.begin);
    let has_segments =
        |tli: &u32| archive.segments.range((*tli, 0)..).next().is_some_and(|(of, _)| of == tli);
    let within = |position: u64, is: &super::recovery::BaseBackup| {
        (is.redo / bytes..=(is.stop - 1) / bytes).contains(&(position / bytes))
    };
    let twice = |line: &super::world::Line| {
        let forks: Vec<u64> = line.history.iter().map(|(_, at)| at / bytes).collect();
        forks.windows(2).any(|two| two[0] == two[1])
    };
    let descends = |line: &super::world::Line| line.history.windows(2).any(|two| two[1].1 < two[0].1);
    let is_running = |backup: &super::world::Backup| backup.ended.is_none() && backup.on.is_some();
    let at_once = known
        .iter()
        .any(|one| known.iter().any(|other| other.index != one.index && other.ended == one.ended));
    let situations: [(&'static str, bool); 14] = [
        ("fork at a boundary", begins().any(|begin| begin % bytes == 0)),
        ("fork inside a segment", begins().any(|begin| begin % bytes > 0)),
        ("two forks within one segment", world.lines.values().any(twice)),
        ("fork before the one of the target", world.lines.values().any(descends)),
        (
            "fork inside a backup's segments",
            known.iter().any(|known| begins().any(|begin| within(begin, &known.is))),
        ),
        ("timeline without a segment", targets.iter().any(|tli| !has_segments(tli))),
        (
            "timeline without a history file",
            targets.iter().any(|tli| *tli > 1 && !archive.histories.contains_key(tli)),
        ),
        ("partial segment", world.files.keys().any(|name| matches!(name, WalName::Partial(_)))),
        (
            "segment on two timelines",
            archive.segments.iter().any(|(tli, number)| archive.segments.contains(&(tli + 1, *number))),
        ),
        ("backup that runs", world.backups.iter().any(is_running)),
        ("backup that lacks WAL", known.iter().any(|known| !is_complete(&archive, &targets, &known.is))),
        ("backup found elsewhere", known.iter().any(|known| known.found)),
        ("backups that ended at once", at_once),
        ("no backup", known.is_empty()),
    ];
    for (kind, occurs) in situations {
        *counts.entry(kind).or_default() += u64::from(occurs);
    }
}
