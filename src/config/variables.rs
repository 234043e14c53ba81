//! Settings from environment variables: each key of the file, in capitals, after `WALKEEP_`. Containers set them so.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::Deserialize;
use toml::{Table, Value};

use super::given::Given;
use super::mistake::KEYS;
use super::units::without_value;
use super::wrong;
use crate::archive::is_store_setting;
use crate::error::Error;
use crate::misspelt::{is_alike, meant};

const PREFIX: &str = "WALKEEP_";

/// Returns each key that has a variable, with the variable and an example of its value.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    let of = |key: &super::mistake::Key| (key.name, variable(key.name), unquoted(key.example));
    KEYS.iter().filter(|key| key.name != "store").map(of)
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

/// Returns an example of the file as it is written in a variable.
fn unquoted(example: &str) -> &str {
    example.trim_matches(['[', ']', '{', '}']).trim_matches('"')
}

/// Returns the settings of a configuration file, with those among the variables over them. An empty variable counts as unset.
/// Others with the prefix are ignored, since they may be another version's.
pub(super) fn over(
    file: Given,
    text: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Given, Error> {
    let mut others = Vec::new();
    let set = set(|name| match variable(name)?.into_string() {
        Ok(text) => Some(text),
        Err(other) => {
            others.push((name.to_owned(), other));
            None
        }
    })?;
    let mut given = file;
    if !set.is_empty() {
        let mut settings: Table = toml::from_str(text).unwrap_or_default();
        settings.extend(set);
        // Both were read before.
        given = Given::deserialize(settings).map_err(|error| wrong(error.message().to_owned()))?;
    }
    others.into_iter().try_for_each(|(name, value)| set_path(&mut given, &name, value))?;
    Ok(given)
}

/// Sets a path that is no text, for which the file's format has no value.
fn set_path(given: &mut Given, name: &str, value: OsString) -> Result<(), Error> {
    match name.strip_prefix(PREFIX).unwrap_or(name) {
        "ARCHIVE" => given.archive = Some(value.into()),
        "SPOOL" => given.spool = Some(value.into()),
        "BACKUP_DIRS" => {
            let paths = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            given.backup_dirs = paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect();
        }
        _ => return Err(wrong(format!("{name} is no text in UTF-8"))),
    }
    Ok(())
}

/// Refuses a variable that is a key's with a slip. Others are none of walkeep's business: Kubernetes sets some for a service of the
/// name walkeep. Returns an error for each that names a store's setting without saying so: it matters only if there is a store.
pub(super) fn check_names(names: impl Iterator<Item = String>) -> Result<Vec<Error>, Error> {
    let mut of_a_store = Vec::new();
    for name in names {
        let Some(known) = meant_by(&name) else { continue };
        let hint = format!("did you mean {PREFIX}{}?", known.to_ascii_uppercase());
        let error = wrong(format!("unknown variable {name}")).hint(hint);
        if !name.strip_prefix(PREFIX).is_some_and(|key| is_store_setting(&key.to_ascii_lowercase())) {
            return Err(error);
        }
        of_a_store.push(error);
    }
    Ok(of_a_store)
}

/// Returns the key of the variable that this one is a misspelling of, if there is one.
fn meant_by(variable: &str) -> Option<String> {
    // A name that is only like the prefix is another program's: a refusal would stop the archiving of a server that has it.
    let key = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
    // The file's path is no key of the file.
    let keys = || KEYS.iter().map(|key| key.name).filter(|name| *name != "store").chain(["config"]);
    if keys().any(|known| known == key) || key.starts_with("store_") {
        return None;
    }
    if let Some(known) = meant(&key, keys()) {
        return Some(known.to_owned());
    }
    match key.split_once('_') {
        _ if is_store_setting(&key) => Some(format!("store_{key}")),
        Some((section, setting)) if is_alike(section, "store") && is_store_setting(setting) => {
            Some(format!("store_{setting}"))
        }
        _ => None,
    }
}

fn set(mut variable: impl FnMut(&str) -> Option<String>) -> Result<Table, Error> {
    let mut set = Table::new();
    for key in KEYS.iter().filter(|key| key.name != "store") {
        let name = self::variable(key.name);
        let Some(text) = variable(&name).filter(|text| !text.is_empty()) else { continue };
        let value = value(key.example, &text).map_err(|why| wrong_value(&name, key.example, &why))?;
        // Alone, to know the variable of an error.
        let alone = Table::from_iter([(key.name.to_owned(), value.clone())]);
        if let Err(error) = Given::deserialize(alone) {
            return Err(wrong_form(&name, key.example, &error));
        }
        set.insert(key.name.to_owned(), value);
    }
    Ok(set)
}

fn wrong_form(name: &str, example: &str, error: &toml::de::Error) -> Error {
    let error = error.message().lines().next().unwrap_or_default();
    // The library's own words are about types of a program, and may quote the value.
    let why =
        if error.starts_with("invalid ") { String::new() } else { format!(": {}", without_value(error)) };
    wrong_value(name, example, &why)
}

fn wrong_value(name: &str, example: &str, why: &str) -> Error {
    let example = unquoted(example);
    wrong(format!("{name} has a value of the wrong form{why}")).hint(format!("as in {name}={example}"))
}

/// Returns the value of a text, in the form of the example, or what is wrong with it.
fn value(example: &str, text: &str) -> Result<Value, String> {
    Ok(match example.chars().next() {
        Some('"') => Value::String(text.to_owned()),
        Some('[') => {
            let is_text = example.starts_with("[\"");
            let part = |part: &str| if is_text { Value::String(part.to_owned()) } else { bare(part) };
            Value::Array(text.split(',').map(|each| part(each.trim())).collect())
        }
        Some('{') => Value::Table(table(text)?),
        _ => bare(text.trim()),
    })
}

/// Returns the table of pairs that are separated by commas.
fn table(text: &str) -> Result<Table, String> {
    let mut table = Table::new();
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=').ok_or_else(String::new)?;
        let name = name.trim();
        if table.insert(name.to_owned(), Value::String(value.trim().to_owned())).is_some() {
            return Err(format!(": it has {name} twice"));
        }
    }
    Ok(table)
}

