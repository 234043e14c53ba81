//! Creation of a file in a store, which must not replace another one.
//!
//! A store that honours conditions tests and writes in one step. Any other may confirm what another server has replaced
//! meanwhile, so it is asked again afterwards: what it then shows is compared. A file that is replaced after that question
//! is beyond it.

use std::fs::File;

use object_store::path::Path;
use object_store::{PutMode, PutPayload, PutResult};

use super::options::ConditionalPut;
use super::upload::Upload;
use super::{Store, failure};
use crate::archive::Created;
use crate::archive::failure::{Asked, RequestFailure};
use crate::archive::url::Provider;
use crate::error::{Error, ErrorKind};
use crate::frame::Content;

impl Store {
    pub(in crate::archive) async fn create(
        &self,
        key: &Path,
        content: Content<File>,
    ) -> Result<Created, Error> {
        let what = || format!("cannot archive {}", self.location(key));
        let (payload, upload) = match content {
            Content::Memory(chunks) => (PutPayload::from_iter(chunks), None),
            // The response to the upload would come after all is sent, or come earlier and get lost in a broken
            // connection, at every attempt. If this question fails, the upload reports the reason.
            Content::Overflow { .. }
                if self.create_reports_taken() && matches!(self.exists(key).await, Ok(true)) =>
            {
                return Ok(Created::Exists);
            }
            Content::Overflow { head, file, bytes } => Upload::new(&self.claim, head, file, bytes)
                .await
                .map_err(|error| Error::new(ErrorKind::Local, what()).because(error))?,
        };
        let put = async |mode: PutMode| {
            let mut options = self.put_options(mode);
            if let Some(upload) = &upload {
                options.extensions.insert(upload.clone());
            }
            self.objects.put_opts(key, payload.clone(), options).await
        };
        let conditional = self.conditional_put != ConditionalPut::No;
        let mode = if conditional { PutMode::Create } else { PutMode::Overwrite };
        let error = match put(mode).await {
            Ok(_) if self.create_reports_taken() => return Ok(Created::New),
            Ok(confirmed) => return Box::pin(self.look_again(key, &confirmed)).await,
            Err(error) => error,
        };
        match self.failure(what(), Asked::Create, &error) {
            RequestFailure::Taken => Ok(Created::Exists),
            // The name was checked just before, and is looked at again, which is all that can be done for this store.
            RequestFailure::Unconditional if conditional && !self.create_reports_taken() => {
                tracing::warn!(
                    "{} does not understand conditional writes; conditional_put = \"no\" in [store] saves trying them",
                    self.url
                );
                match put(PutMode::Overwrite).await {
                    Ok(confirmed) => Box::pin(self.look_again(key, &confirmed)).await,
                    Err(error) => Err(self.failed(what(), Asked::Create, &error)),
                }
            }
            RequestFailure::Unconditional => Err(Error::new(ErrorKind::Refused, what())
                .because(failure::Causes::of(&error))
                .hint("the store does not understand conditional writes; set conditional_put = \"no\" in [store]")),
            // Google and Azure may answer so for a name that is taken: replacing needs a right more than creating.
            RequestFailure::Error(failure)
                if failure.kind() == ErrorKind::Refused
                    && self.url.provider != Provider::S3
                    && matches!(self.exists(key).await, Ok(true)) =>
            {
                Ok(Created::Exists)
            }
            RequestFailure::Error(failure) => Err(failure),
        }
    }

    /// Looks whether the store still shows what it has confirmed. If not, the name is taken, perhaps by the same content.
    async fn look_again(&self, key: &Path, confirmed: &PutResult) -> Result<Created, Error> {
        let Some(shown) = self.look(key).await? else {
            let what = format!("cannot archive {}", self.location(key));
            return Err(Error::new(ErrorKind::Unavailable, what)
                .because("the store has confirmed the file, and then says that there is none"));
        };
        if shown.e_tag.is_some() && shown.e_tag == confirmed.e_tag {
            return Ok(Created::New);
        }
        tracing::debug!("{} is not what was sent there; comparing", self.location(key));
        Ok(Created::Exists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::canned::{CannedAnswer, CannedSettings};
    use crate::archive::{Archive, StoreOptions};
    use crate::wal::{SystemIdentifier, WalName};

    fn answer(status: u16, etag: &str) -> CannedAnswer {
        let headers =
            [("etag", etag), ("content-length", "3"), ("last-modified", "Fri, 02 Jan 2026 03:04:05 GMT")];
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        CannedAnswer { status, headers, body: bytes::Bytes::new() }
    }

    /// Creates a file in a store with that endpoint and setting, and these answers.
    fn created(endpoint: &str, conditional_put: &str, answers: Vec<CannedAnswer>) -> Result<Created, Error> {
        let settings = [
            ("endpoint", endpoint),
            ("conditional_put", conditional_put),
            ("access_key_id", "AKIA"),
            ("secret_access_key", "s3cret"),
        ];
        let file = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let options = StoreOptions { file, ..StoreOptions::default() };
        let settings = CannedSettings { options, ..CannedSettings::default() };
        let archive =
            Archive::in_canned_store(&"s3://wal/main".parse().unwrap(), &settings, answers).unwrap();
        let name: WalName = "000000010000000000000001".parse().unwrap();
        let creating = archive.create(
            SystemIdentifier::new(7).unwrap(),
            name,
            Content::Memory(vec![bytes::Bytes::from_static(b"WAL")]),
        );
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(creating)
    }

    const UNPROVEN: &str = "https://ceph.example";

    #[test]
    fn what_an_unproven_store_shows_afterwards_decides() {
        for mode in ["auto", "no"] {
            let after = |shown| created(UNPROVEN, mode, vec![answer(200, "\"ours\""), shown]);
            assert_eq!(after(answer(200, "\"ours\"")).unwrap(), Created::New, "{mode}");
            assert_eq!(after(answer(200, "\"theirs\"")).unwrap(), Created::Exists, "{mode}");
            for (shown, why) in [(answer(404, ""), "says that there is none"), (answer(503, ""), "503")] {
                let error = after(shown).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{mode}");
                assert!(error.report().contains(why), "{}", error.report());
            }
        }
    }

    #[test]
    fn a_store_without_conditions_is_looked_at_again_too() {
        let answers = |shown| vec![answer(501, ""), answer(200, "\"ours\""), answer(200, shown)];
        assert_eq!(created(UNPROVEN, "auto", answers("\"ours\"")).unwrap(), Created::New);
        assert_eq!(created(UNPROVEN, "auto", answers("\"theirs\"")).unwrap(), Created::Exists);
    }

    #[test]
    fn a_store_known_to_honour_conditions_gets_no_further_request() {
        // A second request would find no answer.
        let amazon = "https://s3.eu-west-1.amazonaws.com";
        for (endpoint, mode) in [(amazon, "auto"), (UNPROVEN, "yes")] {
            assert_eq!(created(endpoint, mode, vec![answer(200, "\"ours\"")]).unwrap(), Created::New);
        }
    }
}
