//! Exit status 0 means that the file, its name and the directories above survive a power loss. These tests watch the
//! system calls of a push, and make them fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    fs, os,
    path::{Path, PathBuf},
    process::Command,
};

use support::{
    data_directory::SEGMENT,
    large::{LARGE, segment_of},
    push::{Pusher, SYSTEM, fails, succeeds},
    running::outcome_of,
    strace::{Call, changes_of, trace},
    user,
};

/// System calls of a successful push.
struct Traced(Vec<Call>);

impl Traced {
    fn push(pusher: &Pusher, push: &Command) -> Self {
        let (outcome, calls) = trace(&pusher.sandbox, push);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
        Self(calls)
    }

    /// Returns the end of the process, which means exit status 0.
    fn end(&self) -> &Call {
        self.0.iter().find(|call| call.exit_status() == Some("0")).unwrap()
    }

    /// Returns the one call that gives the file its name.
    fn naming(&self, file: &Path) -> &Call {
        let names = |call: &&Call| {
            matches!(&*call.name, "link" | "linkat" | "rename" | "renameat" | "renameat2")
                && call.path() == Some(file)
                && call.succeeded()
        };
        let calls: Vec<_> = self.0.iter().filter(names).collect();
        assert_eq!(calls.len(), 1, "{:#?}", self.0);
        calls[0]
    }

    /// Asserts that `path` is flushed after `first`, if there is such a call, and before `last`.
    fn assert_flushed_between(&self, path: &Path, first: Option<&Call>, last: &Call) {
        let in_time = |call: &Call| {
            call.flushes(path) && first.is_none_or(|first| first.is_before(call)) && call.is_before(last)
        };
        let flushed = self.0.iter().any(in_time);
        assert!(
            flushed,
            "{} is not flushed after {first:?} and before {last:?}: {:#?}",
            path.display(),
            self.0
        );
    }

    /// Asserts that a new file is durable before its name appears, and the name before the end.
    fn assert_published_durably(&self, file: &Path) {
        let naming = self.naming(file);
        let staged = naming.first_path().unwrap();
        assert_ne!(staged, file);
        let is_write = |call: &&Call| call.name == "write" && call.path() == Some(staged);
        let last_write = self.0.iter().rfind(is_write).unwrap();
        self.assert_flushed_between(staged, Some(last_write), naming);
        self.assert_flushed_between(file.parent().unwrap(), Some(naming), self.end());
    }

    /// Asserts that each directory between the archive and the file is durable before the file's name appears in the
    /// last of them: a new one is created, and then its name flushed in the directory above.
    fn assert_directories_durable(&self, archive: &Path, file: &Path) {
        let naming = self.naming(file);
        for directory in file.ancestors().skip(1).take_while(|directory| *directory != archive) {
            let made = |call: &&Call| {
                matches!(&*call.name, "mkdir" | "mkdirat")
                    && call.path() == Some(directory)
                    && call.succeeded()
            };
            let made = self.0.iter().find(made);
            self.assert_flushed_between(directory.parent().unwrap(), made, naming);
        }
    }

    /// Asserts that an existing file and all directories above it are flushed, up to the archive's.
    fn assert_flushed_to_the_top(&self, archive: &Path, file: &Path) {
        for path in file.ancestors().take_while(|path| path.starts_with(archive)) {
            self.assert_flushed_between(path, None, self.end());
        }
    }
}

/// Creates a pusher with a segment, and returns the real path of its archive.
fn pusher_with_segment() -> (Pusher, PathBuf) {
    let pusher = Pusher::new();
    pusher.data.segment(SEGMENT, 0);
    let archive = fs::canonicalize(pusher.archive.url()).unwrap();
    (pusher, archive)
}

#[test]
fn a_first_push_has_everything_on_disk_before_the_name_appears_and_the_name_before_it_succeeds() {
    let (pusher, archive) = pusher_with_segment();
    let traced = Traced::push(&pusher, &pusher.push(SEGMENT));
    traced.assert_published_durably(&pusher.file(SEGMENT));
    traced.assert_directories_durable(&archive, &pusher.file(SEGMENT));
}

#[test]
fn a_push_next_to_an_archived_file_is_durable() {
    let (pusher, _) = pusher_with_segment();
    succeeds(pusher.push(SEGMENT));
    let next = "000000010000000000000002";
    pusher.data.segment(next, 0);
    let traced = Traced::push(&pusher, &pusher.push(next));
    traced.assert_published_durably(&pusher.file(next));
}

#[test]
fn a_segment_too_large_for_memory_is_durable() {
    let pusher = Pusher::new();
    segment_of(&pusher.data, SYSTEM, SEGMENT, LARGE, 1);
    let archive = fs::canonicalize(pusher.archive.url()).unwrap();
    let traced = Traced::push(&pusher, &pusher.push(SEGMENT));
    traced.assert_published_durably(&pusher.file(SEGMENT));
    traced.assert_directories_durable(&archive, &pusher.file(SEGMENT));
    let again = Traced::push(&pusher, &pusher.push(SEGMENT));
    again.assert_flushed_to_the_top(&archive, &pusher.file(SEGMENT));
}

