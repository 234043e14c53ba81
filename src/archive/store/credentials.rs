//! Distinction between failures to get credentials and failures of the store, for which `object_store` returns the
//! same kinds of errors.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;

use super::source::Source;

/// Error for a failed request for credentials.
#[derive(Debug, thiserror::Error)]
#[error("cannot get credentials")]
pub(super) struct NoCredentials {
    pub(super) source: object_store::Error,
    pub(super) from: Source,
}

/// A provider of credentials whose failures are [`NoCredentials`].
#[derive(Debug)]
pub(super) struct Credentials<C> {
    pub(super) provider: Arc<dyn CredentialProvider<Credential = C>>,
    pub(super) from: Source,
}

#[async_trait]
impl<C: std::fmt::Debug + Send + Sync + 'static> CredentialProvider for Credentials<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        let failed = |source| {
            let source = Box::new(NoCredentials { source, from: self.from });
            object_store::Error::Generic { store: "", source }
        };
        self.provider.get_credential().await.map_err(failed)
    }
}