fn bare(text: &str) -> Value {
    match (text.parse(), text.parse()) {
        (Ok(number), _) => Value::Integer(number),
        (_, Ok(truth)) => Value::Boolean(truth),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(variables: &[(&str, &str)]) -> Result<Given, String> {
        over_file("", variables)
    }

    fn over_file(text: &str, variables: &[(&str, &str)]) -> Result<Given, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        over(toml::from_str(text).unwrap(), text, variable).map_err(|error| error.report())
    }

    #[test]
    fn a_variable_replaces_the_key_of_the_file_and_no_other() {
        let file = "keep_days = 3\nkeep_backups = 2\nbackup_dirs = ['/a']\n[store]\nregion = 'x'";
        let given = over_file(file, &[("WALKEEP_KEEP_DAYS", "7"), ("WALKEEP_BACKUP_DIRS", "/b")]).unwrap();
        assert_eq!((given.keep_days, given.keep_backups.map(std::num::NonZero::get)), (Some(7), Some(2)));
        assert_eq!(given.backup_dirs, ["/b"].map(std::path::PathBuf::from));
        assert!(given.store.contains_key("region"));
    }

    #[test]
    fn paths_may_have_any_bytes_and_other_values_may_not() {
        let odd = |name: &'static str, value: &'static [u8]| {
            let variable = move |asked: &str| (asked == name).then(|| OsStr::from_bytes(value).to_owned());
            over(Given::default(), "", variable)
        };
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        assert_eq!(odd("WALKEEP_ARCHIVE", b"/\xFF").unwrap().archive, Some(path(b"/\xFF")));
        assert_eq!(odd("WALKEEP_SPOOL", b"/\xFF").unwrap().spool, Some(path(b"/\xFF")));
        let backups = odd("WALKEEP_BACKUP_DIRS", b"/\xFF, /b").unwrap().backup_dirs;
        assert_eq!(backups, [path(b"/\xFF"), path(b"/b")]);
        let error = odd("WALKEEP_KEEP_DAYS", b"\xFF").unwrap_err().report();
        assert_eq!(error, "WALKEEP_KEEP_DAYS is no text in UTF-8");
    }

    #[test]
    fn every_key_has_a_variable() {
        for key in KEYS.iter().filter(|key| key.name != "store") {
            let variable = format!("WALKEEP_{}", key.name.to_ascii_uppercase());
            let example = unquoted(key.example);
            let with = given(&[(&variable, example)]).unwrap();
            let expected: Given = toml::from_str(&format!("{} = {}", key.name, key.example)).unwrap();
            assert_eq!(format!("{with:?}"), format!("{expected:?}"), "{variable}");
            assert_ne!(format!("{with:?}"), format!("{:?}", Given::default()), "{variable}");
        }
    }

    #[test]
    fn lists_are_separated_by_commas_and_empty_variables_are_unset() {
        let lists =
            [("WALKEEP_BACKUP_DIRS", "/a, /b c"), ("WALKEEP_HELD_TIMELINES", "3,5"), ("WALKEEP_SPOOL", "")];
        let given = given(&lists).unwrap();
        assert_eq!(given.backup_dirs, ["/a", "/b c"].map(std::path::PathBuf::from));
        assert_eq!(given.held_timelines.len(), 2);
        assert_eq!(over_file("", &[("WALKEEP_BACKUP_LABELS", "20261128")]).unwrap().backup_labels.len(), 1);
        assert_eq!(given.spool, None);
    }

    #[test]
    fn names_of_systems_are_pairs_and_none_is_given_twice() {
        let names = |text: &str| {
            let names = given(&[("WALKEEP_SYSTEMS", text)])?.systems.0;
            Ok(names.iter().map(|(name, system)| format!("{name} {system}")).collect::<Vec<_>>())
        };
        assert_eq!(names("main=7, a.b = 8"), Ok(["a.b 8", "main 7"].map(str::to_owned).to_vec()));
        let error = |text: &str| names(text).map_err(|error: String| error).unwrap_err();
        assert!(
            error("main=7,main=8")
                .starts_with("WALKEEP_SYSTEMS has a value of the wrong form: it has main twice")
        );
        assert!(error("main=7,other=7").contains("system 7 has the name main already"));
        assert!(error("7=7").contains("more than digits"));
    }

    #[test]
    fn a_variable_with_a_slip_is_refused_and_a_foreign_one_is_not() {
        let check = |name: &str| {
            let found = check_names(std::iter::once(name.to_owned())).map_err(|error| error.report())?;
            Ok::<_, String>(found.iter().map(Error::report).collect::<Vec<_>>())
        };
        for (name, meant) in [
            ("WALKEEP_BACKUP_DIR", "WALKEEP_BACKUP_DIRS"),
            ("WALKEEP_KEEP_DAY", "WALKEEP_KEEP_DAYS"),
            ("WALKEEP_GIVE_UP_TIMELINE", "WALKEEP_GIVEN_UP_TIMELINES"),
            ("WALKEEP_HOLD_TIMELINE", "WALKEEP_HELD_TIMELINES"),
            ("WALKEEP_CONFG", "WALKEEP_CONFIG"),
            ("WALKEEP_STROE_REGION", "WALKEEP_STORE_REGION"),
        ] {
            assert_eq!(check(name), Err(format!("unknown variable {name}; did you mean {meant}?")));
        }
        for setting in ["ENDPOINT", "REGION", "PROFILE"] {
            let said = format!("unknown variable WALKEEP_{setting}; did you mean WALKEEP_STORE_{setting}?");
            assert_eq!(check(&format!("WALKEEP_{setting}")), Ok(vec![said]));
        }
        for name in [
            "WALKEEP_CONFIG",
            "WALKEEP_CACHE",
            "WALKEEP_SERVICE_HOST",
            "WALKEEP_PORT_9000_TCP",
            "WALKEEP_STORE_REGION",
            "WALKEEP_ARCHIVE_SERVICE_PORT",
            "WALKEEP_BINARIES",
            "WALKEEP_GARAGE",
            "WALKEEP_CHECKS",
            "WALKEEP_STORE_SERVICE_HOST",
            "WALKER_SPOOLS",
            "WALKEEPER_CONNECTIONS",
            "WALKEEP2_ARCHIVE",
            "WALKEEPS_CONFIG",
            "WALKEPP_ARCHIVE",
            "WALKEPP_STORE_REGION",
            "WALKEEPREGION",
            "ARCHIVE",
            "HOME",
        ] {
            assert_eq!(check(name), Ok(Vec::new()), "{name}");
        }
    }

    #[test]
    fn a_wrong_value_is_named_by_its_variable_and_not_quoted() {
        for (variable, value, example) in [
            ("WALKEEP_KEEP_DAYS", "14d", "WALKEEP_KEEP_DAYS=14"),
            ("WALKEEP_REQUIRE_MOUNT", "perhaps", "WALKEEP_REQUIRE_MOUNT=true"),
            ("WALKEEP_HELD_TIMELINES", "two", "WALKEEP_HELD_TIMELINES=3"),
            ("WALKEEP_CONNECTIONS", "0", "WALKEEP_CONNECTIONS=12"),
            ("WALKEEP_SYSTEMS", "main", "WALKEEP_SYSTEMS=main=7381092445103374871"),
            ("WALKEEP_SYSTEMS", "main=x", "WALKEEP_SYSTEMS=main=7381092445103374871"),
        ] {
            let error = given(&[(variable, value)]).unwrap_err();
            assert!(error.starts_with(variable) && error.contains(example), "{error}");
            assert!(!error.contains(&format!("\"{value}\"")), "{error}");
        }
        let own = given(&[("WALKEEP_PUSH_TIMEOUT", "soon")]).unwrap_err();
        assert!(
            !own.contains("soon")
                && own.contains("not a time limit")
                && own.contains("WALKEEP_PUSH_TIMEOUT=60s"),
            "{own}"
        );
        assert!(given(&[("WALKEEP_FROBNICATE", "1")]).is_ok());
    }
}
