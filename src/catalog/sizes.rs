//! Segment sizes of a cluster, determined from the archived files.
//!
//! `pg_resetwal --wal-segsize` changes the segment size of a cluster, and thereby the meaning of names: segment 2 of
//! 16 MB comes after segment 16 of 1 MB. So no name determines the size. The headers of archived files do, and the
//! positions in backup history files. A few files are read. If they disagree, all are.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::{Reading, concerns_one_file};
use crate::archive::{Archive, ArchivedFile, ArchivedName};
use crate::archived_file::size_and_time_of;
use crate::coverage::BaseBackup;
use crate::error::{Error, ErrorKind};
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier};

/// Size of each segment, and of the first segment of each base backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    current: SegmentSize,
    /// Sizes other than the current one, of segments and backup history files.
    others: BTreeMap<ArchivedName, SegmentSize>,
}

/// Files of a size other than the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherSize {
    /// Segment size.
    pub size: SegmentSize,
    /// Segments of that size, sorted by name, which is their order on each timeline.
    pub segments: Vec<ArchivedName>,
    /// Backup history files of base backups that start in such a segment.
    pub backups: Vec<ArchivedName>,
}

impl OtherSize {
    /// Returns the first and the last of its segments, or of its backup history files if it has no segments.
    #[must_use]
    pub fn range(&self) -> String {
        let files = if self.segments.is_empty() { &self.backups } else { &self.segments };
        match files.as_slice() {
            [] => String::new(),
            [only] => only.to_string(),
            [first, .., last] => format!("{first} to {last}"),
        }
    }
}

/// Creates the sizes of a cluster whose segment size never changed.
impl From<SegmentSize> for Sizes {
    fn from(current: SegmentSize) -> Self {
        Self { current, others: BTreeMap::new() }
    }
}

impl Sizes {
    /// Creates the sizes of an archive whose segments all have that size.
    #[must_use]
    pub fn only(size: SegmentSize) -> Self {
        Self { current: size, others: BTreeMap::new() }
    }

    /// Returns the current segment size.
    #[must_use]
    pub fn current(&self) -> SegmentSize {
        self.current
    }

    /// Returns the size of a segment, or that of the first segment of the backup with that history file.
    #[must_use]
    pub fn of(&self, name: ArchivedName) -> SegmentSize {
        self.others.get(&name).copied().unwrap_or(self.current)
    }

    /// Returns `true` if the file has the current segment size.
    #[must_use]
    pub fn is_current(&self, name: impl Into<ArchivedName>) -> bool {
        self.of(name.into()) == self.current
    }

    /// Returns the files of other sizes, smallest size first; empty in an archive with one size.
    #[must_use]
    pub fn others(&self) -> Vec<OtherSize> {
        let sizes: BTreeSet<SegmentSize> = self.others.values().copied().collect();
        let of_size = |size| {
            let files = self.others.iter().filter(move |(_, other)| **other == size).map(|(name, _)| *name);
            let (segments, backups) = files.partition(|name: &ArchivedName| name.segment().is_some());
            OtherSize { size, segments, backups }
        };
        sizes.into_iter().map(of_size).collect()
    }

    /// Reads as many files as necessary. `backups` are those whose history files were read.
    pub(super) async fn determine(
        archive: &Archive,
        system: SystemIdentifier,
        files: &[ArchivedFile],
        backups: &[BaseBackup],
        reading: Reading,
    ) -> Result<Self, Error> {
        let headers = Headers { archive, system, reading };
        let segments: Vec<ArchivedFile> =
            files.iter().filter(|file| file.name.segment().is_some()).copied().collect();
        let (mut found, mut unreadable) = headers.read(sample(&segments)).await?;
        if found.is_empty() {
            let others = spread(&segments, MOST_IF_UNREADABLE).map(|file| file.name);
            (found, unreadable) = headers.read(others).await?;
        }
        if let (true, Some(error)) = (found.is_empty(), unreadable) {
            return Err(error);
        }
        let by_backups = || backups.iter().filter_map(by_backup);
        if let Some(size) = only(found.iter().chain(&by_backups().collect::<Vec<_>>())) {
            let odd = segments.iter().find(|file| !fits(file.name, size)).map(|file| file.name);
            found.extend(headers.read(odd).await?.0);
        }
        let mut all: Vec<Found> = by_backups().collect();
        all.extend(found.iter().copied());
        if !all.is_empty() && only(&all).is_none() {
            found = headers.read(segments.iter().map(|file| file.name)).await?.0;
        }
        Ok(Self::from_found(&found, backups))
    }

