//! Test fixture: an archive in a temporary directory and a server's data directory, written by hand, at a fixed time.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::archive::{Archive, ArchiveOptions, ArchivedName, StoreOptions};
use crate::catalog::Reading;
use crate::cluster::DataDirectory;
use crate::coverage::{BaseBackup, KnownFrom};
use crate::frame::{Codec, Content, HeaderFields, Overflow, encode};
use crate::wal::{BackupWal, Lsn, SegmentName, SegmentSize, SystemIdentifier, TimelineId, WalMagic, WalName};
use crate::work::{Progress, Work};

/// The current time.
pub(crate) const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

/// System identifier of the cluster.
const SYSTEM: u64 = 7_300_000_000_000_000_007;

/// Settings for reading the archive.
pub(crate) const READING: Reading = Reading { at_once: 2, patience: Duration::from_millis(20) };

/// Segment size: 1 MiB.
pub(crate) const SIZE: SegmentSize = SegmentSize::MIN;

/// `DB_IN_PRODUCTION` and `DB_IN_ARCHIVE_RECOVERY`.
pub(crate) const IN_PRODUCTION: u32 = 6;
pub(crate) const IN_RECOVERY: u32 = 5;

pub(crate) fn days_ago(days: i64) -> Timestamp {
    NOW - SignedDuration::from_hours(24 * days)
}

pub(crate) fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// Returns the segment with that number.
pub(crate) fn segment(of: u32, number: u64) -> SegmentName {
    SegmentName::from_number(timeline(of), number, SIZE).unwrap()
}

/// Returns the position at that offset in bytes in the segment with that number.
pub(crate) fn position(number: u64, offset: u64) -> Lsn {
    Lsn((number << 20) + offset)
}

/// Returns a base backup that somebody keeps, in segments of 16 MiB, known from its backup history file.
pub(crate) fn base_backup(label: &str, start_segment: SegmentName, end: Lsn) -> BaseBackup {
    let start = start_segment.start(SegmentSize::DEFAULT).unwrap();
    BaseBackup {
        known_from: KnownFrom::History(WalName::Backup { segment: start_segment, offset: 0x28 }),
        label: Some(label.to_owned()),
        wal: BackupWal { start_segment, start, end: Some((start_segment.timeline(), end)) },
        from_standby: false,
        ended: Timestamp::UNIX_EPOCH,
        known_since: Timestamp::UNIX_EPOCH,
        counts: true,
        builds_on: None,
    }
}

/// A temporary directory with an archive and a data directory.
pub(crate) struct Scene {
    temporary: tempfile::TempDir,
    pub(crate) archive: Archive,
    pub(crate) system: SystemIdentifier,
    pub(crate) stop: CancellationToken,
    pub(crate) heard: Heard,
}

