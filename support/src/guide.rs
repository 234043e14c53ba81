//! The text of the documentation, and the shell commands that it shows.
//!
//! Tests run the commands of the text, so that the text stays true.

use std::{fs, path::Path};

use super::{archive::ArchiveDirectory, output_of, package, postgres, sandbox::Sandbox};

/// Path of the archive in the guides.
pub const ARCHIVE: &str = "/mnt/archive";

/// System identifier in the guides.
pub const SYSTEM: &str = "7381092445103374871";

/// Reads a page, by its path in the package.
pub fn page(name: &str) -> String {
    fs::read_to_string(package().join(name)).unwrap()
}

/// Returns the text below a heading of a page, such as `## Drills`, up to the next heading of any level.
pub fn section(name: &str, heading: &str) -> String {
    let page = page(name);
    let (_, rest) = page.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("{heading} in {name}"));
    // A comment in a block of commands looks like a heading.
    let mut in_block = false;
    let is_part = |line: &&str| {
        in_block ^= line.trim_start().starts_with("```");
        in_block || !line.starts_with('#')
    };
    rest.lines().take_while(is_part).fold(String::new(), |section, line| section + line + "\n")
}

/// Returns the blocks of shell commands in a text, without their indentation.
pub fn blocks(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| block.lines().map(|line| line.trim().to_owned() + "\n").collect()).collect()
}

/// Returns the one block of a text that contains `part`.
pub fn block_with(text: &str, part: &str) -> String {
    let mut found = blocks(text).into_iter().filter(|block| block.contains(part));
    let block = found.next().unwrap_or_else(|| panic!("no block with {part} in {text}"));
    assert!(found.next().is_none(), "two blocks with {part}");
    block
}

/// Runs a block in a directory as the servers' user, with the tests' names in place of the guide's, all of which must
/// occur; returns its output.
pub fn run(sandbox: &Sandbox, directory: &Path, block: &str, names: &[(&str, &str)]) -> String {
    let script = names.iter().fold(block.to_owned(), |script, (from, to)| {
        assert!(script.contains(from), "{from} in {block}");
        script.replace(from, to)
    });
    let (programs, servers) = (sandbox.program("walkeep"), postgres::program("postgres"));
    let [programs, servers] =
        [programs, servers].map(|program| program.parent().unwrap().display().to_string());
    let script = format!("set -e\nPATH={programs}:{servers}:$PATH\n{script}");
    output_of(sandbox.command("sh").args(["-c", &script]).current_dir(directory))
}

/// Returns the guide's section about two servers that archive under the same names.
pub fn conflict() -> String {
    page("docs/guide/conflict.md")
}

/// Moves files out of a cluster's archive, by the recipe for a conflict that contains `part`.
pub fn move_aside(sandbox: &Sandbox, archive: &ArchiveDirectory, part: &str, names: &[(&str, &str)]) {
    let systems = fs::read_dir(archive.url()).unwrap().map(|entry| entry.unwrap().file_name());
    let systems: Vec<_> = systems.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(systems.len(), 1);
    let aside = sandbox.join("aside");
    let common = [(ARCHIVE, archive.url()), (SYSTEM, &systems[0]), ("/mnt/aside", aside.to_str().unwrap())];
    run(sandbox, sandbox.path(), &block_with(&conflict(), part), &[&common, names].concat());
}
