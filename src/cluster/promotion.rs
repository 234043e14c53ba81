//! Files by which a standby learns that it is to be promoted.
//!
//! Source: `CheckPromoteSignal` and `CheckForStandbyTrigger` of the server. It removes the file once it has noticed, which it does
//! only between two calls of `restore_command`.

use std::path::PathBuf;

use super::{DataDirectory, FIRST_VERSION_WITH_SIGNAL_FILES, settings};

impl DataDirectory {
    /// Returns the paths of the files of which each asks for a promotion: that of `pg_ctl promote` and `pg_promote()`, and the
    /// one that the settings of versions up to 15 may name. Settings that cannot be read name none.
    #[must_use]
    pub fn promotion_files(&self) -> Vec<PathBuf> {
        let (settings, name) = match self.major_version() {
            Some(..FIRST_VERSION_WITH_SIGNAL_FILES) => {
                (settings::read_recovery_conf(self.path()), "trigger_file")
            }
            _ => (self.server_settings(), "promote_trigger_file"),
        };
        let named =
            settings.ok().and_then(|settings| settings.get(name).filter(|path| !path.is_empty()).cloned());
        std::iter::once("promote".to_owned()).chain(named).map(|path| self.path().join(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_promotion_is_asked_for_by_the_servers_own_file_and_the_one_that_its_settings_name() {
        let temporary = tempfile::tempdir().unwrap();
        let data = DataDirectory::named(temporary.path().to_owned());
        let here = |name: &str| temporary.path().join(name);
        let write = |name: &str, text: &str| fs::write(here(name), text).unwrap();
        assert_eq!(data.promotion_files(), [here("promote")]);
        write("PG_VERSION", "15\n");
        write("postgresql.conf", "promote_trigger_file = ''\n");
        assert_eq!(data.promotion_files(), [here("promote")]);
        write("postgresql.conf", "promote_trigger_file = '/run/go'\n");
        assert_eq!(data.promotion_files(), [here("promote"), PathBuf::from("/run/go")]);
        write("PG_VERSION", "11\n");
        write("recovery.conf", "standby_mode = on\ntrigger_file = 'go'\n");
        assert_eq!(data.promotion_files(), [here("promote"), here("go")]);
    }
}
