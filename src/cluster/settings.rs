//! Server settings, read from the server's configuration files.
//!
//! Source: "Setting Parameters" in PostgreSQL's manual, and `guc-file.l`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

use super::MAX_BYTES;
use crate::denied::{self, Kept};
use crate::error::{Error, ErrorKind};
use crate::whole_file::{read_regular, read_regular_text};

/// Maximum depth of includes; the server's own limit.
const MAX_DEPTH: usize = 10;

/// Parameters by lower-case name. A parameter that no file sets is absent.
pub type ServerSettings = BTreeMap<String, String>;

/// Reads the settings that the server would read at startup: `postgresql.conf`, wherever it is, with its includes,
/// and the settings of `ALTER SYSTEM`.
pub(super) fn read(data: &Path) -> Result<ServerSettings, Error> {
    let mut settings = ServerSettings::new();
    read_file(&configuration_file(data), &mut settings, 0)?;
    let by_alter_system = data.join("postgresql.auto.conf");
    if by_alter_system.exists() {
        read_file(&by_alter_system, &mut settings, 0)?;
    }
    Ok(settings)
}

/// File that selects recovery up to version 11, with the settings for it.
pub(super) const RECOVERY_CONF: &str = "recovery.conf";

/// Reads `recovery.conf`, as a server up to version 11 does; empty if there is no such file.
pub(super) fn read_recovery_conf(data: &Path) -> Result<ServerSettings, Error> {
    let mut settings = ServerSettings::new();
    let path = data.join(RECOVERY_CONF);
    if path.exists() {
        read_file(&path, &mut settings, 0)?;
    }
    Ok(settings)
}

/// Returns the path of `postgresql.conf`. Debian keeps it elsewhere, which the options of the last start show.
pub(super) fn configuration_file(data: &Path) -> PathBuf {
    let started = read_regular_text(&data.join("postmaster.opts"), MAX_BYTES).unwrap_or_default();
    let given = started.split('"').find_map(|argument| {
        argument.strip_prefix("config_file=").or_else(|| argument.strip_prefix("--config_file="))
    });
    given.map_or_else(|| data.join("postgresql.conf"), |path| data.join(path))
}

fn read_file(path: &Path, settings: &mut ServerSettings, depth: usize) -> Result<(), Error> {
    let cannot_read = || Error::new(ErrorKind::Local, format!("cannot read {}", path.display()));
    if depth > MAX_DEPTH {
        return Err(cannot_read().because("too many files include each other"));
    }
    let denied = |error| denied::cannot_read(ErrorKind::Local, "", path, Kept::ForOwner, error);
    let text = read_regular(path, MAX_BYTES).map_err(denied)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    for (name, value) in String::from_utf8_lossy(&text).lines().filter_map(setting) {
        match name.as_str() {
            "include" => read_file(&beside.join(value), settings, depth + 1)?,
            "include_if_exists" => match fs::metadata(beside.join(&value)) {
                Err(error) if error.kind() == IoErrorKind::NotFound => {}
                _ => read_file(&beside.join(value), settings, depth + 1)?,
            },
            "include_dir" => {
                let directory = beside.join(value);
                let entries = fs::read_dir(&directory).map_err(|error| {
                    let what = format!("cannot list {}", directory.display());
                    denied::failed(ErrorKind::Local, what, &directory, Kept::ForOwner, error)
                })?;
                let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                // The server passes over directories, whatever their names.
                files.retain(|path| is_configuration(path) && !path.is_dir());
                files.sort_unstable();
                files.iter().try_for_each(|file| read_file(file, settings, depth + 1))?;
            }
            _ => drop(settings.insert(name, value)),
        }
    }
    Ok(())
}

fn is_configuration(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".conf") && !name.starts_with('.')
}

/// Parses a line: a name, an optional equals sign, a value that may be quoted.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let end = line.find(|letter: char| letter.is_whitespace() || matches!(letter, '=' | '#' | '\''))?;
    let (name, rest) = line.split_at_checked(end)?;
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquoted(quoted),
        None => rest.split(|letter: char| letter.is_whitespace() || letter == '#').next()?.to_owned(),
    };
    (!name.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

/// Returns the text up to the closing quote. A quote inside is doubled or follows a backslash, which also begins the names of
/// control characters and of bytes by three octal digits.
fn unquoted(text: &str) -> String {
    let mut value = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' if letters.peek() == Some(&'\'') => value.extend(letters.next()),
            '\'' => break,
            '\\' => value.extend(escaped(&mut letters)),
            _ => value.push(letter),
        }
    }
    value
}

/// Returns the letter that is meant by those after a backslash. A byte beyond ASCII, which may be a part of one, is lost.
fn escaped(letters: &mut Peekable<Chars<'_>>) -> Option<char> {
    let first = letters.next()?;
    let Some(mut byte) = first.to_digit(8) else {
        return Some(match first {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            other => other,
        });
    };
    for _ in 0..2 {
        let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(8)) else { break };
        byte = byte * 8 + digit;
        letters.next();
    }
    char::from_u32(byte).filter(char::is_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_server_reads_them() {
        for (line, expected) in [
            ("archive_mode = on", Some(("archive_mode", "on"))),
            ("  Archive_Mode on # no equals sign", Some(("archive_mode", "on"))),
            ("standby_mode'on'", Some(("standby_mode", "on"))),
            ("archive_mode=always#x", Some(("archive_mode", "always"))),
            ("archive_command = 'a ''%p'' # b' # c", Some(("archive_command", "a '%p' # b"))),
            ("archive_command = 'it\\'s'", Some(("archive_command", "it's"))),
            ("archive_command = 'a\\tb\\\\\\062c\\61'", Some(("archive_command", "a\tb\\2c1"))),
            ("archive_command = ''", Some(("archive_command", ""))),
            ("# archive_mode = on", None),
            ("", None),
            ("archive_mode", None),
        ] {
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(setting(line), expected, "{line:?}");
        }
    }

    #[test]
    fn includes_are_followed_and_the_last_setting_counts() {
        let temporary = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = temporary.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let config_file = temporary.path().join("etc/main.conf");
        let opts =
            format!("/usr/bin/postgres \"-D\" \"x\" \"-c\" \"config_file={}\"\n", config_file.display());
        write("data/postmaster.opts", &opts);
        write(
            "etc/main.conf",
            "a = 1\nb = 1\ninclude 'more.conf'\ninclude_dir 'conf.d'\ninclude_if_exists 'none'\n",
        );
        write("etc/more.conf", "b = 2\nc = 2\n");
        write("etc/conf.d/2.conf", "c = 4\n");
        write("etc/conf.d/1.conf", "c = 3\nd = 3\n");
        write("etc/conf.d/readme", "d = 9\n");
        write("etc/conf.d/old.conf/1.conf", "d = 9\n");
        write("data/postgresql.auto.conf", "d = 'by alter system'\n");
        let data = temporary.path().join("data");
        let settings = read(&data).unwrap();
        let value = |name: &str| settings[name].as_str();
        assert_eq!((value("a"), value("b"), value("c"), value("d")), ("1", "2", "4", "by alter system"));
        write("etc/more.conf", "include 'more.conf'\n");
        assert!(read(&data).unwrap_err().report().contains("include each other"));
    }
}
