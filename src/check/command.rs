//! Reads the text of `archive_command` and `restore_command` as the server's shell would, as far as the text alone tells what is
//! called. Pure.

use std::collections::BTreeMap;
use std::path::Path;

/// Programs that run the rest of their line on this machine, with this environment.
const PREFIXES: [&str; 9] =
    ["env", "exec", "nice", "ionice", "timeout", "nohup", "setsid", "stdbuf", "systemd-cat"];

/// Call of one of walkeep's programs, as far as it decides where WAL goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// Value of `--archive`.
    pub archive: Option<String>,
    /// Value of `--config`.
    pub config: Option<String>,
    /// Value of `--spool`.
    pub spool: Option<String>,
    /// Environment variables that the command sets itself.
    pub variables: BTreeMap<String, String>,
}

/// Meaning of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Called {
    /// It calls the program directly.
    Walkeep(Invocation),
    /// The text does not tell, for this reason.
    CannotTell(String),
}

/// Part of a line of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word),
    /// What ends a simple command.
    End,
    /// A redirection, whose target is the next word.
    Redirection,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Word {
    text: String,
    /// `true` if the shell would replace a part of it.
    is_replaced: bool,
}

/// Returns how `command` calls `program`.
pub(super) fn called(command: &str, program: &str) -> Called {
    let cannot_tell = |why: &str| Called::CannotTell(why.to_owned());
    let Some(tokens) = tokens(command) else { return cannot_tell("a quote in it is not closed") };
    let commands = simple_commands(tokens);
    let mut exported = BTreeMap::new();
    let mut found = Vec::new();
    for words in &commands {
        let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        match texts.as_slice() {
            ["export", rest @ ..] => exported.extend(rest.iter().filter_map(|word| assignment(word))),
            ["." | "source", ..] => exported.clear(),
            _ => {}
        }
        if let Some(call) = call(words, program) {
            found.push((call, exported.clone()));
        }
    }
    let (call, exported) = match (found.pop(), found.is_empty()) {
        (None, _) => {
            return cannot_tell(&format!("it does not call {program} itself"));
        }
        (Some(_), false) => return cannot_tell(&format!("it calls {program} more than once")),
        (Some(only), true) => only,
    };
    let sources = commands
        .iter()
        .any(|words| words.first().is_some_and(|word| word.text == "." || word.text == "source"));
    match call {
        Err(why) => Called::CannotTell(why),
        Ok(call) if sources && call.archive.is_none() => {
            cannot_tell("it reads another file of the shell first")
        }
        Ok(call) => {
            let variables = exported.into_iter().chain(call.variables).collect();
            Called::Walkeep(Invocation { variables, ..call })
        }
    }
}

/// Returns the paths of programs in a command, of which one may be a wrapper.
pub(super) fn programs(command: &str) -> Vec<String> {
    let commands = simple_commands(tokens(command).unwrap_or_default());
    let is_path = |word: &&Word| word.text.contains('/') && !word.text.contains('%') && !word.is_replaced;
    commands.iter().flatten().filter(is_path).map(|word| word.text.clone()).collect()
}

