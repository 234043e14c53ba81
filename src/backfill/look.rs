//! Inspection of the files in `pg_wal`.

use std::fs;
use std::io::{self, BufReader, ErrorKind as IoErrorKind, Read};
use std::path::{Path, PathBuf};

use super::decision::Look;
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::frame::MAX_TEXT_BYTES;
use crate::spool::FileIdentity;
use crate::wal::{
    BackupHistory, LONG_HEADER_BYTES, LongPageHeader, PageError, RecordWalk, RecordsEnd, SegmentName,
    SystemIdentifier, TimelineHistory, WalName,
};
use crate::whole_file::open_regular;

/// The `pg_wal` directory of a server.
#[derive(Debug, Clone)]
pub(super) struct PgWal {
    path: PathBuf,
    system: SystemIdentifier,
}

/// A file, as inspected.
pub(super) struct Seen {
    pub(super) look: Look,
    /// Identity and size of the file; `None` if it has disappeared.
    pub(super) file: Option<(FileIdentity, u64)>,
}

impl PgWal {
    pub(super) fn of(data: &Path, system: SystemIdentifier) -> Self {
        Self { path: data.join("pg_wal"), system }
    }

    /// Returns the path of the directory.
    pub(super) fn directory(&self) -> &Path {
        &self.path
    }

    pub(super) fn path(&self, name: WalName) -> PathBuf {
        self.path.join(name.to_string())
    }

    /// Lists the names of all WAL files.
    pub(super) fn names(&self) -> Result<Vec<WalName>, Error> {
        let cannot_list = |error| {
            let what = format!("cannot list {}", self.path.display());
            denied::failed(ErrorKind::Local, what, &self.path, Kept::ForOwner, error)
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(cannot_list)? {
            let name = entry.map_err(cannot_list)?.file_name();
            names.extend(name.to_str().and_then(|name| name.parse::<WalName>().ok()));
        }
        Ok(names)
    }

    /// Reads a text file; `None` if it has disappeared.
    pub(super) fn text(&self, name: WalName) -> Result<Option<Vec<u8>>, Error> {
        let mut text = Vec::new();
        let read = open_regular(&self.path(name))
            .and_then(|file| file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut text));
        self.unless_gone(name, read.map(|_| text))
    }

    /// Inspects a file.
    pub(super) fn look(&self, name: WalName) -> Result<Seen, Error> {
        let Some(found) = self.unless_gone(name, fs::metadata(self.path(name)))? else {
            return Ok(Seen { look: Look::Gone, file: None });
        };
        let look = match name {
            // Opening a named pipe would block until a writer opens it.
            _ if !found.is_file() => Some(Look::Text(Err("it is not a regular file".to_owned()))),
            WalName::Partial(_) => Some(Look::Partial),
            WalName::Segment(segment) => self.segment(segment, found.len())?,
            WalName::History(timeline) => self.text(name)?.map(|text| {
                Look::Text(TimelineHistory::parse(timeline, &text).map(drop).map_err(|e| e.to_string()))
            }),
            WalName::Backup { segment, .. } => self.text(name)?.map(|text| {
                Look::Text(BackupHistory::parse(segment, &text).map(drop).map_err(|e| e.to_string()))
            }),
        };
        let file = Some((FileIdentity::from(&found), found.len()));
        Ok(look.map_or(Seen { look: Look::Gone, file: None }, |look| Seen { look, file }))
    }

    /// Inspects a segment; `None` if it has disappeared.
    fn segment(&self, name: SegmentName, bytes: u64) -> Result<Option<Look>, Error> {
        let Some(beginning) = self.beginning(name)? else { return Ok(None) };
        if beginning.iter().all(|byte| *byte == 0) {
            return Ok(Some(Look::Unused));
        }
        let header = LongPageHeader::parse(&beginning);
        let own = header.clone().and_then(|header| self.check(&header, name, bytes));
        let header = match (header, own) {
            (Ok(header), Ok(())) => header,
            (Ok(header), Err(PageError::Address { .. }))
                if name.start(header.segment_size).is_some_and(|start| header.address < start) =>
            {
                return Ok(Some(Look::Unused));
            }
            (_, own) => return Ok(Some(Look::Segment { own, followed: false, records: None })),
        };
        let next = name.next(header.segment_size);
        let followed = next.map_or(Ok(false), |next| self.is_its_own(next, bytes))?;
        let records = if followed {
            self.walk_from(name)?.map(|walk| walk.end())
        } else {
            self.records_end(name, &header, bytes)?
        };
        Ok(Some(Look::Segment { own: Ok(()), followed, records }))
    }

