//! Every message explained in the guide is one that a program writes, so that no explanation outlives its message.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failed expectation is the point"
)]

use std::{fs, io, path::Path, sync::LazyLock};

use support::{guide::page, postgres, sandbox::Sandbox};

const GUIDE: &str = "docs/guide/troubleshooting.md";

/// Placeholder for the variable part of a message, in the guide and here.
const BLANK: char = '…';

/// Replaces numbers, and what `blanks` matches, such as `{name}` or `%s`, by blanks.
fn with_blanks(message: &str, mut blanks: impl FnMut(&str) -> Option<usize>) -> String {
    let (mut text, mut rest) = (String::new(), message);
    while let Some(next) = rest.chars().next() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let length = blanks(rest).unwrap_or(digits);
        if length > 0 {
            rest = &rest[length..];
        } else {
            rest = &rest[next.len_utf8()..];
        }
        if length == 0 && next != BLANK {
            text.push(next);
        } else if !text.ends_with(BLANK) {
            text.push(BLANK);
        }
    }
    text
}

/// Returns the length of a Rust placeholder at the start of the text.
fn rust_blank(text: &str) -> Option<usize> {
    let length = text.strip_prefix('{')?.find('}')? + 2;
    (!text[1..].starts_with('{') && !text[..length].contains(' ')).then_some(length)
}

/// Returns the length of a C placeholder at the start of the text, including PostgreSQL's quotes around it.
fn c_blank(text: &str) -> Option<usize> {
    let quoted = text.strip_prefix('"').and_then(c_blank);
    if let Some(length) = quoted {
        return text[length + 1..].starts_with('"').then_some(length + 2);
    }
    let length = text.strip_prefix('%')?.find(|c: char| c.is_ascii_alphabetic() && c != 'l')? + 2;
    (length < 8).then_some(length)
}

/// Returns the string literals in Rust code.
fn literals(code: &str) -> Vec<String> {
    let mut literals = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let found = &rest[at..];
        rest = if found.starts_with("//") {
            found.split_once('\n').map_or("", |(_, rest)| rest)
        } else if found.starts_with("'\"'") || found.starts_with("'\\\"'") {
            found[1..].split_once('\'').map_or("", |(_, rest)| rest)
        } else if let Some(text) = found.strip_prefix('"') {
            let hashes = rest[..at].len() - rest[..at].trim_end_matches('#').len();
            let is_raw = rest[..at].trim_end_matches('#').ends_with('r');
            let end = if is_raw { text.find(&format!("\"{}", "#".repeat(hashes))) } else { end_of(text) };
            let (literal, rest) = text.split_at(end.unwrap_or(text.len()));
            literals.push(if is_raw { literal.to_owned() } else { unescaped(literal) });
            rest.strip_prefix('"').unwrap_or("")
        } else {
            &found[1..]
        };
    }
    literals
}

/// Returns the end of a literal that is not raw.
fn end_of(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })
}

fn unescaped(literal: &str) -> String {
    let lines = literal.split("\\\n").enumerate();
    let joined: String = lines.map(|(n, line)| if n == 0 { line } else { line.trim_start() }).collect();
    joined.replace("\\\"", "\"").replace("\\\\", "\\")
}

/// Reads the code of all files below a directory of the package, without their tests.
fn code_below(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.map(|path| match path.extension() {
        _ if path.is_dir() => code_below(&path),
        Some(extension) if extension == "rs" => {
            let text = fs::read_to_string(&path).unwrap();
            text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()
        }
        _ => String::new(),
    });
    texts.collect()
}

/// Messages of programs: walkeep's own, the server's, and error names of the system and of libraries.
struct Messages {
    own: Vec<String>,
    server: Vec<String>,
    others: String,
}

static MESSAGES: LazyLock<Messages> = LazyLock::new(Messages::all);