impl Scene {
    /// Creates an empty scene.
    pub(crate) async fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("archive")).unwrap();
        fs::create_dir_all(temporary.path().join("data/pg_wal/archive_status")).unwrap();
        let stop = CancellationToken::new();
        let heard = Heard::default();
        let archive = Archive::open(&options(temporary.path())).await.unwrap();
        let system = SystemIdentifier::new(SYSTEM).unwrap();
        Self { temporary, archive, system, stop, heard }
    }

    /// Returns the options to open the archive.
    pub(crate) fn options(&self) -> ArchiveOptions {
        options(self.temporary.path())
    }

    /// Returns the context for long work.
    pub(crate) fn work(&self) -> Work<'_> {
        Work { stop: &self.stop, why: &|| None, clock: &|| NOW, progress: &self.heard }
    }

    /// Returns a path below the temporary directory.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.temporary.path().join(below)
    }

    pub(crate) fn data(&self) -> DataDirectory {
        DataDirectory::named(self.path("data"))
    }

    /// Returns the path of an archived file.
    pub(crate) fn archived(&self, name: &str) -> PathBuf {
        let name: ArchivedName = name.parse().unwrap();
        PathBuf::from(self.archive.location(self.system, name))
    }

    /// Archives a file as a push would have done at that time.
    pub(crate) fn put(&self, name: &str, content: &[u8], at: Timestamp) {
        let name: WalName = name.parse().unwrap();
        let wal_magic = name.segment().map(|_| WalMagic(0xD110));
        let fields = HeaderFields { name, system: self.system, wal_magic, archived_at: at, host: None };
        let encoded = encode(content, &fields, Codec::None, NonZeroUsize::MIN, Overflow::never()).unwrap();
        let Content::Memory(chunks) = encoded.content else { panic!("it was to be kept in memory") };
        write(&self.archived(&name.to_string()), &chunks.concat(), at);
    }

    /// Archives segments that many days ago.
    pub(crate) fn segments(&self, of: u32, numbers: RangeInclusive<u64>, days: i64) {
        for number in numbers {
            self.put(&segment(of, number).to_string(), &content(of, number), days_ago(days));
        }
    }

    /// Archives the backup history file of a base backup that ended that many days ago, which is also its label.
    pub(crate) fn backup(&self, of: u32, start: u64, stop: u64, days: i64) -> String {
        let (first, last) = (segment(of, start), segment(of, stop));
        let (begin, end) = (position(start, 0x28), position(stop, 0x138));
        let ended = days_ago(days).strftime("%Y-%m-%d %H:%M:%S UTC");
        let content = format!(
            "START WAL LOCATION: {begin} (file {first})\nSTOP WAL LOCATION: {end} (file {last})\nCHECKPOINT LOCATION: {begin}\n\
             BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: {ended}\nLABEL: {days} days ago\nSTART TIMELINE: {of}\n\
             STOP TIME: {ended}\nSTOP TIMELINE: {of}\n",
        );
        let name = format!("{first}.00000028.backup");
        self.put(&name, content.as_bytes(), days_ago(days));
        name
    }

    /// Archives the history file of a timeline that left its parent in that segment, that many days ago.
    pub(crate) fn history(&self, of: u32, parent: u32, left_in: u64, days: i64) {
        let content = format!("{parent}\t{}\tno recovery target specified\n", position(left_in, 0x100));
        self.put(&format!("{of:08X}.history"), content.as_bytes(), days_ago(days));
    }

    /// Writes a `pg_control` with that state and restart point.
    pub(crate) fn control(&self, state: u32, of: u32, redo: Lsn) {
        let mut control = vec![0; 512];
        let words = [8192u32, 131_072, 8192, u32::try_from(SIZE.bytes()).unwrap()];
        let sizes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        for (at, bytes) in [
            (0, &SYSTEM.to_ne_bytes()[..]),
            (8, &1300u32.to_ne_bytes()),
            (16, &state.to_ne_bytes()),
            (40, &redo.0.to_ne_bytes()),
            (48, &of.to_ne_bytes()),
            (264, &1_234_567f64.to_ne_bytes()),
            (272, &sizes),
        ] {
            control[at..at + bytes.len()].copy_from_slice(bytes);
        }
        write(&self.path("data/global/pg_control"), &control, NOW);
    }

    /// Writes finished segments to `pg_wal`, that many days ago.
    pub(crate) fn finish(&self, of: u32, numbers: RangeInclusive<u64>, days: i64) {
        for number in numbers {
            let path = self.path(&format!("data/pg_wal/{}", segment(of, number)));
            write(&path, &content(of, number), days_ago(days));
        }
    }

    /// Lists the names of the archived files, without reports.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut left = vec![self.path("archive")];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    names.push(entry.file_name().into_string().unwrap());
                } else if entry.file_name() != "reports" {
                    left.push(entry.path());
                }
            }
        }
        names.sort();
        names
    }
}

fn options(temporary: &Path) -> ArchiveOptions {
    let url = temporary.join("archive").to_str().unwrap().parse().unwrap();
    ArchiveOptions::new(url, StoreOptions::default())
}

/// Writes a file with that modification time.
pub(crate) fn write(path: &Path, content: &[u8], at: Timestamp) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    File::open(path).unwrap().set_modified(at.into()).unwrap();
}

type Then = Box<dyn FnOnce()>;

/// Records progress, and runs an action after a number of pieces.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) begun: Cell<usize>,
    pub(crate) done: Cell<usize>,
    pub(crate) ended: Cell<bool>,
    then: RefCell<Option<(usize, Then)>>,
}

impl Heard {
    /// Runs `then` as soon as that many pieces are done.
    pub(crate) fn when(&self, pieces: usize, then: impl FnOnce() + 'static) {
        *self.then.borrow_mut() = Some((pieces, Box::new(then)));
    }

    fn look(&self) {
        let is_due = |(at, _): &mut (usize, _)| self.done.get() >= *at;
        let due = self.then.borrow_mut().take_if(is_due);
        if let Some((_, then)) = due {
            then();
        }
    }
}

impl Progress for Heard {
    fn begin(&self, pieces: usize) {
        self.begun.set(pieces);
        self.look();
    }

    fn add(&self, pieces: usize) {
        self.done.set(self.done.get() + pieces);
        self.look();
    }

    fn end(&self) {
        self.ended.set(true);
    }
}

/// Returns a segment that is valid as far as its first page.
fn content(of: u32, number: u64) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend(0xD110u16.to_ne_bytes());
    content.extend(2u16.to_ne_bytes());
    content.extend(of.to_ne_bytes());
    content.extend(position(number, 0).0.to_ne_bytes());
    content.extend([0; 8]);
    content.extend(SYSTEM.to_ne_bytes());
    content.extend(u32::try_from(SIZE.bytes()).unwrap().to_ne_bytes());
    content.extend(8192u32.to_ne_bytes());
    content.resize(usize::try_from(SIZE.bytes()).unwrap(), 7);
    content
}