/// Returns the call of `program` by a simple command; `None` if it calls something else.
fn call(words: &[Word], program: &str) -> Option<Result<Invocation, String>> {
    let is_program = |word: &Word| Path::new(&word.text).file_name().is_some_and(|name| name == program);
    let at = words.iter().position(is_program)?;
    let (before, rest) = words.split_at_checked(at)?;
    let rest = rest.get(1..).unwrap_or_default();
    let mut invocation = Invocation::default();
    let mut prefix = None;
    for word in before {
        match assignment(&word.text) {
            // Of the shell, or of `env`.
            Some(set) if matches!(prefix, None | Some("env")) => {
                drop(invocation.variables.insert(set.0, set.1));
            }
            _ => {
                let name =
                    Path::new(&word.text).file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if let Some(known) = PREFIXES.iter().find(|known| **known == name) {
                    prefix = Some(*known);
                } else if prefix.is_none() {
                    return Some(Err(format!("it calls {program} by {name}")));
                }
            }
        }
    }
    // The options of `env` clear the environment, or read it from elsewhere.
    let changes = prefix == Some("env") && before.iter().any(|word| word.text.starts_with('-'));
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let (name, value) = match word.text.split_once('=') {
            Some((name, value)) => (name, Some((value.to_owned(), word.is_replaced))),
            None => (word.text.as_str(), None),
        };
        let place = match name {
            "--archive" => &mut invocation.archive,
            "--config" => &mut invocation.config,
            "--spool" => &mut invocation.spool,
            "--" => break,
            _ => continue,
        };
        let (value, is_replaced) = match value {
            Some(value) => value,
            None => words.next().map(|word| (word.text.clone(), word.is_replaced))?,
        };
        if is_replaced {
            return Some(Err(format!("the shell replaces a part of {name} {value}")));
        }
        *place = Some(value);
    }
    if changes && invocation.archive.is_none() {
        return Some(Err("it changes its environment by env".to_owned()));
    }
    let replaced = before.iter().find(|word| word.is_replaced && word.text.starts_with("WALKEEP_"));
    match replaced {
        Some(word) if invocation.archive.is_none() => {
            Some(Err(format!("the shell replaces a part of {}", word.text)))
        }
        _ => Some(Ok(invocation)),
    }
}

/// Parses `NAME=value`.
fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let is_name = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    is_name.then(|| (name.to_owned(), value.to_owned()))
}

/// Returns the words of each simple command, without redirections.
fn simple_commands(tokens: Vec<Token>) -> Vec<Vec<Word>> {
    let mut commands = vec![Vec::new()];
    let mut is_target = false;
    for token in tokens {
        match token {
            Token::Redirection => is_target = true,
            Token::End => {
                is_target = false;
                commands.push(Vec::new());
            }
            Token::Word(_) if is_target => is_target = false,
            Token::Word(word) => {
                if let Some(words) = commands.last_mut() {
                    words.push(word);
                }
            }
        }
    }
    commands.retain(|words| !words.is_empty());
    commands
}