    /// Takes the size of the file archived last as the current one. Uses the times in headers, because a copy of an
    /// archive may have lost the times of its files.
    fn from_found(found: &[Found], backups: &[BaseBackup]) -> Self {
        let by_backups: Vec<Found> = backups.iter().filter_map(by_backup).collect();
        let newest = found.iter().chain(&by_backups).max_by_key(|found| found.order());
        // Without segments and backups, the size does not matter.
        let current = newest.map_or(SegmentSize::DEFAULT, |found| found.size);
        let others = found.iter().chain(&by_backups).filter(|found| found.size != current);
        let mut sizes = Self { current, others: others.map(|found| (found.name, found.size)).collect() };
        // At the start of the WAL, segments of all sizes have the same name.
        for backup in backups.iter().filter(|backup| by_backup(backup).is_none()) {
            let size = sizes.of(crate::wal::WalName::Segment(backup.start()).into());
            let name = backup.known_from.history().filter(|_| size != current);
            sizes.others.extend(name.map(|name| (name.into(), size)));
        }
        sizes
    }
}

/// Segment size found in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    name: ArchivedName,
    size: SegmentSize,
    /// Time of archiving.
    at: Timestamp,
}

impl Found {
    /// Returns the key for the order of time. Within a second, the position decides: a new size starts after the old
    /// one ends.
    fn order(&self) -> (Timestamp, Option<u64>) {
        let start = self.name.segment().and_then(|segment| segment.start(self.size));
        (self.at, start.map(|start| start.0))
    }
}

/// Returns the size that the positions in a backup history file imply, if they imply one.
fn by_backup(backup: &BaseBackup) -> Option<Found> {
    let size = SegmentSize::implied_by(backup.wal.start, backup.start())?;
    Some(Found { name: backup.known_from.history()?.into(), size, at: backup.known_since })
}

/// Returns the size if all files agree on one.
fn only<'a>(found: impl IntoIterator<Item = &'a Found>) -> Option<SegmentSize> {
    let mut sizes = found.into_iter().map(|found| found.size);
    let first = sizes.next()?;
    sizes.all(|size| size == first).then_some(first)
}

/// Returns `true` unless a segment of that size cannot have the name.
fn fits(name: ArchivedName, size: SegmentSize) -> bool {
    name.segment().is_none_or(|segment| segment.number(size).is_some())
}

/// Headers of the files in an archive.
#[derive(Clone, Copy)]
struct Headers<'a> {
    archive: &'a Archive,
    system: SystemIdentifier,
    reading: Reading,
}

impl Headers<'_> {
    /// Returns the sizes in these files, and the last error of an unreadable one.
    async fn read(
        self,
        names: impl IntoIterator<Item = ArchivedName>,
    ) -> Result<(Vec<Found>, Option<Error>), Error> {
        let Self { archive, system, reading } = self;
        let read = |name: ArchivedName| async move {
            match reading.retry(async || size_and_time_of(archive, system, name).await).await {
                Ok((size, at)) => Ok(Ok(Found { name, size, at })),
                // A file in cold storage is refused, while others are not.
                Err(error) if concerns_one_file(error.kind()) || error.kind() == ErrorKind::Refused => {
                    Ok(Err(error))
                }
                Err(error) if archive.denies(system, name).await => Ok(Err(error)),
                Err(error) => Err(error),
            }
        };
        let names: Vec<ArchivedName> = names.into_iter().collect();
        let mut results = futures_util::stream::iter(names).map(read).buffered(reading.at_once);
        let (mut found, mut unreadable) = (Vec::new(), None);
        while let Some(result) = results.try_next().await? {
            match result {
                Ok(size) => found.push(size),
                Err(error) => unreadable = Some(error),
            }
        }
        Ok((found, unreadable))
    }
}

