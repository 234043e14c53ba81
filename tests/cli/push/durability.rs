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
    push::{Pusher, SEGMENT_KEY, SYSTEM, fails, succeeds},
    running::outcome_of,
    strace::{Call, changes_of, parse_log, trace, with_effects},
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
        let staged = self.0.iter().filter(|call| call.creates()).filter_map(Call::path).find(|path| {
            path.parent() == file.parent()
                && path.to_str().unwrap().starts_with(&format!("{}#", file.display()))
        });
        let staged = staged.unwrap();
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
        // EIO of a link means that there are no links, and a rename gives the name.
        let (error, words) =
            if step == naming { ("ENOSPC", "No space left") } else { ("EIO", "Input/output error") };
        let push = change.replaced(&format!("error={error}"), &pusher.sandbox, &push);
        fails(1, push, &[SEGMENT, words]);
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
    for (error, status, words) in [("EIO", 1, "Input/output error"), ("EROFS", 2, "Read-only file system")] {
        for path in file.ancestors().take_while(|path| path.starts_with(&archive)) {
            let flush = flushed(path).unwrap();
            let push = flush.replaced(&format!("error={error}"), &pusher.sandbox, &pusher.push(SEGMENT));
            fails(status, push, &[SEGMENT, "to disk", words]);
            assert!(pusher.stored(SEGMENT) == stored, "{flush:?}");
        }
    }
    succeeds(pusher.push(SEGMENT));
}

/// Returns a push in a file system whose hard links fail with this error.
fn without_links(pusher: &Pusher, error: &str, others: &[&str]) -> Command {
    let links = ["link", "linkat"].map(|call| format!("{call}:error={error}"));
    let effects: Vec<&str> = links.iter().map(String::as_str).chain(others.iter().copied()).collect();
    with_effects(&effects, &pusher.sandbox, &pusher.push(SEGMENT))
}

#[test]
fn a_file_system_without_hard_links_is_served_by_a_rename_that_replaces_nothing() {
    let (pusher, _) = pusher_with_segment();
    for error in ["EPERM", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EIO"] {
        succeeds(without_links(&pusher, error, &[]));
        assert_eq!(pusher.files(), [SEGMENT_KEY], "{error}");
        let calls = parse_log(&pusher.sandbox);
        let naming = Traced(calls);
        assert!(naming.naming(&pusher.file(SEGMENT)).name.starts_with("renameat2"), "{error}");
        naming.assert_published_durably(&pusher.file(SEGMENT));
        // Whoever looks only now still finds it taken.
        fs::write(pusher.file(SEGMENT), "of another").unwrap();
        user::hand_over(&pusher.file(SEGMENT));
        let outcome = outcome_of(without_links(&pusher, error, &[]));
        assert_ne!(outcome.status, 0, "{}", outcome.stderr);
        assert_eq!(fs::read(pusher.file(SEGMENT)).unwrap(), b"of another", "{error}");
        fs::remove_file(pusher.file(SEGMENT)).unwrap();
    }
}

#[test]
fn a_file_system_without_any_way_to_name_a_file_safely_is_refused() {
    let (pusher, _) = pusher_with_segment();
    for error in ["EINVAL", "ENOSYS", "EOPNOTSUPP"] {
        let push = without_links(&pusher, "EPERM", &[&format!("renameat2:error={error}")]);
        fails(2, push, &[SEGMENT, "neither hard links nor", "object store"]);
        assert_eq!(pusher.files(), [""; 0], "{error}");
    }
    assert_eq!(outcome_of(pusher.push(SEGMENT)).status, 0);
}

#[test]
fn a_file_system_that_cannot_flush_directories_is_accepted_as_by_the_server() {
    let (pusher, archive) = pusher_with_segment();
    let push = pusher.push(SEGMENT);
    let traced = Traced::push(&pusher, &push);
    fs::remove_dir_all(archive.join(SYSTEM.to_string())).unwrap();
    let changes = changes_of(&traced.0, &archive);
    let group = pusher.file(SEGMENT).parent().unwrap().to_owned();
    let flush = changes.iter().rfind(|change| change.is("fsync", &group)).unwrap();
    succeeds(flush.replaced("error=EINVAL", &pusher.sandbox, &push));
    fs::remove_dir_all(archive.join(SYSTEM.to_string())).unwrap();
    fails(1, flush.replaced("error=EIO", &pusher.sandbox, &push), &[SEGMENT, "Input/output error"]);
}