/// Splits a line into words and operators; `None` if a quote is not closed.
fn tokens(line: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut word: Option<Word> = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '\'' => break,
                        letter => word.text.push(letter),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next()? {
                        '"' => break,
                        '\\' if letters.peek().is_some_and(|next| "$`\"\\\n".contains(*next)) => {
                            word.text.extend(letters.next().filter(|next| *next != '\n'));
                        }
                        letter => {
                            word.is_replaced |= "$`".contains(letter);
                            word.text.push(letter);
                        }
                    }
                }
            }
            '\\' => match letters.next() {
                // The line goes on.
                Some('\n') | None => {}
                Some(letter) => word.get_or_insert_default().text.push(letter),
            },
            '#' if word.is_none() => while letters.next_if(|letter| *letter != '\n').is_some() {},
            ' ' | '\t' => tokens.extend(word.take().map(Token::Word)),
            '<' | '>' => {
                // The number of a descriptor belongs to it.
                let number = |word: &Word| word.text.chars().all(|letter| letter.is_ascii_digit());
                tokens.extend(word.take().filter(|word| !number(word)).map(Token::Word));
                while letters.next_if(|next| "<>&|".contains(*next)).is_some() {}
                tokens.push(Token::Redirection);
            }
            ';' | '&' | '|' | '(' | ')' | '\n' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(Token::End);
            }
            letter => {
                let word = word.get_or_insert_default();
                word.is_replaced |= "$`*?[~".contains(letter);
                word.text.push(letter);
            }
        }
    }
    tokens.extend(word.take().map(Token::Word));
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROGRAM: &str = "walkeep-archive";

    fn archive_of(command: &str) -> Result<Option<String>, String> {
        match called(command, PROGRAM) {
            Called::Walkeep(call) => Ok(call.archive),
            Called::CannotTell(why) => Err(why),
        }
    }

    #[test]
    fn the_archive_is_read_as_the_shell_would_read_it() {
        for (command, archive) in [
            ("walkeep-archive %p", None),
            ("walkeep-archive --archive /a %p", Some("/a")),
            ("/usr/local/bin/walkeep-archive %p --archive=/a", Some("/a")),
            ("walkeep-archive --archive '/a b' \"%p\"", Some("/a b")),
            ("walkeep-archive --archive \"/a \\\"b\" %p", Some("/a \"b")),
            ("walkeep-archive --archive /a\\ b'c'\"d\" %p", Some("/a bcd")),
            ("walkeep-archive -v --timeout 30s --archive /a %p 2>>/var/log/--archive", Some("/a")),
            ("walkeep-archive --archive /a %p >/dev/null 2>&1", Some("/a")),
            ("test -f /x || walkeep-archive --archive /a %p", Some("/a")),
            ("cd /x && nice -n 5 walkeep-archive --archive /a %p; true", Some("/a")),
            ("timeout 60 ionice -c 3 walkeep-archive --archive s3://b/p %p # --archive /b", Some("s3://b/p")),
            ("env LANG=C walkeep-archive --archive /a %p", Some("/a")),
            ("walkeep-archive --archive /a \\\n %p", Some("/a")),
            ("walkeep-archive %p --archive /a -- --archive /b", Some("/a")),
            (". /etc/x; walkeep-archive --archive /a %p", Some("/a")),
        ] {
            assert_eq!(archive_of(command), Ok(archive.map(str::to_owned)), "{command}");
        }
    }

    #[test]
    fn variables_and_other_settings_are_read_too() {
        let Called::Walkeep(call) = called(
            "export WALKEEP_LOG_FORMAT=json; WALKEEP_ARCHIVE='/a b' env X=1 walkeep-archive --config /c.toml --spool=/s %p",
            PROGRAM,
        ) else {
            panic!("it is walkeep")
        };
        assert_eq!((call.config.as_deref(), call.spool.as_deref()), (Some("/c.toml"), Some("/s")));
        let variables: Vec<_> =
            call.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(variables, ["WALKEEP_ARCHIVE=/a b", "WALKEEP_LOG_FORMAT=json", "X=1"]);
    }

    #[test]
    fn what_the_text_does_not_tell_is_not_guessed() {
        for (command, why) in [
            ("", "does not call"),
            ("/usr/local/bin/archive.sh %p", "does not call"),
            ("cp %p /a/%f", "does not call"),
            ("sh -c 'walkeep-archive --archive /a %p'", "does not call"),
            ("ssh backup walkeep-archive --archive /a %p", "by ssh"),
            ("sudo -u x walkeep-archive --archive /a %p", "by sudo"),
            ("walkeep-archive --archive \"$A\" %p", "replaces a part of --archive"),
            ("walkeep-archive --archive=~/a %p", "replaces a part of --archive"),
            ("WALKEEP_ARCHIVE=$A walkeep-archive %p", "replaces a part of WALKEEP_ARCHIVE"),
            ("env -i walkeep-archive %p", "by env"),
            (". /etc/x; walkeep-archive %p", "another file"),
            ("walkeep-archive --archive /a %p && walkeep-archive --archive /b %p", "more than once"),
            ("walkeep-archive --archive '/a %p", "not closed"),
            ("# walkeep-archive %p", "does not call"),
        ] {
            let said = archive_of(command).unwrap_err();
            assert!(said.contains(why), "{command}: {said}");
        }
    }

    #[test]
    fn a_wrapper_is_among_the_programs() {
        assert_eq!(programs("nice /opt/a.sh %p /x/%f 2>/dev/null"), ["/opt/a.sh"]);
    }

    proptest! {
        #[test]
        fn any_archive_that_is_quoted_is_read_back(archive in "[^\\x00']{1,20}", tail in "( -v| 2>/dev/null)?") {
            let command = format!("walkeep-archive --archive '{archive}'{tail} %p");
            prop_assert_eq!(archive_of(&command), Ok(Some(archive)));
        }

        #[test]
        fn no_text_ends_it(command in ".{0,60}", shell in "[a-z '\"\\\\$`;&|<>#=/-]{0,60}") {
            for text in [&command, &shell] {
                let _ = (called(text, PROGRAM), programs(text));
            }
        }
    }
}
