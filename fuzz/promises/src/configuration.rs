//! The configuration file: whatever its text, it has settings within their bounds, or an error that is one line and names the
//! file. Neither shows a secret.

use std::collections::BTreeMap;
use std::time::Duration;

use walkeep::archive::ArchiveUrl;
use walkeep::archive::canned::CannedSettings;
use walkeep::config::Settings;
use walkeep::error::ErrorKind;

use crate::requests::check_shown;
use crate::settings::hold_settings;

/// The value of `secret_access_key` in the samples.
const SECRET: &str = "wJalrXUtnFEMI";

/// Panics if the bytes break a promise.
pub fn hold(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
    let places: Vec<_> = text.lines().filter(|line| line.contains(SECRET)).map(key).collect();
    let is_secret = text.matches(SECRET).count() == 1 && places == [Some("secret_access_key".to_owned())];
    let secrets = || is_secret.then_some(SECRET);
    let settings = match Settings::of_text(text, 0o640, BTreeMap::new()) {
        Ok(settings) => settings,
        Err(error) => {
            check_shown(&error, secrets());
            assert_eq!(error.kind(), ErrorKind::Configuration);
            return;
        }
    };
    assert!(secrets().is_none_or(|secret| !format!("{settings:?}").contains(secret)));
    let day = Duration::from_hours(24);
    let restore = settings.restore;
    let limits = [
        settings.push.timeout,
        settings.push.look_ahead.time,
        settings.tool.timeout,
        restore.timeouts.recovery,
        restore.timeouts.standby,
        restore.prefetch.idle,
    ];
    assert!(limits.iter().all(|limit| !limit.is_zero() && *limit <= day), "{limits:?}");
    assert!(!settings.keep.policy.backup_may_take.is_negative());
    if let ArchiveUrl::Store(url) = &settings.archive.url {
        let options = settings.archive.store;
        hold_settings(&url.to_string(), &CannedSettings { options, ..CannedSettings::default() });
    }
}
