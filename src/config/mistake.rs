//! Mistakes in the configuration file, in the words of somebody who edits it. Pure.
//!
//! No value is quoted, because it may be a secret.

use crate::archive::is_store_setting;
use crate::misspelt::meant;

/// A key of the file, with what its value is, and an example.
pub(super) struct Key {
    pub(super) name: &'static str,
    value: &'static str,
    pub(super) example: &'static str,
}

const fn key(name: &'static str, value: &'static str, example: &'static str) -> Key {
    Key { name, value, example }
}

const DURATION: &str = "a duration in quotes";
const NUMBER: &str = "a whole number without quotes";
const AT_LEAST_ONE: &str = "a whole number from 1 on, without quotes";
const TEXTS: &str = "a list of texts in brackets";
const TIMELINES: &str = "a list of timelines in brackets";

/// How to give names.
const SYSTEMS: &str = "write a line [systems], and below it main = \"7381092445103374871\"";

/// Flags that somebody may take for keys.
const FLAGS: [(&str, &str); 3] =
    [("all_systems", "--all-systems"), ("pgdata", "--pgdata"), ("system_identifier", "--system-identifier")];

/// Form of an entry in `[systems]`.
const SYSTEM: &str = "a system identifier, as in main = \"7381092445103374871\"";

/// All keys outside of sections.
pub(super) const KEYS: [Key; 26] = [
    key("archive", "a path or URL in quotes", "\"/mnt/archive\""),
    key("compression", "\"zstd\", \"none\" or \"auto\"", "\"zstd\""),
    key("compression_level", NUMBER, "1"),
    key("timeout", DURATION, "\"60s\""),
    key("push_timeout", DURATION, "\"60s\""),
    key("recovery_timeout", DURATION, "\"5m\""),
    key("standby_timeout", DURATION, "\"30s\""),
    key("require_mount", "true or false, without quotes", "true"),
    key("look_ahead_files", NUMBER, "128"),
    key("look_ahead_time", DURATION, "\"10s\""),
    key("look_ahead_memory", "an amount in quotes", "\"256MB\""),
    key("connections", AT_LEAST_ONE, "12"),
    key("prefetch_size", "an amount in quotes", "\"256MB\""),
    key("prefetch_idle", DURATION, "\"2m\""),
    key("spool", "a path in quotes", "\"/var/tmp/walkeep\""),
    key("keep_backups", AT_LEAST_ONE, "2"),
    key("keep_days", "a number of days without quotes", "14"),
    key("keep_wal_days", "a number of days without quotes", "30"),
    key("backup_dirs", TEXTS, "[\"/backups\"]"),
    key("backup_may_take", DURATION, "\"24h\""),
    key("given_up_timelines", TIMELINES, "[3]"),
    key("held_timelines", TIMELINES, "[3]"),
    key("backup_labels", TEXTS, "[\"nightly*\"]"),
    key("log_format", "\"text\" or \"json\"", "\"text\""),
    key("systems", "a section of its own", "{main=7381092445103374871}"),
    key("store", "a section of its own", "\"eu-central-1\" as region below a line [store]"),
];

/// Returns `true` for a key that belongs above the sections.
pub(super) fn belongs_above(name: &str) -> bool {
    !matches!(name, "store" | "systems") && KEYS.iter().any(|key| key.name == name)
}

/// Returns the number of the line, from 1, in which the key of a section is set; `None` as section is the part above all.
pub(super) fn line_of(text: &str, section: Option<&str>, name: &str) -> Option<usize> {
    let mut current = None;
    for (index, line) in text.lines().enumerate() {
        if let Some(header) = header(line) {
            current = Some(header);
        } else if current == section && name_in(line) == Some(name) {
            return Some(index + 1);
        }
    }
    None
}

/// Explains an error of the parser, with its line.
pub(super) fn explain(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let number = 1 + before.matches('\n').count();
    format!("line {number}: {}", in_words(text, number, error.message()))
}

fn in_words(text: &str, number: usize, message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    if let Some(name) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        let is_section = text
            .lines()
            .nth(number - 1)
            .and_then(header)
            .is_some_and(|header| header.split('.').next().is_some_and(|first| first.trim() == name));
        return if is_section { unknown_section(name) } else { unknown(name) };
    }
    let lines: Vec<&str> = text.lines().take(number).collect();
    // A value may go over several lines.
    let name = lines.iter().rev().take_while(|line| header(line).is_none()).find_map(|line| name_in(line));
    let section = lines.iter().rev().find_map(|line| header(line));
    if section.is_some_and(|section| section.starts_with("systems.")) {
        return format!("a system has no section of its own; {SYSTEMS}");
    }
    match KEYS.iter().find(|key| section.is_none() && Some(key.name) == name) {
        Some(key) if key.name == "systems" => format!("systems is a section of its own; {SYSTEMS}"),
        // The parser's own words are about types of a program.
        Some(key) if message.starts_with("invalid ") => {
            format!("{0} is {1}, as in {0} = {2}", key.name, key.value, key.example)
        }
        Some(key) => format!("{message}; {0} is {1}, as in {0} = {2}", key.name, key.value, key.example),
        None => match (name, section) {
            (Some(name), Some("systems")) if belongs_above(name) => format!("{name} belongs above [systems]"),
            (Some(name), Some("systems")) if message.starts_with("invalid ") => {
                format!("{name} in [systems] is {SYSTEM}")
            }
            (Some(name), Some(section)) => format!("{name} in [{section}]: {message}"),
            _ => message.to_owned(),
        },
    }
}

