//! Comparison with an archived file of the same name, and the resulting error.
//!
//! The whole file is read, not only its header: the server deletes its own copy because of the result.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::fork::{Fork, add_forks_in_archive, forks_beside};
use super::marks::mark;
use crate::archive::{Archive, ArchivedName, Fetched, Mismatch};
use crate::blocking::blocking;
use crate::error::{Error, ErrorKind};
use crate::frame::{Archived, FrameError, Header};
use crate::wal::{SegmentName, SegmentSize, SystemIdentifier, WalName};
use crate::whole_file::open_regular;

pub(super) const FIND_OUT: &str = "neither was changed; delete nothing, restart nothing in recovery, and find out which of the two is right, and whether two servers \
     share the archive: see \"Two servers, one name\" in guide/conflict.md";

const MOVE_IT_AWAY: &str = "move the archive's file away, and the next attempt will archive the good one";

/// Result of the comparison.
pub(super) enum Held {
    /// The same content.
    Same,
    /// An intact file of that name with other content.
    Other(Other),
}

/// An intact file with other content.
pub(super) struct Other {
    header: Box<Header>,
    location: String,
}

/// Compares the archived file `name` with the file at `path`.
pub(super) async fn compare(
    archive: &Archive,
    ours: &Header,
    name: ArchivedName,
    path: &Path,
) -> Result<Held, Error> {
    compare_if_there(archive, ours, name, path).await?.ok_or_else(|| gone_in_between(path))
}

/// Creates the error for a name that was taken and then had no file. The next attempt may create it.
pub(super) fn gone_in_between(path: &Path) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot compare {}", path.display()))
        .because("the archive says that the name is taken, and then that there is nothing")
}

/// Calls [`compare`]; `None` if the file disappeared in between.
pub(super) async fn compare_if_there(
    archive: &Archive,
    ours: &Header,
    name: ArchivedName,
    path: &Path,
) -> Result<Option<Held>, Error> {
    let theirs = match archive.fetch(ours.system_identifier, name).await {
        Err(error) if error.kind() == ErrorKind::Absent => return Ok(None),
        Err(error) if error.kind() == ErrorKind::Damaged => {
            let what = format!("the archive already holds what is not {}", path.display());
            return Err(error.so(what).of_kind(ErrorKind::Conflict).hint(MOVE_IT_AWAY));
        }
        theirs => theirs?,
    };
    let Fetched { reader, stored_size, location, transfer: _transfer } = theirs;
    let verdict = blocking(move || {
        let archived = Archived::open(reader, stored_size)?;
        let header = archived.header().clone();
        archived.decode(io::sink()).map(|_| header)
    })
    .await;
    match verdict {
        Ok(header) => match name.check(ours.system_identifier, &header) {
            Err(Mismatch::System | Mismatch::Name) => {
                let (theirs, system) = (header.name, header.system_identifier);
                let what = format!(
                    "the archive already holds a {location} that says it is {theirs} of system {system}"
                );
                Err(Error::new(ErrorKind::Conflict, what).hint(MOVE_IT_AWAY))
            }
            Err(Mismatch::Content) => {
                let what = format!(
                    "the archive already holds a {location} whose content has BLAKE3 {}, not that in its name",
                    header.blake3
                );
                Err(Error::new(ErrorKind::Conflict, what).hint(MOVE_IT_AWAY))
            }
            Ok(()) if header.blake3 == ours.blake3 => Ok(Some(Held::Same)),
            Ok(()) => Ok(Some(Held::Other(Other { header: Box::new(header), location }))),
        },
        Err(error @ (FrameError::Read(_) | FrameError::Newer { .. } | FrameError::Encrypted)) => {
            let what =
                format!("cannot compare {} with {location}, which the archive already holds", path.display());
            Err(Error::new(ErrorKind::Unavailable, what).because(error))
        }
        Err(error) => {
            let what = format!("the archive already holds a {location} that is not {}", path.display());
            Err(Error::new(ErrorKind::Conflict, what).because(error).hint(MOVE_IT_AWAY))
        }
    }
}

/// Warns that both of two files are kept that no recovery reads by itself.
pub(super) fn warn_of_second(theirs: &Other, ours: &Header, kept_as: &str, path: &Path) {
    tracing::warn!(
        "the archive already holds {} with different content, of another server that was promoted within this segment: {}, \
         archived at {}{}; {} is kept beside it as {kept_as}",
        ours.name,
        theirs.location,
        theirs.header.archived_at,
        by_host(&theirs.header),
        path.display()
    );
}

/// Creates the error for a name that has other content in the archive. Its text mentions a fork within the segment up
/// to which both are the same.
pub(super) async fn conflict(archive: &Archive, ours: &Header, theirs: Other, path: &Path) -> Error {
    let what = what_differs(ours, &theirs, path);
    if let WalName::Segment(segment) = ours.name
        && ours.original_size == theirs.header.original_size
    {
        match harmless(archive, ours, segment, path).await {
            Ok(Some(fork)) => {
                let path = path.to_owned();
                return blocking(move || of_a_fork(&what, segment, fork, &path)).await;
            }
            Ok(None) => {}
            Err(error) => tracing::debug!("cannot tell how the two differ: {}", error.report()),
        }
    }
    Error::new(ErrorKind::Conflict, what).hint(find_out(ours, &theirs))
}

