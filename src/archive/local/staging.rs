//! Publishing of archived files: write a staging file next to the final name, flush it, give it that name in one step that
//! fails if the name exists, and flush the directory.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::below::Below;
use super::naming::give_name;
use crate::archive::content::for_each_part;
use crate::blocking::{blocking, step};
use crate::frame::Content;

/// Creates the file `name` in the directory, durably. Fails with [`io::ErrorKind::AlreadyExists`] only if it exists.
///
/// If dropped before its end, it has published the whole file or never will, and leaves no staging file.
pub(super) async fn publish(directory: Below, name: PathBuf, content: Content<File>) -> io::Result<()> {
    let (mut staged, staging) = {
        let (directory, name) = (directory.clone(), name.clone());
        blocking(move || create(directory, &name)).await?
    };
    let staged_name = staging.name.clone();
    blocking(move || {
        match content {
            Content::Memory(chunks) => chunks.iter().try_for_each(|chunk| write(&mut staged, chunk))?,
            Content::Overflow { head, file, bytes } => {
                staged.write_all(&head)?;
                for_each_part(&file, bytes, |part| write(&mut staged, part))?;
            }
        }
        staged.sync_all()?;
        give_name(&staged, &directory, &staged_name, &name)?;
        directory.flush()
    })
    .await?;
    staging.forget();
    Ok(())
}

fn write(staged: &mut File, part: &[u8]) -> io::Result<()> {
    step();
    staged.write_all(part)
}

/// Replaces the file `name` in the directory, durably.
pub(super) fn replace(directory: &Below, name: &Path, content: &[u8]) -> io::Result<()> {
    let (mut staged, staging) = create(directory.clone(), name)?;
    staged.write_all(content)?;
    staged.sync_all()?;
    directory.rename(&staging.name, name)?;
    staging.forget();
    directory.flush()
}

/// Creates a staging file for `name`: `NAME#1`, or with the first number that is free. Listings leave out files with such names.
fn create(directory: Below, name: &Path) -> io::Result<(File, Staging)> {
    for number in 1..=MOST_LEFTOVERS {
        let mut staged = name.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        let staged = PathBuf::from(staged);
        match directory.create_new(&staged) {
            Ok(file) => return Ok((file, Staging { directory, name: staged })),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    // Not of the kind that the caller interprets as a conflict.
    Err(io::Error::other(format!("{MOST_LEFTOVERS} staging files of this name are left over")))
}

/// Maximum number of staging files for one name. Each is the leftover of a push that was killed, until a prune removes it.
const MOST_LEFTOVERS: u64 = 10_000;

/// The name of a staging file, which is removed on drop.
///
/// That includes a drop while the file is being written: without the name, it cannot be linked to the final one.
struct Staging {
    directory: Below,
    name: PathBuf,
}

impl Staging {
    /// Keeps the file: there is nothing left to remove.
    fn forget(mut self) {
        self.name = PathBuf::new();
    }
}

/// Maximum time to wait for a file system that hangs.
const PATIENCE: Duration = Duration::from_millis(500);

impl Drop for Staging {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        if name.as_os_str().is_empty() {
            return;
        }
        let directory = self.directory.clone();
        let (done, removed) = mpsc::channel();
        thread::spawn(move || {
            // It may be gone already.
            let _ = directory.remove(&name);
            let _ = done.send(());
        });
        let _ = removed.recv_timeout(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::fs;
    use std::future::Future;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    const BYTES: u64 = 3 << 20;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[allow(clippy::needless_pass_by_value, reason = "as what it stands for")]
    fn publish(path: PathBuf, content: Content<File>) -> impl Future<Output = io::Result<()>> {
        let directory = path.parent().unwrap().canonicalize().unwrap();
        super::publish(
            Below::open(&directory, &directory).unwrap(),
            path.file_name().unwrap().into(),
            content,
        )
    }

    /// Returns content of `head` and `bytes` bytes of a file that has [`BYTES`].
    fn large(head: &'static str, bytes: u64) -> Content<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; usize::try_from(BYTES).unwrap()]).unwrap();
        Content::Overflow { head: head.into(), file: Arc::new(file), bytes }
    }

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_published_completely_and_once() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("name");
        let small = || Content::Memory(vec![Bytes::from("o"), Bytes::from("ne")]);
        let whole = [&b"one"[..], &vec![7; usize::try_from(BYTES).unwrap()]].concat();
        for (content, expected) in [(small(), &b"one"[..]), (large("one", BYTES), &whole)] {
            block_on(publish(path.clone(), content)).unwrap();
            assert!(fs::read(&path).unwrap() == expected);
            for other in [Content::Memory(vec![Bytes::from("two")]), large("two", BYTES)] {
                let error = block_on(publish(path.clone(), other)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
                assert!(fs::read(&path).unwrap() == expected);
            }
            assert_eq!(names(temporary.path()), ["name"]);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_failure_leaves_no_file() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("name");
        let too_short = publish(path, large("", BYTES + 1));
        assert_eq!(block_on(too_short).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(names(temporary.path()), [""; 0]);
    }

    #[test]
    fn a_dropped_publication_leaves_no_staging_file() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("name");
        for polls in 0..4 {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut publishing = Box::pin(publish(path.clone(), large("", BYTES)));
                let mut context = Context::from_waker(Waker::noop());
                for _ in 0..polls {
                    if let Poll::Ready(outcome) = publishing.as_mut().poll(&mut context) {
                        outcome.unwrap();
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            });
            // Waits for the threads that are still running.
            drop(runtime);
            let left = names(temporary.path());
            assert!(left.is_empty() || left == ["name"], "{polls}: {left:?}");
            let _ = fs::remove_file(&path);
        }
    }
}
