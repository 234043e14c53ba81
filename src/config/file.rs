//! Reading of the configuration file.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::given::Given;
use super::{mistake, wrong};
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};

/// Maximum size of the configuration file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Time in which the whole has to come through a pipe.
const PATIENCE: Duration = Duration::from_secs(10);

/// The configuration file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) given: Given,
    /// Text that was read.
    pub(super) text: String,
    /// Path and permissions of the file that was read.
    pub(super) origin: Option<(PathBuf, u32)>,
}

/// Reads the file if it exists. An unreadable file is an error: without it, the wrong archive might be used.
pub(super) fn read_if_it_exists(path: &Path) -> Result<File, Error> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        _ => read(path),
    }
}

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<File, Error> {
    let (text, mode) = read_text(path, PATIENCE).map_err(|error| {
        let what = format!("cannot read the configuration file {}", path.display());
        denied::failed(ErrorKind::Configuration, what, path, Kept::ForSeveral, error)
    })?;
    parse(path, &text, mode)
}

/// Parses the text of a file with these permissions.
pub(super) fn parse(path: &Path, text: &str, mode: u32) -> Result<File, Error> {
    let given: Given = toml::from_str(text)
        .map_err(|error| wrong(format!("{}, {}", path.display(), mistake::explain(text, &error))))?;
    let file = File { given, text: text.to_owned(), origin: Some((path.to_owned(), mode)) };
    if let Some(name) = file.given.store.keys().find(|name| mistake::belongs_above(name)) {
        return Err(file.wrong_in_store(name, &format!("{name} belongs above [store]")));
    }
    if let Some((name, _)) = file.given.systems.0.iter().find(|(name, _)| mistake::belongs_above(name)) {
        return Err(file.wrong_in("systems", name, &format!("{name} belongs above [systems]")));
    }
    Ok(file)
}

impl File {
    /// Creates the error for a setting in `[store]`, with its place if that is known.
    pub(super) fn wrong_in_store(&self, name: &str, why: &str) -> Error {
        self.wrong_in("store", name, why)
    }

    fn wrong_in(&self, section: &str, name: &str, why: &str) -> Error {
        let path = self.origin.as_ref().map(|(path, _)| path.display());
        let line = mistake::line_of(&self.text, Some(section), name);
        let what = match (path, line) {
            (Some(path), Some(line)) => format!("{path}, line {line}: {why}"),
            (Some(path), None) => format!("{path}: {why}"),
            (None, _) => why.to_owned(),
        };
        wrong(what)
    }
}

/// Reads a file, and its permissions from the same open file. May be a pipe, as a shell makes one of `<(…)`.
fn read_text(path: &Path, patience: Duration) -> io::Result<(String, u32)> {
    // Opening a pipe into which nobody writes would wait for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    let is_immediate = found.is_file() || found.is_dir();
    let mut reader = Patient { file, ends: (!is_immediate).then(|| Instant::now() + patience) };
    let mut text = String::new();
    (&mut reader).take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok((text, found.mode()))
}

/// Reads what comes until a time, if that is set.
struct Patient {
    file: std::fs::File,
    ends: Option<Instant>,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(ends) = self.ends else { return self.file.read(buffer) };
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            let mut waiting = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut waiting, Some(&left.try_into().unwrap_or_default())) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "it is a pipe, and nobody has written the whole into it",
                    ));
                }
                Ok(_) => match self.file.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                },
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    fn fifo() -> (tempfile::TempDir, PathBuf) {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        (temporary, path)
    }

    const LONG: Duration = Duration::from_mins(10);

    #[test]
    fn a_pipe_without_a_writer_is_an_error_after_a_while() {
        let (_temporary, path) = fifo();
        let error = read_text(&path, Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("nobody has written"), "{error}");
    }

    #[test]
    fn a_pipe_whose_writer_stops_in_the_middle_is_an_error_after_a_while() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"archive = '/a'").unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        assert_eq!(
            read_text(Path::new(&path), Duration::from_millis(50)).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }

    #[test]
    fn a_pipe_is_read_to_its_end_whenever_its_writer_comes() {
        let (_temporary, path) = fifo();
        let writing = std::thread::spawn({
            let path = path.clone();
            move || std::fs::write(path, "archive = '/a'").unwrap()
        });
        assert_eq!(read_text(&path, LONG).unwrap().0, "archive = '/a'");
        writing.join().unwrap();
        for text in ["archive = '/b'", ""] {
            let (reader, mut writer) = io::pipe().unwrap();
            writer.write_all(text.as_bytes()).unwrap();
            drop(writer);
            let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
            assert_eq!(read_text(Path::new(&path), LONG).unwrap().0, text);
        }
        assert_eq!(read_text(Path::new("/dev/null"), LONG).unwrap().0, "");
    }

    #[test]
    fn what_has_no_end_or_is_no_file_is_an_error_at_once() {
        let error = |path: &str| read_text(Path::new(path), LONG).unwrap_err().to_string();
        assert!(error("/dev/zero").contains("more than 1048576 bytes"), "{}", error("/dev/zero"));
        assert!(error("/").contains("Is a directory"), "{}", error("/"));
    }
}