#[test]
fn directories_that_a_push_left_when_it_died_are_flushed_by_the_next() {
    let (pusher, archive) = pusher_with_segment();
    let file = pusher.file(SEGMENT);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file.with_extension("#1"), "half a file").unwrap();
    fs::write(file.with_file_name(format!("{SEGMENT}#1")), "half a file").unwrap();
    for path in file.ancestors().skip(1).take_while(|path| *path != archive) {
        user::hand_over(path);
    }
    let traced = Traced::push(&pusher, &pusher.push(SEGMENT));
    traced.assert_published_durably(&file);
    traced.assert_directories_durable(&archive, &file);
}

#[test]
fn a_resend_succeeds_once_the_archived_file_and_its_directories_are_on_disk() {
    let (pusher, archive) = pusher_with_segment();
    succeeds(pusher.push(SEGMENT));
    let traced = Traced::push(&pusher, &pusher.push(SEGMENT));
    traced.assert_flushed_to_the_top(&archive, &pusher.file(SEGMENT));
}

#[test]
fn an_archive_behind_a_symbolic_link_is_durable() {
    let (pusher, archive) = pusher_with_segment();
    let link = pusher.sandbox.join("link");
    os::unix::fs::symlink(&archive, &link).unwrap();
    let push = || {
        let mut push = pusher.program();
        push.arg("--archive").arg(&link).arg(format!("pg_wal/{SEGMENT}"));
        push
    };
    let first = Traced::push(&pusher, &push());
    first.assert_published_durably(&pusher.file(SEGMENT));
    first.assert_directories_durable(&archive, &pusher.file(SEGMENT));
    let again = Traced::push(&pusher, &push());
    again.assert_flushed_to_the_top(&archive, &pusher.file(SEGMENT));
}

#[test]
fn a_push_fails_if_any_step_fails_and_leaves_no_staging_file() {
    let (pusher, archive) = pusher_with_segment();
    let empty = || fs::remove_dir_all(archive.join(SYSTEM.to_string())).unwrap();
    let push = pusher.push(SEGMENT);
    let traced = Traced::push(&pusher, &push);
    empty();
    let file = pusher.file(SEGMENT);
    let key = file.strip_prefix(&archive).unwrap().to_str().unwrap();
    let changes = changes_of(&traced.0, &archive);
    let naming = changes.iter().position(|change| change.is("link", &file)).unwrap();
    for (step, change) in changes.iter().enumerate() {
        if step > naming && change.is("unlink", &change.path) {
            continue; // all that was promised is done, and what is left is told apart by its name
        }
        fails(1, change.replaced("error=EIO", &pusher.sandbox, &push), &[SEGMENT, "Input/output error"]);
        let expected: &[&str] = if step > naming { &[key] } else { &[] };
        assert_eq!(pusher.files(), expected, "{change:?}");
        succeeds(pusher.push(SEGMENT));
        empty();
    }
}

#[test]
fn a_resend_fails_if_a_flush_fails() {
    let (pusher, archive) = pusher_with_segment();
    succeeds(pusher.push(SEGMENT));
    let file = pusher.file(SEGMENT);
    let stored = pusher.stored(SEGMENT);
    let traced = Traced::push(&pusher, &pusher.push(SEGMENT));
    let flushed =
        |path: &Path| changes_of(&traced.0, path).into_iter().find(|change| change.is("fsync", path));
    // As of a file system that has become read-only because of an error.
    for (error, words) in [("EIO", "Input/output error"), ("EROFS", "Read-only file system")] {
        for path in file.ancestors().take_while(|path| path.starts_with(&archive)) {
            let flush = flushed(path).unwrap();
            let push = flush.replaced(&format!("error={error}"), &pusher.sandbox, &pusher.push(SEGMENT));
            fails(1, push, &[SEGMENT, "to disk", words]);
            assert!(pusher.stored(SEGMENT) == stored, "{flush:?}");
        }
    }
    succeeds(pusher.push(SEGMENT));
}

#[test]
fn a_file_system_without_hard_links_is_reported_as_such() {
    let (pusher, archive) = pusher_with_segment();
    let push = pusher.push(SEGMENT);
    let traced = Traced::push(&pusher, &push);
    fs::remove_file(pusher.file(SEGMENT)).unwrap();
    let changes = changes_of(&traced.0, &archive);
    let naming = changes.iter().find(|change| change.is("link", &pusher.file(SEGMENT))).unwrap();
    for error in ["EPERM", "EOPNOTSUPP"] {
        let push = naming.replaced(&format!("error={error}"), &pusher.sandbox, &push);
        fails(1, push, &[SEGMENT, "hard link", "choose another one"]);
        assert_eq!(pusher.files(), [""; 0]);
    }
    assert_eq!(outcome_of(push).status, 0);
}
