//! Servers of others that a script installs, and whose processes end with the tests.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Returns the path in `variable`, or that at which `script` installs the program in walkeep's directory of the cache.
pub(super) fn path(variable: &str, script: &str, installed: impl AsRef<Path>) -> PathBuf {
    let program = env::var_os(variable).map_or_else(|| cache().join(installed), PathBuf::from);
    assert!(program.is_file(), "{} is missing; run {script}", program.display());
    program
}

/// As in the scripts, where an empty variable counts as unset.
fn cache() -> PathBuf {
    let directory = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    directory("WALKEEP_CACHE").unwrap_or_else(|| {
        directory("XDG_CACHE_HOME")
            .unwrap_or_else(|| directory("HOME").expect("HOME is set").join(".cache"))
            .join("walkeep")
    })
}