/// Returns advice for two files with different contents.
fn find_out(ours: &Header, theirs: &Other) -> String {
    let sizes = [theirs.header.original_size, ours.original_size].map(SegmentSize::new);
    match (ours.name, sizes) {
        (WalName::Segment(_), [Ok(theirs), Ok(ours)]) if theirs != ours => format!(
            "the archive's file is of {theirs}, and this one of {ours}; neither was changed; if pg_resetwal has changed the size of this \
             server's segments, point archive_command at a new archive, and take a base backup; else find out whether two servers \
             share the archive"
        ),
        _ => FIND_OUT.to_owned(),
    }
}

/// Creates the error for a history file because a segment of an ancestor differs in the archive.
pub(super) fn conflict_of_ancestor(ours: &Header, theirs: &Other, path: &Path) -> Error {
    Error::new(ErrorKind::Conflict, what_differs(ours, theirs, path)).hint(find_out(ours, theirs))
}

fn what_differs(ours: &Header, theirs: &Other, path: &Path) -> String {
    let Other { header, location } = theirs;
    format!(
        "the archive already holds {} with different content: {location}, archived at {}{} with BLAKE3 {}, against {} with \
         BLAKE3 {}",
        ours.name,
        header.archived_at,
        by_host(header),
        header.blake3,
        path.display(),
        ours.blake3
    )
}

/// Says which host archived a file, if its header does.
fn by_host(header: &Header) -> String {
    header.host.as_ref().map(|host| format!(" by host {host}")).unwrap_or_default()
}

/// Returns the last fork within the segment up to which both contents are the same.
async fn harmless(
    archive: &Archive,
    ours: &Header,
    segment: SegmentName,
    path: &Path,
) -> Result<Option<Fork>, Error> {
    let Ok(size) = SegmentSize::new(ours.original_size) else { return Ok(None) };
    let mut forks = {
        let path = path.to_owned();
        blocking(move || forks_beside(&path, segment, size)).await
    };
    add_forks_in_archive(&mut forks, archive, ours.system_identifier, segment, size).await?;
    let Some(last) = forks.into_iter().max_by_key(|fork| fork.left_at) else { return Ok(None) };
    let Some(start) = segment.start(size) else { return Ok(None) };
    let same = same_bytes(archive, ours.system_identifier, ours.name, path).await?;
    Ok(same.filter(|same| last.left_at.0 - start.0 <= *same).map(|_| last))
}

/// Returns the number of leading bytes that the archived file `name` shares with the file at `path`; `None` if either
/// is unreadable.
pub(super) async fn same_bytes(
    archive: &Archive,
    system: SystemIdentifier,
    name: WalName,
    path: &Path,
) -> Result<Option<u64>, Error> {
    let mut fetched = archive.fetch(system, name).await?;
    let _transfer = fetched.transfer.take();
    let path = path.to_owned();
    let counting = blocking(move || {
        let mut same = SameAs { file: open_regular(&path).ok()?, bytes: 0, differs: false };
        Archived::open(fetched.reader, fetched.stored_size).ok()?.on_one_thread().decode(&mut same).ok()?;
        Some(same.bytes)
    });
    Ok(counting.await)
}

/// A writer that counts leading bytes equal to those of a file.
struct SameAs {
    file: File,
    bytes: u64,
    differs: bool,
}

impl Write for SameAs {
    fn write(&mut self, theirs: &[u8]) -> io::Result<usize> {
        if !self.differs {
            let mut ours = Vec::with_capacity(theirs.len());
            (&self.file).take(theirs.len() as u64).read_to_end(&mut ours)?;
            let same = ours.iter().zip(theirs).take_while(|(one, other)| one == other).count();
            self.bytes += same as u64;
            self.differs = same < theirs.len();
        }
        Ok(theirs.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Creates the error for a segment that two servers of one cluster have completed differently after a fork.
fn of_a_fork(what: &str, segment: SegmentName, fork: Fork, path: &Path) -> Error {
    let Fork { child, left_at, known_here } = fork;
    let what = format!(
        "{what}; but timeline {child} left timeline {} at {left_at}, inside this segment, and up to there both are the same: \
         that is all that timeline {child} needs",
        segment.timeline()
    );
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let hint = if !known_here {
        format!(
            "this server knows nothing of timeline {child}, so it is an old primary: stop it, and make it a standby of the server \
             on timeline {child} with pg_rewind -c --target-pgdata DATA_DIRECTORY --source-server CONNECTION, or from a new \
             base backup"
        )
    } else if let Some(mark) = mark(&path, WalName::Segment(segment)) {
        let done = mark.with_extension("done");
        format!("tell this server that the segment is archived: mv {} {}", mark.display(), done.display())
    } else {
        "nothing is to be done".to_owned()
    };
    Error::new(ErrorKind::Conflict, what).hint(format!("leave the archive as it is; {hint}"))
}
