//! Distinction between failures to get credentials and failures of the store, for which `object_store` returns the
//! same kinds of errors.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;

use super::issued::Sendable;
use super::read_later::check_token_file;
use super::source::Source;
use super::stall::{Movement, Stillness};

/// Error for a failed request for credentials.
#[derive(Debug, thiserror::Error)]
#[error("cannot get credentials")]
pub(super) struct NoCredentials {
    pub(super) source: object_store::Error,
    pub(super) from: Source,
}

/// Error for credentials that a call without patience has waited for.
#[derive(Debug, thiserror::Error)]
#[error("none came for {} seconds", .0.as_secs_f32())]
pub(super) struct NoneCame(Duration);

/// A provider of credentials whose failures are [`NoCredentials`]. What no request can carry is such a failure, too.
///
/// Each source has time limits of its own. They are for a call with patience: one that has lost it waits for credentials as
/// long as for a store, which cannot be asked without them.
#[derive(Debug)]
pub(super) struct Credentials<C> {
    pub(super) provider: Arc<dyn CredentialProvider<Credential = C>>,
    pub(super) from: Source,
    pub(super) patience: Stillness,
    /// File that is sent as it is. Somebody may write it anew at any time.
    pub(super) sent_file: Option<PathBuf>,
}

#[async_trait]
impl<C: Sendable + std::fmt::Debug + Send + Sync + 'static> CredentialProvider for Credentials<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        let failed = |source| {
            let source = Box::new(NoCredentials { source, from: self.from });
            object_store::Error::Generic { store: "", source }
        };
        let generic = |source| failed(object_store::Error::Generic { store: "", source });
        if let Some(path) = &self.sent_file {
            let checked = check_token_file(path);
            checked.map_err(|error| generic(format!("the token in {}: {error}", path.display()).into()))?;
        }
        let usable = |outcome: object_store::Result<Arc<C>>| {
            let credential = outcome.map_err(failed)?;
            credential.check().map_err(|error| generic(error.into()))?;
            Ok(credential)
        };
        let mut asking = self.provider.get_credential();
        // Those that are there are not waited for.
        let now = poll_fn(|context| Poll::Ready(asking.as_mut().poll(context))).await;
        if let Poll::Ready(outcome) = now {
            return usable(outcome);
        }
        match Movement::new(self.patience.clone()).watch(asking).await {
            Ok(outcome) => usable(outcome),
            Err(stalled) => Err(generic(Box::new(NoneCame(stalled.0)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use object_store::ObjectStoreExt;

    use crate::archive::ArchiveUrl;
    use crate::archive::failure::Asked;
    use crate::archive::store::{Store, StoreOptions};
    use crate::limit::TimeLimit;

    /// Asks a store that needs credentials, by a call that loses patience; returns the error and whether it is one of a
    /// hanging archive.
    fn impatiently(settings: &[(&str, &str)], variables: &[(&str, &str)]) -> (String, bool) {
        let Ok(ArchiveUrl::Store(url)) = "s3://wal".parse() else { panic!("not a store") };
        let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let none = [("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"), ("AWS_CONFIG_FILE", "/dev/null")];
        let store = [("endpoint", "http://127.0.0.1:1"), ("allow_http", "true"), ("read_timeout", "9s")];
        let options = StoreOptions {
            file: owned(&[&store, settings].concat()),
            environment: owned(&[&none, variables].concat()),
            objects: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(&url, &options).unwrap();
            let begun = Instant::now();
            let limit = TimeLimit::new(begun, Duration::from_hours(1));
            store.heed(&limit);
            limit.lose_patience(Duration::ZERO, Duration::from_millis(100));
            let error = store.objects().head(&"x".into()).await.unwrap_err();
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {error}", begun.elapsed());
            let error = store.failed("cannot ask".to_owned(), Asked::Read, &error);
            (error.report(), error.is_timeout())
        })
    }

    #[test]
    fn a_call_without_patience_does_not_wait_for_a_command_that_hangs() {
        let (error, is_timeout) = impatiently(&[("credential_process", "sleep 20")], &[]);
        let expected = "cannot ask: cannot get credentials: none came for 0.1 seconds; run the command of";
        assert!(is_timeout && error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_call_without_patience_does_not_wait_for_an_issuer_that_hangs() {
        let issuer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", issuer.local_addr().unwrap());
        let (error, is_timeout) = impatiently(&[], &[("AWS_METADATA_ENDPOINT", &address)]);
        let expected = "cannot ask: cannot get credentials: none came for 0.1 seconds; none are configured";
        assert!(is_timeout && error.starts_with(expected), "{error}");
    }
}
