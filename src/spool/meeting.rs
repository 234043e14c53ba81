//! Where a prefetcher works and is met: a lock that only one holds, a socket, and files without names.
//!
//! What is prefetched has no name anywhere. It is handed over as an open file, and goes with the process that holds it,
//! however that ends: nothing is left to be cleared away, or to be taken for something else later.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::Spool;

const LOCK: &str = "prefetcher.lock";
const SOCKET: &str = "prefetcher.socket";

/// The place where a prefetcher is met, for as long as nobody else takes it.
#[derive(Debug)]
pub struct Meeting {
    /// Where the others come in.
    pub listener: UnixListener,
    socket: PathBuf,
    identity: (u64, u64),
    /// Unlocked when it is closed.
    _lock: File,
}

impl Meeting {
    /// Whether it can still be found. The spool may have been removed, which ends what it is for.
    #[must_use]
    pub fn is_open(&self) -> bool {
        fs::symlink_metadata(&self.socket).is_ok_and(|found| identity(&found) == self.identity)
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        if self.is_open() {
            let _ = fs::remove_file(&self.socket);
        }
    }
}

impl Spool {
    /// Opens the place where a prefetcher is met; `None` while another one has it.
    pub fn meet(&self) -> io::Result<Option<Meeting>> {
        let lock =
            File::options().write(true).create(true).truncate(false).open(self.directory.join(LOCK))?;
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            let error = io::Error::from(error);
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        let socket = self.directory.join(SOCKET);
        // One that was killed has left its own.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let directory = File::open(&self.directory)?;
        let listener = UnixListener::bind(short(&directory))?;
        let identity = identity(&fs::symlink_metadata(&socket)?);
        Ok(Some(Meeting { listener, socket, identity, _lock: lock }))
    }

    /// Gets in touch with the prefetcher; an error where there is none.
    pub fn visit(&self) -> io::Result<UnixStream> {
        let directory = File::open(&self.directory)?;
        // Where many wait already for one that does not answer, connecting would be waiting, and without a limit.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(short(&directory))?)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// What tells the prefetcher that is met here from every other, dead or alive; `None` where there is none.
    #[must_use]
    pub fn whom_to_meet(&self) -> Option<String> {
        let found = fs::symlink_metadata(self.directory.join(SOCKET)).ok()?;
        // The inode of one that has gone is soon used again.
        let (device, inode) = identity(&found);
        Some(format!("{device}.{inode}.{}.{}", found.ctime(), found.ctime_nsec()))
    }

    /// A file that can be read and written and has no name. It can be given one where the file system lets it.
    pub fn unnamed_file(&self) -> io::Result<File> {
        // The umask decides, as it does for the server's own files.
        let mode = Mode::from_raw_mode(0o666);
        match open(&self.directory, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            Ok(file) => Ok(File::from(file)),
            // NFS, for one, has none.
            Err(_) => tempfile::tempfile_in(&self.directory),
        }
    }
}

/// The socket in an open directory. An address has room for about a hundred bytes, and a path may be longer.
fn short(directory: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(SOCKET)
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::tests::spool;
    use std::io::{Read, Write};

    #[test]
    fn one_at_a_time_is_met_there() {
        let place = tempfile::tempdir().unwrap();
        let spool = spool(place.path());
        assert!(spool.visit().is_err());
        let meeting = spool.meet().unwrap().unwrap();
        assert!(spool.meet().unwrap().is_none());
        let mut visitor = spool.visit().unwrap();
        visitor.write_all(b"x").unwrap();
        let mut heard = [0];
        meeting.listener.accept().unwrap().0.read_exact(&mut heard).unwrap();
        assert_eq!(heard, *b"x");
        drop(meeting);
        assert!(spool.visit().is_err());
        assert!(spool.meet().unwrap().is_some());
    }

    #[test]
    fn every_prefetcher_is_another_one() {
        let place = tempfile::tempdir().unwrap();
        let spool = spool(place.path());
        assert_eq!(spool.whom_to_meet(), None);
        let mut met = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let _meeting = spool.meet().unwrap().unwrap();
            let met_now = spool.whom_to_meet().unwrap();
            spool.visit().unwrap();
            assert_eq!(spool.whom_to_meet().as_ref(), Some(&met_now), "as long as it is there");
            assert!(met.insert(met_now));
            // A file system's clock may have ticks of some milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    #[test]
    fn a_socket_that_was_left_behind_is_no_obstacle_and_a_lost_one_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let spool = spool(place.path());
        drop(UnixListener::bind(spool.directory.join(SOCKET)).unwrap());
        assert!(spool.visit().is_err());
        let meeting = spool.meet().unwrap().unwrap();
        assert!(meeting.is_open());
        fs::remove_dir_all(place.path().join("spool")).unwrap();
        assert!(!meeting.is_open());
    }

    #[test]
    fn a_path_may_be_longer_than_an_address() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("x".repeat(120));
        fs::create_dir(&deep).unwrap();
        let spool = spool(&deep);
        let _meeting = spool.meet().unwrap().unwrap();
        spool.visit().unwrap();
    }
}
