//! Publishing of files that are too large for memory, in the steps that `object_store` uses for others: write a
//! staging file next to the final name, flush it, hard-link it to that name, which fails if the name exists, and
//! flush the directory. A payload of `object_store`'s that is a file would replace this module
//! (<https://github.com/apache/arrow-rs-object-store/issues/281>).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::directory::flush;
use crate::archive::content::for_each_part;
use crate::blocking::blocking;

/// Creates the file `path` from `head` and `bytes` bytes of `file`, durably. Fails with
/// [`io::ErrorKind::AlreadyExists`] only if `path` exists.
///
/// If dropped before its end, it has published the whole file or never will, and leaves no staging file.
pub(super) async fn publish(path: PathBuf, head: Bytes, file: Arc<File>, bytes: u64) -> io::Result<()> {
    let (mut staged, staging) = {
        let path = path.clone();
        blocking(move || create(&path)).await?
    };
    let name = staging.path.clone();
    blocking(move || {
        staged.write_all(&head)?;
        for_each_part(&file, bytes, |part| staged.write_all(part))?;
        staged.sync_all()?;
        fs::hard_link(&name, &path)?;
        // A leftover staging file is recognizable and harmless.
        let _ = fs::remove_file(&name);
        path.parent().map_or(Ok(()), flush)
    })
    .await?;
    staging.forget();
    Ok(())
}

/// Creates a staging file next to `path`, with a name that no archived file and no other call uses.
fn create(path: &Path) -> io::Result<(File, Staging)> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Digits only: `object_store` names its own staging files so, and leaves such files out of listings.
    name.push(format!("#{}", fastrand::u64(..)));
    let path = path.with_file_name(name);
    let file = File::create_new(&path).map_err(|error| match error.kind() {
        // The caller interprets this kind as a conflict.
        io::ErrorKind::AlreadyExists => io::Error::other(error),
        _ => error,
    })?;
    Ok((file, Staging { path }))
}

/// The name of a staging file, which is removed on drop.
///
/// That includes a drop while the file is being written: without the name, it cannot be linked to the final one.
struct Staging {
    path: PathBuf,
}

impl Staging {
    /// Keeps the file: there is nothing left to remove.
    fn forget(mut self) {
        self.path = PathBuf::new();
    }
}

/// Maximum time to wait for a file system that hangs.
const PATIENCE: Duration = Duration::from_millis(500);

impl Drop for Staging {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        if path.as_os_str().is_empty() {
            return;
        }
        let (done, removed) = mpsc::channel();
        thread::spawn(move || {
            // It may be gone already.
            let _ = fs::remove_file(path);
            let _ = done.send(());
        });
        let _ = removed.recv_timeout(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    const BYTES: u64 = 3 << 20;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn large() -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; usize::try_from(BYTES).unwrap()]).unwrap();
        Arc::new(file)
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
        let publish = |head: &'static str| block_on(publish(path.clone(), head.into(), large(), BYTES));
        publish("one").unwrap();
        let whole = [&b"one"[..], &vec![7; usize::try_from(BYTES).unwrap()]].concat();
        assert!(fs::read(&path).unwrap() == whole);
        assert_eq!(publish("two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(fs::read(&path).unwrap() == whole);
        assert_eq!(names(temporary.path()), ["name"]);
    }

    #[test]
    fn a_failure_leaves_no_file() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("name");
        let too_short = publish(path, Bytes::new(), large(), BYTES + 1);
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
                let mut publishing = Box::pin(publish(path.clone(), Bytes::new(), large(), BYTES));
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
