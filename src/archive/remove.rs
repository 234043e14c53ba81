//! Deleting what is not kept any more.

use object_store::path::Path as Key;
use tokio_util::sync::CancellationToken;

use super::inventory::{ArchivedFile, OtherFile};
use super::{Archive, Place, key};
use crate::error::{Error, ErrorKind};
use crate::wal::SystemIdentifier;

impl Archive {
    /// Deletes files one after the other, or a thousand at a time where a store can do that, until `stop` says to stop.
    ///
    /// `gone` hears of each that went, by its place among them, as soon as that is known; so it has heard of all that went,
    /// however this ends. A file that is gone already is none to complain of, and none that went: another prune may be at work.
    pub async fn delete(
        &self,
        system: SystemIdentifier,
        files: &[ArchivedFile],
        stop: &CancellationToken,
        gone: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        let keys = files.iter().map(|file| key::key(system, file.name)).collect();
        match &self.place {
            Place::Local(local) => local.delete(keys, stop, gone).await,
            Place::Store(store) => store.delete(keys, stop, gone).await,
        }
    }

    /// Deletes what pushes have left unfinished, likewise.
    pub async fn delete_staged(
        &self,
        staged: &[OtherFile],
        stop: &CancellationToken,
        gone: &mut impl FnMut(usize),
    ) -> Result<(), Error> {
        match &self.place {
            Place::Local(local) => local.delete_files(staged, stop, gone).await,
            Place::Store(store) => {
                let keys = staged.iter().map(|file| Key::from(file.key.as_str())).collect();
                store.delete(keys, stop, gone).await
            }
        }
    }

    /// Removes directories that are still empty. `gone` hears of those that went, by their places.
    pub async fn remove_empty(&self, directories: &[OtherFile], gone: &mut impl FnMut(usize)) {
        if let Place::Local(local) = &self.place {
            local.remove_empty(directories, gone).await;
        }
    }
}

pub(super) fn stopped_deleting() -> Error {
    Error::new(ErrorKind::Stopped, "stopped before all was deleted that should be")
}