fn unknown_section(name: &str) -> String {
    match meant(name, ["store", "systems"]) {
        Some(known) => format!("unknown section [{name}]; did you mean [{known}]?"),
        None => format!("unknown section [{name}]; the sections are [store] and [systems]"),
    }
}

fn unknown(name: &str) -> String {
    if let Some((_, flag)) = FLAGS.iter().find(|(flag, _)| *flag == name) {
        return format!("unknown key {name}; it is a flag: {flag}");
    }
    match meant(name, KEYS.iter().map(|key| key.name)) {
        Some(known @ ("store" | "systems")) => {
            format!("unknown key {name}; did you mean the section [{known}]?")
        }
        Some(known) => format!("unknown key {name}; did you mean {known}?"),
        None if is_store_setting(name) => format!("{name} belongs below [store]"),
        None => {
            let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
            format!("unknown key {name}; the keys are {}", names.join(", "))
        }
    }
}

/// Returns the name of the section that begins in this line.
fn header(line: &str) -> Option<&str> {
    let name = line.trim_start().strip_prefix('[')?;
    let (name, rest) = name.split_once(']')?;
    let rest = rest.trim_start();
    (rest.is_empty() || rest.starts_with('#')).then(|| name.trim())
}

/// Returns the key that is set in this line.
fn name_in(line: &str) -> Option<&str> {
    let name = line.split_once('=')?.0.trim().trim_matches(['"', '\'']);
    let is_name = !name.is_empty()
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter));
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Given;

    fn said(text: &str) -> String {
        explain(text, &toml::from_str::<Given>(text).unwrap_err())
    }

    #[test]
    fn a_wrong_value_is_explained_by_an_example_and_not_quoted() {
        for (text, expected) in [
            (
                "keep_days = \"14d\"",
                "line 1: keep_days is a number of days without quotes, as in keep_days = 14",
            ),
            (
                "\npush_timeout = 60",
                "line 2: push_timeout is a duration in quotes, as in push_timeout = \"60s\"",
            ),
            (
                "keep_backups = 0",
                "line 1: keep_backups is a whole number from 1 on, without quotes, as in keep_backups = 2",
            ),
            (
                "require_mount = 'yes'",
                "line 1: require_mount is true or false, without quotes, as in require_mount = true",
            ),
            (
                "held_timelines = [\n 1,\n 'two',\n]",
                "line 3: held_timelines is a list of timelines in brackets, as in held_timelines = [3]",
            ),
        ] {
            assert_eq!(said(text), expected);
        }
        let unquoted = said("keep_days = 3\narchive = /mnt/secret\n");
        assert!(
            unquoted.starts_with("line 2: ") && unquoted.contains("as in archive = \"/mnt/archive\""),
            "{unquoted}"
        );
        assert!(!unquoted.contains("secret"), "{unquoted}");
        let own_words = said("timeout = 'soon'");
        assert!(own_words.contains("not a time limit") && own_words.contains("\"60s\""), "{own_words}");
        let store = said("archive = '/a'\n[store]\nregion = 1.5");
        assert!(store.starts_with("line 3: region in [store]: "), "{store}");
    }

    #[test]
    fn a_misspelt_key_is_recognized() {
        assert_eq!(said("keep_dyas = 3"), "line 1: unknown key keep_dyas; did you mean keep_days?");
        assert_eq!(said("[stor]\nregion = 'x'"), "line 1: unknown section [stor]; did you mean [store]?");
        assert_eq!(said("[sotre]\nregion = 'x'"), "line 1: unknown section [sotre]; did you mean [store]?");
        assert_eq!(
            said("\n[s3.x]\ny = 1"),
            "line 2: unknown section [s3]; the sections are [store] and [systems]"
        );
        assert_eq!(said("pgdata = '/d'"), "line 1: unknown key pgdata; it is a flag: --pgdata");
        assert_eq!(
            said("all_systems = true"),
            "line 1: unknown key all_systems; it is a flag: --all-systems"
        );
        let of_section = "write a line [systems], and below it main = \"7381092445103374871\"";
        assert_eq!(
            said("[systems.main]\nid = '7'").split_once(": ").unwrap().1,
            format!("a system has no section of its own; {of_section}")
        );
        assert_eq!(
            said("systems = { main = 'x' }"),
            format!("line 1: systems is a section of its own; {of_section}")
        );
        assert_eq!(said("keep_day = 3"), "line 1: unknown key keep_day; did you mean keep_days?");
        assert_eq!(said("endpoint = 'https://x'"), "line 1: endpoint belongs below [store]");
        let unlike = said("frobnicate = 3");
        assert!(unlike.contains("unknown key frobnicate; the keys are archive, "), "{unlike}");
    }

    #[test]
    fn every_key_of_the_file_is_known_here() {
        let message = toml::from_str::<Given>("x = 1").unwrap_err().message().to_owned();
        let mut expected: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        let mut known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        expected.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, expected);
        for key in &KEYS[..KEYS.len() - 1] {
            let text = format!("{} = {}", key.name, key.example);
            assert!(toml::from_str::<Given>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_line_of_a_key_is_that_in_its_section() {
        let text = "# archive = 'x'\narchive = 'a'\n [store] # here\n\"archive\" = 'b'\nregion='c'\n";
        assert_eq!(line_of(text, None, "archive"), Some(2));
        assert_eq!(line_of(text, Some("store"), "archive"), Some(4));
        assert_eq!(line_of(text, Some("store"), "region"), Some(5));
        assert_eq!(line_of(text, None, "region"), None);
    }
}
