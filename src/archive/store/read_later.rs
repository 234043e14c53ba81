//! Files and environment variables that `object_store` reads by itself, some of them at each request for credentials: checked
//! first, because it waits for ever at some, and panics at others.
//!
//! In object_store 0.14.2 these are, besides the file of `gcloud` (see `google`): the files of [`TOKEN_FILES`] and the variables of
//! [`VARIABLES`]. Its builders read many more in `from_env`, which walkeep does not call: `options` reads them, and `form` checks
//! them.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::form::is_web_address;
use super::issued::fits_a_header;
use super::options::{Resolved, truth};
use super::source::Source;
use crate::archive::url::Provider;
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::whole_file::open_regular;

/// Variables that the library reads by itself.
pub(super) const VARIABLES: [(Provider, &str); 5] = [
    (Provider::Google, "GCE_METADATA_HOST"),
    (Provider::Google, "GCE_METADATA_IP"),
    (Provider::Google, "GCE_METADATA_ROOT"),
    (Provider::Azure, "IDENTITY_HEADER"),
    (Provider::Azure, "AZURITE_BLOB_STORAGE_URL"),
];

/// Settings for files that the library reads by itself, at each request for credentials.
const TOKEN_FILES: [&str; 3] = ["aws_web_identity_token_file", IN_A_HEADER, "azure_federated_token_file"];

/// The one of them whose content becomes a header as it is.
const IN_A_HEADER: &str = "aws_container_authorization_token_file";

/// Maximum size of a token in bytes.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// Checks the files. Pipes and the like are refused: the library would wait for somebody who writes, and nothing could end that.
/// A file that is missing may be on its way.
pub(super) fn check_files(resolved: &Resolved) -> Result<(), Error> {
    let mut given = TOKEN_FILES.iter().filter_map(|name| Some((name, resolved.provider.get(*name)?)));
    given.try_for_each(|(name, path)| {
        let path = Path::new(path);
        let outcome = match *name {
            IN_A_HEADER => check_token_file(path),
            _ => open_regular(path).map(drop),
        };
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let what = format!("the token in {} cannot be sent", path.display());
                Err(Error::new(ErrorKind::Configuration, what).because(error).hint(WRITE_ANEW))
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied) =>
            {
                Err(denied::cannot_read(ErrorKind::Configuration, "", path, Kept::ForSeveral, error))
            }
            _ => Ok(()),
        }
    })
}

const WRITE_ANEW: &str = "write it in one line without an end, as printf %s does";

/// Returns the file that a source of credentials sends as it is.
pub(super) fn sent_file(from: Source, resolved: &Resolved) -> Option<PathBuf> {
    resolved.provider.get(IN_A_HEADER).filter(|_| from == Source::ContainerAt).map(PathBuf::from)
}

/// Reads a file that becomes a header as it is. An error of the kind `InvalidData` says that it cannot.
pub(super) fn check_token_file(path: &Path) -> io::Result<()> {
    let wrong = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let mut token = Vec::new();
    open_regular(path)?.take(MAX_TOKEN_BYTES + 1).read_to_end(&mut token)?;
    match String::from_utf8(token) {
        Ok(token) if token.len() as u64 > MAX_TOKEN_BYTES => wrong("it is too large for a token"),
        Ok(token) if fits_a_header(&token) => Ok(()),
        Ok(token) if fits_a_header(token.trim_end()) => wrong("a line feed follows it"),
        Ok(_) => wrong("it holds a line feed or another control character"),
        Err(_) => wrong("it is no text in UTF-8"),
    }
}

/// Checks the variables that the library will read for credentials from there. The error quotes no value.
pub(super) fn check_variables(from: Source, resolved: &Resolved) -> Result<(), Error> {
    let is_emulator =
        resolved.provider.get("azure_storage_use_emulator").is_some_and(|value| truth(value) == Ok(true));
    resolved.read_later.iter().try_for_each(|(name, value)| {
        let wrong = match name.as_str() {
            "IDENTITY_HEADER" => {
                (!fits_a_header(value)).then_some("it holds a line feed or another control character")
            }
            "AZURITE_BLOB_STORAGE_URL" => {
                (is_emulator && !is_web_address(value)).then_some("it is not a URL of a server")
            }
            _ => (from == Source::Machine(Provider::Google) && !is_web_address(&format!("http://{value}/")))
                .then_some("it is not the name of a host"),
        };
        wrong.map_or(Ok(()), |why| {
            let what = format!("{name}: {why}");
            Err(Error::new(ErrorKind::Configuration, what).hint("write it anew, or unset it"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::store::StoreOptions;

    fn resolved(provider: Provider, variables: &[(&str, &str)]) -> Resolved {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let options = StoreOptions { environment: owned.collect(), ..StoreOptions::default() };
        options.resolve(provider).unwrap()
    }

    #[test]
    fn variables_that_the_library_reads_by_itself_are_checked_where_it_reads_them() {
        let machine = Source::Machine;
        for (provider, from, name, good, bad) in [
            (Provider::Azure, machine(Provider::Azure), "IDENTITY_HEADER", "s3cret", "s3cret\nb"),
            (Provider::Azure, Source::Settings, "IDENTITY_HEADER", "", "s3cret\0"),
            (Provider::Google, machine(Provider::Google), "GCE_METADATA_HOST", "metadata:80", "s3cret b"),
            (Provider::Google, machine(Provider::Google), "GCE_METADATA_IP", "169.254.169.254", ""),
            (Provider::Google, machine(Provider::Google), "GCE_METADATA_ROOT", "h", "s3cret\n"),
            (Provider::Google, Source::GoogleKey, "GCE_METADATA_HOST", "a b", "\0"),
        ] {
            let outcome = |value| check_variables(from, &resolved(provider, &[(name, value)]));
            assert!(outcome(good).is_ok(), "{name} {good}");
            if from == Source::GoogleKey {
                assert!(outcome(bad).is_ok(), "it is not read then");
                continue;
            }
            let error = outcome(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let error = error.report();
            assert!(error.starts_with(name) && !error.contains("s3cret"), "{error}");
        }
        let emulator = |url| {
            let given = [("AZURE_STORAGE_USE_EMULATOR", "true"), ("AZURITE_BLOB_STORAGE_URL", url)];
            check_variables(Source::Settings, &resolved(Provider::Azure, &given))
        };
        assert!(emulator("http://127.0.0.1:10000").is_ok() && emulator("s3cret").is_err());
    }

    #[test]
    fn a_token_file_that_cannot_become_a_header_is_named_and_not_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let of_container = [("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path.to_str().unwrap())];
        let of_container = resolved(Provider::S3, &of_container);
        assert!(check_files(&of_container).is_ok(), "it may be on its way");
        for (content, why) in [
            (&b"s3cret"[..], None),
            (b"s3cret\n", Some("a line feed follows it")),
            (b"s3cret\nb", Some("it holds a line feed or another control character")),
            (b"s3cret\0", Some("it holds a line feed or another control character")),
            (b"s3cret\xff", Some("it is no text in UTF-8")),
        ] {
            std::fs::write(&path, content).unwrap();
            let outcome = check_files(&of_container).map_err(|error| (error.kind(), error.report()));
            let expected = why.map_or(Ok(()), |why| {
                let what = format!("the token in {} cannot be sent: {why}; {WRITE_ANEW}", path.display());
                Err((ErrorKind::Configuration, what))
            });
            assert_eq!(outcome, expected);
        }
    }
}
