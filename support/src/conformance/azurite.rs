//! Archives in Azure's emulator.

use std::collections::BTreeMap;

use object_store::azure::MicrosoftAzureBuilder;
use walkeep::archive::{ArchiveOptions, StoreOptions};

use super::{Backend, backend::put_by};
use crate::store::{azurite::Azurite, identity};

/// Archives in the emulator that all tests of a program share.
pub struct InAzurite;

impl InAzurite {
    /// Archives of other tests have other names.
    const PREFIX: &str = "promises";
}

impl Backend for InAzurite {
    fn archive(&self, name: &str) -> ArchiveOptions {
        let environment = Azurite::shared().environment();
        // It takes long to delete hundreds at once.
        let patience = ("WALKEEP_STORE_READ_TIMEOUT", "1m".to_owned());
        let environment: BTreeMap<String, String> =
            environment.into_iter().chain([patience]).map(|(name, value)| (name.to_owned(), value)).collect();
        let url = format!("az://wal/{}/{name}", Self::PREFIX).parse().unwrap();
        ArchiveOptions::new(url, StoreOptions { environment, ..StoreOptions::default() })
    }

    fn put(&self, name: &str, files: &[(String, &[u8])]) {
        identity::choose_crypto();
        let mut builder = MicrosoftAzureBuilder::new().with_container_name("wal").with_allow_http(true);
        for (variable, value) in Azurite::shared().environment() {
            if let Ok(key) = variable.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        put_by(&builder.build().unwrap(), &format!("{}/{name}", Self::PREFIX), files);
    }
}
