//! Notes: observations of a call for later calls in the same run of the server.
//!
//! A note records how long something has been waited for, or which message has been logged. No answer depends on one:
//! without it, a call waits longer or logs a message twice. Incomplete notes, those of another run or version, and
//! those from the future are therefore ignored. A note is not flushed, because the run that it belongs to ends with
//! the machine.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{LEFT, Spool};
use crate::whole_file::open_with_metadata;

/// Maximum size of a note in bytes.
const MAX_BYTES: u64 = 4_096;

/// First line of every note.
const VERSION: &str = "walkeep note 1";

/// Last line of every note. Without it, the note is incomplete.
const END: &str = "end";

/// A note that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Text of the note.
    pub text: String,
    /// Time since it was written.
    pub age: Duration,
}

impl Spool {
    /// Writes the note `text`, one line, on `subject`, one word, for this run of the server. Replaces a note on the
    /// same subject.
    pub fn note(&self, subject: &str, run: &str, text: &str) -> io::Result<()> {
        LEFT.write(&self.note_about(subject), whole(subject, run, text).as_bytes())
    }

    /// Returns the note on `subject` from this run of the server.
    #[must_use]
    pub fn noted(&self, subject: &str, run: &str, now: SystemTime) -> Option<Note> {
        let (file, found) = open_with_metadata(&self.note_about(subject)).ok()?;
        let age = now.duration_since(found.modified().ok()?).ok()?;
        let mut found = String::new();
        file.take(MAX_BYTES).read_to_string(&mut found).ok()?;
        let text = found.lines().nth(2)?;
        (found == whole(subject, run, text)).then(|| Note { text: text.to_owned(), age })
    }

    /// Removes the note on `subject` from any run.
    pub fn forget_note(&self, subject: &str) {
        // A leftover belongs to a run that ends.
        let _ = fs::remove_file(self.note_about(subject));
    }

    fn note_about(&self, subject: &str) -> PathBuf {
        self.directory.join(format!("{subject}.note"))
    }
}

fn whole(subject: &str, run: &str, text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    format!("{VERSION} {subject}\n{run}\n{text}\n{END}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::tests::spool;

    fn text(note: Option<Note>) -> Option<String> {
        note.map(|note| note.text)
    }

    #[test]
    fn a_pipe_in_its_place_is_none_and_not_waited_for() {
        let temporary = tempfile::tempdir().unwrap();
        let spool = spool(temporary.path());
        nix::unistd::mkfifo(&spool.note_about("archive"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(spool.noted("archive", "1.2", SystemTime::now()), None);
    }

    #[test]
    fn a_note_is_on_one_subject_in_one_run() {
        let temporary = tempfile::tempdir().unwrap();
        let spool = spool(temporary.path());
        let noted = |subject, run| text(spool.noted(subject, run, SystemTime::now()));
        assert_eq!(noted("archive", "1.2"), None);
        spool.note("archive", "1.2", "it hangs\nfor long").unwrap();
        assert_eq!(noted("archive", "1.2").as_deref(), Some("it hangs for long"));
        assert_eq!(noted("archive", "1.3"), None, "another run");
        assert_eq!(noted("prefetcher", "1.2"), None, "another subject");
        spool.note("archive", "1.2", "").unwrap();
        assert_eq!(noted("archive", "1.2").as_deref(), Some(""), "the last one counts");
        spool.forget_note("archive");
        spool.forget_note("archive");
        assert_eq!(noted("archive", "1.2"), None);
        assert_eq!(fs::read_dir(&spool.directory).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_note_has_an_age_and_one_from_the_future_is_ignored() {
        let temporary = tempfile::tempdir().unwrap();
        let spool = spool(temporary.path());
        spool.note("archive", "1", "x").unwrap();
        let written = fs::metadata(spool.note_about("archive")).unwrap().modified().unwrap();
        let after = |seconds| written + Duration::from_secs(seconds);
        assert_eq!(spool.noted("archive", "1", after(31)).unwrap().age, Duration::from_secs(31));
        assert_eq!(
            spool.noted("archive", "1", written - Duration::from_secs(1)),
            None,
            "the clock went back"
        );
    }

    #[test]
    fn an_incomplete_note_is_ignored() {
        let temporary = tempfile::tempdir().unwrap();
        let spool = spool(temporary.path());
        spool.note("archive", "1", "it hangs").unwrap();
        let path = spool.note_about("archive");
        let found = fs::read(&path).unwrap();
        for length in 0..found.len() {
            fs::write(&path, &found[..length]).unwrap();
            assert_eq!(spool.noted("archive", "1", SystemTime::now()), None, "{length}");
        }
        for other in [&b"walkeep note 2 archive\n1\nx\nend\n"[..], b"\xff\n1\nx\nend\n"] {
            fs::write(&path, other).unwrap();
            assert_eq!(spool.noted("archive", "1", SystemTime::now()), None);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(spool.noted("archive", "1", SystemTime::now()), None, "a failure to read is no note");
    }
}