/// Number of files in the sample that are spread over the time of archiving, including both ends.
const OVER_TIME: usize = 8;

/// Number of newest timelines of which the sample contains the lowest and the highest name.
const TIMELINES: usize = 8;

/// Number of last breaks in the order of names of which the sample contains both sides.
const BREAKS: usize = 4;

/// Maximum number of files read if the whole sample is unreadable.
const MOST_IF_UNREADABLE: usize = 64;

/// Selects the segments to read first, from all in order of names.
///
/// A change of the size divides the files both by time and by name. So files spread over the time, and the ends of the
/// names, contain both sizes. A change that was reverted leaves breaks in the names at both of its ends. If files were
/// archived in the order of their names, the first and the last are enough.
fn sample(segments: &[ArchivedFile]) -> BTreeSet<ArchivedName> {
    let mut by_time = segments.to_vec();
    by_time.sort_by_key(|file| (file.since, file.name));
    let most = if by_time.is_sorted_by_key(|file| file.name) { 2 } else { OVER_TIME };
    let mut sample: BTreeSet<ArchivedName> = spread(&by_time, most).map(|file| file.name).collect();
    let one_timeline =
        |one: &ArchivedFile, other: &ArchivedFile| one.name.wal().timeline() == other.name.wal().timeline();
    for of_timeline in segments.chunk_by(one_timeline).rev().take(TIMELINES) {
        sample.extend(of_timeline.first().into_iter().chain(of_timeline.last()).map(|file| file.name));
    }
    let breaks = segments.chunk_by(|one, other| may_follow(one.name.segment(), other.name.segment()));
    let ends = breaks.flat_map(|chunk| [chunk.first(), chunk.last()]).flatten();
    let ends: Vec<ArchivedName> = ends.map(|file| file.name).collect();
    // Both sides of each break, and the last name.
    sample.extend(ends.into_iter().rev().take(2 * BREAKS + 1));
    sample
}

/// Returns `true` if the second name may be that of the next segment, or another file of the same segment.
fn may_follow(one: Option<SegmentName>, other: Option<SegmentName>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    let is_next = other.order() == one.order() + 1 || other.order() == ((one.order() >> 32) + 1) << 32;
    one.timeline() == other.timeline() && (one == other || is_next)
}

