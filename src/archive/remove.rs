//! Deleting what is not kept any more.

use object_store::path::Path as Key;

use super::inventory::{ArchivedFile, OtherFile};
use super::{Archive, Place, key};
use crate::error::Error;
use crate::wal::SystemIdentifier;

impl Archive {
    /// Deletes files one after the other, or a thousand at a time where a store can do that. A file that is gone already is
    /// none to complain of: another prune may be at work.
    pub async fn delete(&self, system: SystemIdentifier, files: &[ArchivedFile]) -> Result<(), Error> {
        self.delete_keys(files.iter().map(|file| key::key(system, file.name)).collect()).await
    }

    /// Deletes what pushes have left unfinished.
    pub async fn delete_staged(&self, staged: &[OtherFile]) -> Result<(), Error> {
        match &self.place {
            Place::Local(local) => local.delete_files(staged).await,
            Place::Store(_) => {
                self.delete_keys(staged.iter().map(|file| Key::from(file.key.as_str())).collect()).await
            }
        }
    }

    /// Removes directories that are still empty.
    pub async fn remove_empty(&self, directories: &[OtherFile]) {
        if let Place::Local(local) = &self.place {
            local.remove_empty(directories).await;
        }
    }

    async fn delete_keys(&self, keys: Vec<Key>) -> Result<(), Error> {
        match &self.place {
            Place::Local(local) => local.delete(keys).await,
            Place::Store(store) => store.delete(&keys).await,
        }
    }
}
