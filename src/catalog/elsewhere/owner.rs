//! The cluster of a base backup. Cheap sources are read first. If none answers, that is an error: another cluster's
//! backup must not affect this one.

use std::io::{self, Read};

use super::directory::Files;
use super::packed::{Member, Packed};
use super::{control, failed, open};
use crate::error::Error;
use crate::wal::{
    CONTROL_FILE_BYTES, LONG_HEADER_BYTES, LongPageHeader, Lsn, SegmentName, SystemIdentifier,
    system_identifier_of_control_file,
};

/// Returns the system identifier of a base backup.
pub(super) fn of(files: &Files) -> Result<SystemIdentifier, Error> {
    if let Some(system) = files.manifest.as_ref().and_then(|manifest| manifest.system) {
        return Ok(system);
    }
    let unknown = || failed(&files.directory, "cannot tell whose base backup is in");
    if let Some(beginning) = control(&files.directory).map_err(|error| unknown().because(error))? {
        return system_identifier_of_control_file(&beginning).map_err(|error| unknown().because(error));
    }
    if let Some(system) = by_segment(files)? {
        return Ok(system);
    }
    let start = files.label.as_ref().map(|label| label.start);
    let start = start.or(files.manifest.as_ref().map(|manifest| manifest.start.1));
    let wal_tars = Packed::all(&files.directory, "pg_wal.tar")?;
    let by_segment = |tar: &Packed| ask(tar, |member| segment_of(member, start));
    let by_control = |tar: &Packed| ask(tar, control_of);
    // A file that ends early is no answer, but another one may have one.
    let mut why = None;
    let answers = wal_tars.iter().map(by_segment).chain(files.tars.iter().map(by_control));
    for answer in answers {
        match answer {
            Ok(Some(system)) => return Ok(system),
            Ok(None) => {}
            Err(error) => why = Some(error),
        }
    }
    let error = why.map_or_else(unknown, |why| unknown().because(why));
    Err(match &files.opaque {
        Some(tar) => error.hint(format!(
            "walkeep cannot look into {}; keep pg_wal.tar beside it, compress it with gzip or zstd, or move it to where no \
             --backup-dir looks",
            tar.display()
        )),
        None => error.hint(
            "it may be incomplete, or still being written: wait until it is done, complete it, or move it to where no \
             --backup-dir looks",
        ),
    })
}

/// Runs `question` on the members of a tar archive.
fn ask(
    tar: &Packed,
    question: impl FnMut(Member) -> io::Result<Option<SystemIdentifier>>,
) -> Result<Option<SystemIdentifier>, Error> {
    tar.find(question).map_err(|error| failed(&tar.path, "cannot read").because(error))
}

/// Reads it from the first segment in the `pg_wal` of a plain backup, whose `pg_control` is written last.
fn by_segment(files: &Files) -> Result<Option<SystemIdentifier>, Error> {
    let Some(label) = &files.label else { return Ok(None) };
    let path = files.directory.join("pg_wal").join(label.start_segment.to_string());
    let Some((file, _)) = open(&path)? else { return Ok(None) };
    let cannot = |error| failed(&path, "cannot read").because(error);
    let size = file.metadata().map_err(cannot)?.len();
    header(file, label.start_segment, size, label.start).map_err(cannot)
}

/// Reads it from the segment in which the backup starts. Other segments need not belong to the backup.
fn segment_of(member: Member, start: Option<Lsn>) -> io::Result<Option<SystemIdentifier>> {
    let name = std::str::from_utf8(member.path).ok().and_then(|name| name.parse::<SegmentName>().ok());
    match (name, start) {
        (Some(name), Some(start)) => header(member.content, name, member.size, start),
        _ => Ok(None),
    }
}

/// Returns the system identifier in the header of a segment, if the header is valid and the segment contains the
/// position.
fn header(
    segment: impl Read,
    name: SegmentName,
    size: u64,
    start: Lsn,
) -> io::Result<Option<SystemIdentifier>> {
    let mut beginning = Vec::new();
    segment.take(LONG_HEADER_BYTES as u64).read_to_end(&mut beginning)?;
    let header = LongPageHeader::parse(&beginning).ok().filter(|header| header.check(name, size).is_ok());
    let holds = |header: &LongPageHeader| {
        start.0.checked_sub(header.address.0).is_some_and(|offset| offset < header.segment_size.bytes())
    };
    Ok(header.filter(holds).map(|header| header.system))
}

fn control_of(member: Member) -> io::Result<Option<SystemIdentifier>> {
    let Some(beginning) = control_in(member)? else { return Ok(None) };
    let system = system_identifier_of_control_file(&beginning);
    system
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("of global/pg_control, {error}")))
}

/// Returns the start of `pg_control`, if `member` is that file.
pub(super) fn control_in(member: Member) -> io::Result<Option<Vec<u8>>> {
    let Member { path: b"global/pg_control", content, .. } = member else { return Ok(None) };
    let mut beginning = Vec::new();
    content.take(CONTROL_FILE_BYTES as u64).read_to_end(&mut beginning)?;
    Ok(Some(beginning))
}