/// Selects at most `most` files at equal distances, including the first and the last.
fn spread(files: &[ArchivedFile], most: usize) -> impl Iterator<Item = &ArchivedFile> {
    let last = files.len().saturating_sub(1);
    let wanted = most.min(files.len());
    (0..wanted).filter_map(move |index| files.get(index * last / wanted.saturating_sub(1).max(1)))
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;
    use crate::coverage::KnownFrom;
    use crate::wal::{BackupWal, Lsn, TimelineId, WalName};

    fn mb(megabytes: u64) -> SegmentSize {
        SegmentSize::new(megabytes << 20).unwrap()
    }

    fn name(number: u64) -> ArchivedName {
        let timeline = TimelineId::new(1).unwrap();
        WalName::Segment(SegmentName::from_number(timeline, number, SegmentSize::MIN).unwrap()).into()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Creates segments archived one after the other, from a time on.
    fn archived(numbers: RangeInclusive<u64>, from: i64) -> Vec<ArchivedFile> {
        let file = |(number, since)| ArchivedFile { name: name(number), since: at(since), stored_size: 1 };
        numbers.zip(from..).map(file).collect()
    }

    fn found(numbers: RangeInclusive<u64>, size: SegmentSize, from: i64) -> Vec<Found> {
        archived(numbers, from).iter().map(|file| Found { name: file.name, size, at: file.since }).collect()
    }

    fn backup(number: u64, start: u64, second: i64) -> BaseBackup {
        let segment = name(number).segment().unwrap();
        BaseBackup {
            known_from: KnownFrom::History(WalName::Backup { segment, offset: 0x28 }),
            label: None,
            wal: BackupWal { start_segment: segment, start: Lsn(start), end: None },
            from_standby: false,
            ended: at(second),
            known_since: at(second),
            counts: true,
            builds_on: None,
        }
    }

    /// Returns `true` if a sample of segments, sorted by name, contains both sizes at any file times.
    fn is_noticed(mut files: Vec<ArchivedFile>, is_other: impl Fn(ArchivedName) -> bool) -> bool {
        files.sort_unstable_by_key(|file| file.name);
        let noticed = |files: &[ArchivedFile]| {
            let sample = sample(files);
            assert!(sample.len() <= OVER_TIME + 2 * TIMELINES + 2 * BREAKS + 1, "{}", sample.len());
            sample.iter().any(|name| is_other(*name)) && sample.iter().any(|name| !is_other(*name))
        };
        let without_times: Vec<ArchivedFile> =
            files.iter().map(|file| ArchivedFile { since: at(9), ..*file }).collect();
        noticed(&files) && noticed(&without_times)
    }

    #[test]
    fn a_few_files_reveal_a_change_of_the_size() {
        let of = |number: RangeInclusive<u64>| {
            move |other: ArchivedName| number.clone().any(|number| name(number) == other)
        };
        let up = [archived(0x600..=0xA00, 0), archived(0x51..=0x52, 5_000)].concat();
        assert!(is_noticed(up, of(0x51..=0x52)), "larger ones come before");
        let up = [archived(0x52..=0xA00, 0), archived(0x51..=0x51, 5_000)].concat();
        assert!(is_noticed(up, of(0x51..=0x51)), "right before");
        let down = [archived(0x1..=0x99, 0), archived(0x9A0..=0x9A0, 5_000)].concat();
        assert!(is_noticed(down, of(0x9A0..=0x9A0)), "smaller ones come behind");
        let there_and_back =
            [archived(0x1..=0x20, 0), archived(0x220..=0x221, 40), archived(0x300..=0x900, 50)].concat();
        assert!(is_noticed(there_and_back, of(0x220..=0x221)));
        assert_eq!(sample(&archived(1..=9_000, 0)).len(), 2, "an ordinary archive");
        assert_eq!(sample(&archived(1..=3, 0)).len(), 2);
        assert_eq!(sample(&[]).len(), 0);
    }

    #[test]
    fn the_file_archived_last_has_the_current_size() {
        let of = |found: &[Found], backups: &[BaseBackup]| Sizes::from_found(found, backups);
        let (old, new) = (found(0x20..=0x2A, mb(1), 100), found(0x16..=0x19, mb(2), 200));
        let both = of(&[old.clone(), new.clone()].concat(), &[]);
        assert_eq!((both.current(), both.of(name(0x20)), both.of(name(0x16))), (mb(2), mb(1), mb(2)));
        let others = both.others();
        assert_eq!((others.len(), others[0].size, others[0].segments.len()), (1, mb(1), 11));
        assert_eq!(others[0].range(), "000000010000000000000020 to 00000001000000000000002A");
        let same_second = [found(0x20..=0x20, mb(1), 100), found(0x16..=0x16, mb(2), 100)].concat();
        assert_eq!(of(&same_second, &[]).current(), mb(2), "which comes later in the log");
        assert_eq!(of(&old, &[]).others(), []);
        assert_eq!(of(&[], &[]).current(), SegmentSize::DEFAULT);
        assert_eq!(
            of(&new, &[backup(0x25, 0x25 << 20, 100)]).others()[0].range(),
            "000000010000000000000025.00000028.backup"
        );
        assert_eq!(of(&old, &[backup(0x1A, 0x1A << 21, 300)]).current(), mb(2), "backups tell it, too");
    }

    #[test]
    fn a_backup_at_the_start_of_the_wal_has_the_size_of_its_segment() {
        let start = backup(0x1000, 0x1_0000_0028, 100);
        let segments = [found(0x1000..=0x1002, mb(1), 90), found(0x900..=0x901, mb(2), 200)].concat();
        let name = start.known_from.history().unwrap().into();
        let size = |found: &[Found]| Sizes::from_found(found, std::slice::from_ref(&start)).of(name);
        assert_eq!(size(&segments), mb(1));
        assert_eq!(size(&found(0x900..=0x901, mb(2), 200)), mb(2));
    }
}