    fn check(&self, header: &LongPageHeader, name: SegmentName, bytes: u64) -> Result<(), PageError> {
        header.check(name, bytes).and_then(|()| header.check_system(self.system))
    }

    /// Returns `true` if a segment of that name and size exists and starts with a page of its own.
    fn is_its_own(&self, name: SegmentName, bytes: u64) -> Result<bool, Error> {
        let wal = WalName::Segment(name);
        let found = self.unless_gone(wal, fs::metadata(self.path(wal)))?;
        if !found.is_some_and(|found| found.is_file() && found.len() == bytes) {
            return Ok(false);
        }
        let Some(beginning) = self.beginning(name)? else { return Ok(false) };
        let header = LongPageHeader::parse(&beginning);
        Ok(header.is_ok_and(|header| self.check(&header, name, bytes).is_ok()))
    }

    /// Returns the end of the records. Reads the previous segment first if it exists, because its last record
    /// verifies the first one of this segment.
    fn records_end(
        &self,
        name: SegmentName,
        header: &LongPageHeader,
        bytes: u64,
    ) -> Result<Option<RecordsEnd>, Error> {
        let size = header.segment_size;
        let before = name.number(size).and_then(|number| number.checked_sub(1));
        let before = before.and_then(|number| SegmentName::from_number(name.timeline(), number, size));
        if let Some(before) = before
            && self.is_its_own(before, bytes)?
            && let Some(mut walk) = self.walk_from(before)?
            && !walk.has_ended()
            && self.walk_on(&mut walk, name)?
        {
            return Ok(Some(walk.end()));
        }
        Ok(self.walk_from(name)?.map(|walk| walk.end()))
    }

    /// Walks through one segment; `None` if it has disappeared or has no pages.
    fn walk_from(&self, name: SegmentName) -> Result<Option<RecordWalk>, Error> {
        let Some(beginning) = self.beginning(name)? else { return Ok(None) };
        let Some(mut walk) = RecordWalk::new(&beginning, name.timeline()) else { return Ok(None) };
        Ok(self.walk_on(&mut walk, name)?.then_some(walk))
    }

    /// Continues a walk through a segment; returns `false` if the segment has disappeared.
    fn walk_on(&self, walk: &mut RecordWalk, name: SegmentName) -> Result<bool, Error> {
        let wal = WalName::Segment(name);
        let Some(file) = self.unless_gone(wal, open_regular(&self.path(wal)))? else { return Ok(false) };
        let mut file = BufReader::with_capacity(1 << 18, file);
        let mut page = vec![0; walk.page_bytes()];
        while !walk.has_ended() {
            match file.read_exact(&mut page) {
                Ok(()) => walk.page(&page),
                Err(error) if error.kind() == IoErrorKind::UnexpectedEof => break,
                Err(error) => return Err(self.cannot_read(wal, error)),
            }
        }
        Ok(true)
    }

    /// Reads the first bytes of a segment; `None` if it has disappeared.
    fn beginning(&self, name: SegmentName) -> Result<Option<Vec<u8>>, Error> {
        let wal = WalName::Segment(name);
        let mut beginning = Vec::new();
        let read = open_regular(&self.path(wal))
            .and_then(|file| file.take(LONG_HEADER_BYTES as u64).read_to_end(&mut beginning));
        self.unless_gone(wal, read.map(|_| beginning))
    }

    fn unless_gone<T>(&self, name: WalName, found: io::Result<T>) -> Result<Option<T>, Error> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.cannot_read(name, error)),
        }
    }

    fn cannot_read(&self, name: WalName, error: io::Error) -> Error {
        denied::cannot_read(ErrorKind::Local, "", &self.path(name), Kept::ForOwner, error)
    }
}
