//! Archives in the stand-in for Google's store.

use std::{collections::BTreeMap, path::PathBuf};

use walkeep::archive::{ArchiveOptions, StoreOptions};

use super::Backend;
use crate::{
    sandbox::Sandbox,
    store::{Store, google::ServiceAccount},
};

/// Archives in the stand-in for Google's store, of this process.
pub struct InGoogle {
    store: Store,
    account: PathBuf,
    _sandbox: Sandbox,
}

impl InGoogle {
    pub fn empty() -> Self {
        let sandbox = Sandbox::new();
        Self { store: Store::of_google(), account: ServiceAccount::known().file(&sandbox), _sandbox: sandbox }
    }
}

impl Backend for InGoogle {
    fn archive(&self, name: &str) -> ArchiveOptions {
        let account = self.account.to_str().unwrap().to_owned();
        let settings = [
            ("base_url", self.store.endpoint()),
            ("allow_http", "true".to_owned()),
            ("service_account", account),
        ];
        let file: BTreeMap<String, String> = settings.map(|(name, value)| (name.to_owned(), value)).into();
        let url = format!("gs://wal/{name}").parse().unwrap();
        ArchiveOptions::new(url, StoreOptions { file, ..StoreOptions::default() })
    }

    fn put(&self, name: &str, files: &[(String, &[u8])]) {
        for (key, content) in files {
            self.store.put(&format!("{name}/{key}"), content);
        }
    }
}
