//! Meeting point of a prefetcher and its clients: a lock with one holder, a socket, and unnamed files.
//!
//! Prefetched files have no names. They are passed as open files and vanish with the process that has them open,
//! however it ends, so nothing remains to be cleaned up or mistaken for something else.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::Spool;

const LOCK: &str = "prefetcher.lock";
const SOCKET: &str = "prefetcher.socket";

/// The meeting point of a running prefetcher.
#[derive(Debug)]
pub struct Meeting {
    /// Socket on which clients connect.
    pub listener: UnixListener,
    socket: PathBuf,
    identity: (u64, u64),
    /// Unlocked when closed.
    _lock: File,
}

impl Meeting {
    /// Returns `true` while the socket exists. If the spool was removed, no client can connect any more.
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
    /// Opens the meeting point; `None` while another prefetcher has it.
    pub fn meet(&self) -> io::Result<Option<Meeting>> {
        // Without a wait for a reader, if it is a pipe.
        let at_once = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false).custom_flags(at_once);
        let lock = options.open(self.directory.join(LOCK))?;
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            let error = io::Error::from(error);
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        let socket = self.directory.join(SOCKET);
        // A killed prefetcher leaves its socket behind.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let directory = File::open(&self.directory)?;
        let listener = UnixListener::bind(short(&directory))?;
        let identity = identity(&fs::symlink_metadata(&socket)?);
        Ok(Some(Meeting { listener, socket, identity, _lock: lock }))
    }

    /// Connects to the prefetcher; fails if there is none.
    pub fn visit(&self) -> io::Result<UnixStream> {
        let directory = File::open(&self.directory)?;
        // Otherwise `connect` would block without a limit if the queue of a prefetcher that does not answer is full.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(short(&directory))?)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Returns a text that identifies the current prefetcher among all past and future ones; `None` if there is none.
    #[must_use]
    pub fn whom_to_meet(&self) -> Option<String> {
        let found = fs::symlink_metadata(self.directory.join(SOCKET)).ok()?;
        // Inodes are reused, so the inode alone is not enough.
        let (device, inode) = identity(&found);
        Some(format!("{device}.{inode}.{}.{}", found.ctime(), found.ctime_nsec()))
    }

    /// Creates an unnamed file for reading and writing. It can be given a name if the file system supports that.
    pub fn unnamed_file(&self) -> io::Result<File> {
        // The umask applies, as for the server's own files.
        let mode = Mode::from_raw_mode(0o666);
        match open(&self.directory, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
            Ok(file) => Ok(File::from(file)),
            // Not every file system supports unnamed files.
            Err(_) => {
                let file = tempfile::tempfile_in(&self.directory)?;
                // NFS renames an open file instead of removing it. Whoever receives it would refuse it.
                if file.metadata()?.nlink() == 0 {
                    Ok(file)
                } else {
                    Err(io::Error::other("there is no file without a name on this file system"))
                }
            }
        }
    }
}

/// Returns the path of the socket in an open directory. Socket addresses are limited to about a hundred bytes, paths
/// are not.
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
    fn one_prefetcher_at_a_time_has_the_meeting_point() {
        let temporary = tempfile::tempdir().unwrap();
        let spool = spool(temporary.path());
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
    fn every_prefetcher_has_its_own_identity() {
        let temporary = tempfile::tempdir().unwrap();
        let spool = spool(temporary.path());
        assert_eq!(spool.whom_to_meet(), None);
        let mut met = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let _meeting = spool.meet().unwrap().unwrap();
            let met_now = spool.whom_to_meet().unwrap();
            spool.visit().unwrap();
            assert_eq!(spool.whom_to_meet().as_ref(), Some(&met_now), "as long as it is there");
            assert!(met.insert(met_now));
            // The file system's clock may have ticks of some milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    #[test]
    fn a_leftover_socket_is_replaced_and_a_lost_one_is_noticed() {
        let temporary = tempfile::tempdir().unwrap();
        let spool = spool(temporary.path());
        drop(UnixListener::bind(spool.directory.join(SOCKET)).unwrap());
        assert!(spool.visit().is_err());
        let meeting = spool.meet().unwrap().unwrap();
        assert!(meeting.is_open());
        fs::remove_dir_all(temporary.path().join("spool")).unwrap();
        assert!(!meeting.is_open());
    }

    #[test]
    fn a_path_longer_than_a_socket_address_works() {
        let temporary = tempfile::tempdir().unwrap();
        let deep = temporary.path().join("x".repeat(120));
        fs::create_dir(&deep).unwrap();
        let spool = spool(&deep);
        let _meeting = spool.meet().unwrap().unwrap();
        spool.visit().unwrap();
    }
}