impl Messages {
    fn all() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let rooms = ["src", "core/src"].map(|directory| package.join(directory));
        let code: String = rooms.iter().filter(|room| room.exists()).map(|room| code_below(room)).collect();
        let own = literals(&code).iter().map(|literal| with_blanks(literal, rust_blank)).collect();
        let server = fs::read(postgres::program("postgres")).unwrap();
        let texts = server.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok());
        let sentences = texts.filter(|text| text.contains(' '));
        let server = sentences.map(|text| with_blanks(text, c_blank)).collect();
        let program = fs::read(Sandbox::new().program("walkeep")).unwrap();
        let system: String =
            (1..134).map(|code| io::Error::from_raw_os_error(code).to_string() + "\n").collect();
        Self { own, server, others: system + &String::from_utf8_lossy(&program) }
    }

    /// Returns `true` if a message of the guide is one of them, or a part of one.
    fn hold(&self, message: &str) -> bool {
        let wanted = with_blanks(message, |_| None);
        let wanted = wanted.trim_matches(|c| c == BLANK || c == ' ');
        let is_in = |messages: &[String]| messages.iter().any(|text| text.contains(wanted));
        // Error names of others are a few words; a sentence is walkeep's or the server's.
        let is_name = wanted.split(' ').count() < 6 && !wanted.contains(BLANK);
        is_in(&self.own) || is_in(&self.server) || is_name && self.others.contains(wanted)
    }
}

/// Returns the messages in the first column of the guide's tables.
fn explained(guide: &str) -> Vec<&str> {
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split("` | ").next());
    rows.flat_map(|row| row.split("` or `")).collect()
}

#[test]
fn every_message_that_the_guide_explains_is_one_that_a_program_writes() {
    let guide = page(GUIDE);
    let explained = explained(&guide);
    assert!(explained.len() > 120, "{}", explained.len());
    let invented: Vec<_> = explained.iter().filter(|message| !MESSAGES.hold(message)).collect();
    assert!(invented.is_empty(), "no program writes what {GUIDE} explains: {invented:#?}");
}

#[test]
fn a_section_of_the_guide_that_a_message_names_is_on_that_page() {
    let naming = MESSAGES.own.iter().filter(|text| text.contains("guide/"));
    let wrong: Vec<_> = naming.filter(|message| !names_a_section(message)).collect();
    assert!(wrong.is_empty(), "no section of the guide is named by {wrong:#?}");
    assert!(names_a_section("see \"A drill has archived\" in guide/drills.md"));
    assert!(!names_a_section("see \"A drill has archived\" in guide/recovery.md"));
}

/// Returns `true` if a message names a section, and the page that it is on: `see "HEADING" in guide/PAGE.md`.
fn names_a_section(message: &str) -> bool {
    let (before, after) = message.split_once("guide/").unwrap();
    let name = after.split(".md").next().unwrap();
    let heading = before.strip_suffix("\" in ").and_then(|before| before.rsplit('"').next());
    heading.is_some_and(|heading| page(&format!("docs/guide/{name}.md")).contains(&format!("# {heading}\n")))
}

#[test]
fn a_message_that_no_program_writes_is_detected() {
    assert!(MESSAGES.hold("the archive directory … does not exist"));
    assert!(MESSAGES.hold("archive command failed with exit code 3"));
    assert!(MESSAGES.hold("No space left on device"));
    for invented in [
        "the archive directory … does not exits",
        "the archive directory … is not there",
        "archive command failed with exit status 3",
        "NoSuchBasket",
        "No space left at device",
    ] {
        assert!(!MESSAGES.hold(invented), "{invented}");
    }
}

#[test]
fn literals_are_read_as_the_compiler_reads_them() {
    let code = r##"let a = "one \"two\" {x}"; // "no"
        let b = "three \
                 four"; let c = r#"five "six" 6"#; let d = '"'; let e = "seven";"##;
    assert_eq!(literals(code), ["one \"two\" {x}", "three four", "five \"six\" 6", "seven"]);
    assert_eq!(with_blanks("took {took:#} of 16 MB", rust_blank), "took … of … MB");
    assert_eq!(with_blanks("file \"%s\" has %08lX and 100 %", c_blank), "file … has … and … %");
}
