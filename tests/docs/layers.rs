//! Structure of the source: imports in one direction, pure modules, and short files.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the point"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Private helper modules, which are not listed, each with the first module that may use it.
const HELPERS: [(&str, &str); 2] = [("blocking", "call"), ("scene", "list")];

/// Sources of the two crates, from the ground up.
const CORE: &str = "core/src";
const WALKEEP: &str = "src";

const MOST_LINES: usize = 500;

struct Source {
    /// Path relative to the package.
    path: PathBuf,
    text: String,
}

impl Source {
    /// Reads all sources below a directory of the package.
    fn below(directory: &str) -> Vec<Self> {
        let mut sources = Vec::new();
        let mut directories = vec![PathBuf::from(directory)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(package().join(&directory)).unwrap().map(Result::unwrap) {
                let path = directory.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(package().join(&path)).unwrap();
                    sources.push(Self { path, text });
                }
            }
        }
        assert!(!sources.is_empty(), "{directory}");
        sources
    }

    /// Returns the top-level module of the file; `lib` for the crate itself.
    fn room(&self, sources: &str) -> String {
        let first = self.path.strip_prefix(sources).unwrap().components().next().unwrap();
        Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
    }

    /// Returns `true` if the file is the module's own and not a part of it.
    fn is_root_of_room(&self, sources: &str) -> bool {
        self.path.parent() == Some(Path::new(sources)) || self.path.ends_with("mod.rs")
    }

    /// Returns the text without comments, and without the tests at its end.
    fn code(&self) -> String {
        let code = match self.text.split_once("#[cfg(test)]\n") {
            None => &self.text,
            Some((code, tests)) => {
                assert!(tests.starts_with("mod tests {"), "{}: tests do not end it", self.path.display());
                code
            }
        };
        let without_comment = |line: &'_ str| line.split("//").next().unwrap_or_default().to_owned();
        code.lines().map(without_comment).collect::<Vec<_>>().join("\n")
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the names that follow `root`, such as `std::`, in imports and expressions: `fs` and `io` in `std::{fs,
/// io::Read}`.
fn names_below(root: &str, code: &str) -> BTreeSet<String> {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let first_name =
        |path: &str| path.trim_start().split(|c| !in_name(c)).next().unwrap_or_default().to_owned();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(root).filter(|(at, _)| !code[..*at].ends_with(in_name)) {
        let path = &code[at + root.len()..];
        match path.strip_prefix('{') {
            None => drop(names.insert(first_name(path))),
            Some(group) => names.extend(parts_of_group(group).into_iter().map(first_name)),
        }
    }
    names
}

/// Splits a group at its commas, up to its closing brace.
fn parts_of_group(group: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Returns the modules in the order of the list in a crate's `lib.rs`, helpers included.
fn rooms(sources: &str) -> Vec<String> {
    let text = fs::read_to_string(package().join(sources).join("lib.rs")).unwrap();
    let listed = text.lines().filter_map(|line| line.strip_prefix("//! - ")?.split(':').next());
    let mut rooms: Vec<String> =
        listed.flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    for (helper, first_user) in HELPERS.iter().filter(|_| sources == WALKEEP) {
        let at = rooms.iter().position(|room| room == first_user).unwrap();
        rooms.insert(at, (*helper).to_owned());
    }
    rooms
}

#[test]
fn the_lists_of_rooms_are_complete() {
    for sources in [CORE, WALKEEP] {
        let text = fs::read_to_string(package().join(sources).join("lib.rs")).unwrap();
        let declared = text.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
        let mut declared: BTreeSet<_> =
            declared.map(|module| module.trim_end_matches(';').to_owned()).collect();
        if sources == WALKEEP {
            declared.extend(rooms(CORE));
        }
        assert_eq!(rooms(sources).into_iter().collect::<BTreeSet<_>>(), declared, "{sources}");
    }
}

#[test]
fn imports_run_one_way() {
    for sources in [CORE, WALKEEP] {
        imports_run_one_way_in(sources);
    }
}

fn imports_run_one_way_in(sources: &str) {
    let rooms = rooms(sources);
    let position = |name: &str| rooms.iter().position(|room| room == name);
    for source in Source::below(sources) {
        let room = source.room(sources);
        if room == "lib" {
            continue;
        }
        let (path, code) = (source.path.display(), source.code());
        let own = position(&room).unwrap_or_else(|| panic!("{path}: lib.rs lists no {room}"));
        for used in names_below("crate::", &code) {
            let its = position(&used).unwrap_or_else(|| panic!("{path}: crate::{used} is no room"));
            assert!(its <= own, "{path} uses {used}, which comes after {room} in lib.rs");
        }
        // Other ways to reach another module, which the loop above does not see.
        assert!(!code.contains("super::super::"), "{path}: write crate:: to leave a room");
        assert!(
            !source.is_root_of_room(sources) || !code.contains("super::"),
            "{path}: write crate:: to leave a room"
        );
    }
}

#[test]
fn the_binaries_call_cli_and_nothing_else() {
    for source in Source::below("bin") {
        let used = names_below("walkeep::", &source.code());
        assert_eq!(used.into_iter().collect::<Vec<_>>(), ["cli"], "{}", source.path.display());
    }
}

#[test]
fn the_core_touches_no_file_clock_or_environment() {
    let all = ["env", "fs", "net", "os", "path", "process"];
    let with_pure = |more: &[&'static str]| [&all[..], more].concat();
    for source in Source::below(CORE) {
        let (path, code) = (source.path.display(), source.code());
        let forbidden = match source.room(CORE).as_str() {
            "wal" | "coverage" | "retention" => with_pure(&["io", "sync", "thread", "time"]),
            // Computes the time left from a start time passed in.
            "limit" => with_pure(&["io", "thread"]),
            _ => with_pure(&["time"]),
        };
        for name in names_below("std::", &code) {
            assert!(!forbidden.contains(&name.as_str()), "{path} uses std::{name}");
        }
        for word in ["SystemTime", "::now("] {
            assert!(!code.contains(word), "{path} uses {word}");
        }
    }
}

#[test]
fn no_operator_moves_a_moment_that_may_be_at_the_end_of_time() {
    // Files and stores can name any moment, and operators of jiff and of the standard library panic beyond the last one.
    let moments = ["Timestamp::now()", "SystemTime::now()", "now", "since", "ended", "moment", "modified"];
    let files = [CORE, WALKEEP].into_iter().flat_map(Source::below);
    // The crate's own file lists its rooms, one of which is for tests.
    for source in files.filter(|source| !source.path.ends_with("lib.rs")) {
        for line in source.code().lines() {
            let moved = moments.iter().find(|moment| {
                let operators = [" + ", " - ", " += ", " -= "].map(|operator| format!("{moment}{operator}"));
                let mut found = operators.iter().flat_map(|words| line.match_indices(words.as_str()));
                found.any(|(at, _)| !line[..at].ends_with(char::is_alphanumeric))
            });
            assert!(moved.is_none(), "{}: use checked_add or checked_sub: {line}", source.path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_is_short_enough_to_read() {
    for source in [CORE, WALKEEP, "bin", "tests", "core/tests", "support/src", "fuzz/promises/src"]
        .into_iter()
        .flat_map(Source::below)
    {
        let (path, lines) = (source.path.display(), source.text.lines().count());
        assert!(source.text.starts_with("//! "), "{path} does not begin with what it is");
        assert!(lines <= MOST_LINES, "{path} has {lines} lines: make two rooms of it");
    }
}

#[test]
fn names_are_found_wherever_paths_are_written() {
    let code = "use std::{\n    fs,\n    io::{self, Read},\n};\nuse std::env;\nlet a = std::time::Instant::now();\n\
                use my_std::net;";
    assert_eq!(names_below("std::", code).into_iter().collect::<Vec<_>>(), ["env", "fs", "io", "time"]);
}
