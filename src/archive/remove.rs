//! Deletion of archived files.

use object_store::path::Path as Key;
use tokio_util::sync::CancellationToken;

use super::inventory::{ArchivedFile, OtherFile};
use super::{Archive, Backend, key};
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;

impl Archive {
    /// Deletes files one by one, or a thousand per request if the store supports that, until `stop` is cancelled.
    ///
    /// Calls `gone` with the index of each deleted file as soon as that is known, so it has been called for all of
    /// them however this ends. A file that is already gone is no error: another prune may be running. Of a directory
    /// it is not reported. Of a store it is: an attempt whose answer was lost may have deleted it.
    pub async fn delete(
        &self,
        system: SystemIdentifier,
        files: &[ArchivedFile],
        stop: &CancellationToken,
        gone: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        let keys = files.iter().map(|file| key::key(system, file.name)).collect();
        match &self.backend {
            Backend::Local(local) => local.delete(keys, stop, gone).await,
            Backend::Store(store) => store.delete(keys, stop, gone).await,
        }
    }

    /// Deletes staging files, in the same way.
    pub async fn delete_staged(
        &self,
        staged: &[OtherFile],
        stop: &CancellationToken,
        gone: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        match &self.backend {
            Backend::Local(local) => local.delete_files(staged, stop, gone).await,
            Backend::Store(store) => {
                // The key as it was listed: `Key::from` encodes the `#` and deletes nothing.
                let keys = staged.iter().map(|file| Key::parse(&file.key)).collect::<Result<Vec<_>, _>>();
                let keys = keys.map_err(|error| {
                    let what = format!("cannot delete from the archive {} what it lists", self.url);
                    Error::new(ErrorKind::Unavailable, what).because(error)
                })?;
                store.delete(keys, stop, gone).await
            }
        }
    }

    /// Removes directories that are still empty, and calls `gone` with the index of each one removed.
    pub async fn remove_empty(&self, directories: &[OtherFile], gone: &mut impl FnMut(usize)) {
        if let Backend::Local(local) = &self.backend {
            local.remove_empty(directories, gone).await;
        }
    }
}

pub(super) fn stopped_deleting() -> Error {
    Error::new(ErrorKind::Stopped, "stopped before all was deleted that should be")
}
