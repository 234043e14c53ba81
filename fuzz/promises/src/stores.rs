//! A store of each kind that answers with chosen bytes, for the targets that look at such.

use walkeep::archive::canned::{CannedAnswer, CannedSettings};
use walkeep::archive::{Archive, ArchiveUrl, StoreOptions};

/// Settings of a store, as in `[store]` of the configuration.
pub(crate) type Settings = &'static [(&'static str, &'static str)];

/// The URL of a store of each kind, with the settings that it needs, the last of which is a secret.
const STORES: [(&str, Settings); 3] = [
    (
        "s3://bucket/prefix",
        &[
            ("endpoint", "https://minio.example:9000"),
            ("access_key_id", "AKIAEXAMPLE"),
            ("session_token", "FwoG&ZXIvYXdzEXAMPLE"),
            ("secret_access_key", "wJalr/XUtnFEMI+bPxRfiCYEXAMPLE"),
        ],
    ),
    ("gs://bucket/prefix", &[("bearer_token", "ya29.EXAMPLE<token>")]),
    ("az://bucket/prefix", &[("account_name", "me"), ("account_key", "c2VjcmV0LWtleS1vZi1henVyZQ==")]),
];

/// Returns URL and settings of the store whose URL begins with `s3`, `gs` or `az`.
pub(crate) fn of_kind(kind: &str) -> Option<(&'static str, Settings)> {
    STORES.into_iter().find(|(url, _)| url.split(':').next() == Some(kind))
}

/// Opens an archive in a store that gives these answers.
pub(crate) fn open(url: &str, settings: Settings, answers: Vec<CannedAnswer>) -> Archive {
    let Ok(url) = url.parse::<ArchiveUrl>() else { panic!("{url} is a URL") };
    let file = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = StoreOptions { file, ..StoreOptions::default() };
    match Archive::in_canned_store(&url, &CannedSettings { options, ..CannedSettings::default() }, answers) {
        Ok(archive) => archive,
        Err(error) => panic!("{}", error.report()),
    }
}
