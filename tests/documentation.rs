//! The commands that the documentation shows are the ones that work.
//!
//! Each test takes its commands out of the text, so that neither can change without the other.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

mod support;

use std::fs;

use support::{archive::ArchiveDirectory, cluster::Cluster, output_of, sandbox::Sandbox};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format-1");

fn page(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The one line of `page` that begins so.
fn line(page: &str, beginning: &str) -> String {
    let lines: Vec<&str> = page.lines().filter(|line| line.trim_start().starts_with(beginning)).collect();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.trim() == lines[0].trim()),
        "{beginning}: {lines:?}"
    );
    lines[0].trim().to_owned()
}

/// Runs a line of the documentation with other names in it.
fn shell(sandbox: &Sandbox, line: &str, replacements: &[(&str, &str)]) -> String {
    let line = replacements.iter().fold(line.to_owned(), |line, (from, to)| {
        assert!(line.contains(from), "{from} in {line}");
        line.replace(from, to)
    });
    output_of(sandbox.command("sh").args(["-c", &line]))
}

#[test]
fn an_archived_file_is_opened_with_zstd_or_without() {
    let sandbox = Sandbox::new();
    let page = page("docs/format.md");
    let zstd = format!("{SAMPLES}/000000010000000000000005.00000028.backup");
    let none = format!("{SAMPLES}/00000002.history");
    for sample in [&zstd, &none] {
        let name = sample.rsplit('/').next().unwrap();
        sandbox.file(name, fs::read(sample).unwrap());
    }
    let (zstd, none) = (zstd.rsplit('/').next().unwrap(), none.rsplit('/').next().unwrap());
    let name = "000000010000000A000000FF";

    shell(&sandbox, &line(&page, "zstd -dc < 0000"), &[(name, zstd)]);
    assert!(fs::read_to_string(sandbox.join("segment")).unwrap().starts_with("START WAL LOCATION: "));
    shell(&sandbox, &line(&page, "tail -c +1025 000000010000000A000000FF > segment"), &[(name, none)]);
    assert!(fs::read_to_string(sandbox.join("segment")).unwrap().starts_with("1\t0/C000158\t"));

    let header = shell(&sandbox, &line(&page, "head -c 1024"), &[(name, zstd)]);
    let body =
        shell(&sandbox, &line(&page, "tail -c +1025 000000010000000A000000FF | sha256sum"), &[(name, zstd)]);
    assert!(
        header.contains(&format!("\"sha256\":\"{}\"", body.split(' ').next().unwrap())),
        "{header} {body}"
    );
    let seal = shell(&sandbox, &line(&page, "head -c 959"), &[(name, zstd)]);
    assert!(header.ends_with(seal.split(' ').next().unwrap()), "{header} {seal}");
}

#[test]
fn a_server_recovers_without_walkeep_by_the_emergency_recipe() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut primary = Cluster::new(&sandbox, "primary");
    primary.archive_into(&archive);
    primary.start();
    let mut recovered = primary.base_backup("recovered");
    primary.sql("create table kept as select generate_series(1, 1000) as id");
    primary.archive_segment();

    let recipe = line(&page("docs/format.md"), "restore_command = 'f=");
    let system = format!("{}/{}", archive.url(), primary.system_identifier());
    let recipe = recipe.replace("/mnt/archive/7381092445103374871", &system);
    recovered.recover_from(&archive, &[]);
    // The last line of the file counts.
    recovered.set(
        "restore_command",
        recipe.strip_prefix("restore_command = '").unwrap().strip_suffix('\'').unwrap(),
    );
    recovered.start();
    assert_eq!(recovered.sql("select count(*) from kept"), "1000");
}

#[test]
fn the_configuration_file_of_the_guide_is_accepted() {
    let sandbox = Sandbox::new();
    let guide = page("docs/guide/configuration.md");
    let example = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let file = sandbox.file("walkeep.toml", example);
    let output =
        sandbox.walkeep().args(["cat", "--timeout", "1s", "00000002.history", "--config"]).arg(file).output();
    let stderr = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(
        stderr.contains("/mnt/archive"),
        "the archive, not the configuration, is what is missing: {stderr}"
    );
}

#[test]
fn every_setting_of_the_guide_exists_and_every_flag_is_in_the_guide() {
    let sandbox = Sandbox::new();
    let guide = page("docs/guide/configuration.md");
    for (program, command) in [("walkeep-archive", None), ("walkeep-restore", None), ("walkeep", Some("cat"))]
    {
        let help = output_of(sandbox.command(sandbox.program(program)).args(command).arg("--help"));
        let flags = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        for flag in flags.map(|flag| flag.trim_end_matches(|c: char| !c.is_ascii_lowercase())) {
            let known = ["help", "version", "output"].contains(&flag);
            assert!(known || guide.contains(&format!("`--{flag}`")), "--{flag} of {program}");
        }
    }
    for key in guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()) {
        let value = match key {
            "archive" => "'/mnt/archive'",
            "require_mount" => "true",
            "compression" => "'none'",
            "compression_level" => "1",
            "log_format" => "'text'",
            _ => "'1s'",
        };
        let file = sandbox.file("one.toml", format!("{key} = {value}"));
        let output =
            sandbox.walkeep().args(["cat", "00000002.history", "--config"]).arg(file).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("one.toml"), "{key}: {stderr}");
    }
}

#[test]
fn the_commands_of_the_guides_work() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    sandbox.file("00000002.history", "1\t0/C000158\tno recovery target specified\n");
    let path = format!("PATH={}:$PATH ", sandbox.program("walkeep").parent().unwrap().display());
    let push = line(&page("docs/guide/archiving.md"), "walkeep-archive --archive");
    shell(&sandbox, &(path.clone() + &push), &[("/mnt/archive", archive.url())]);

    let readme = page("README.md");
    let cat = readme.split("`walkeep cat").nth(1).unwrap().split('`').next().unwrap();
    let names = [("/mnt/archive", archive.url()), ("00000001000000000000002A", "00000002.history")];
    shell(&sandbox, &format!("{path}walkeep cat{cat}"), &names);
    assert!(fs::read_to_string(sandbox.join("segment")).unwrap().starts_with("1\t0/C000158"));
}

#[test]
fn the_two_lines_of_the_readme_are_those_of_the_demo() {
    let (readme, demo) = (page("README.md"), page("scripts/demo"));
    for command in ["walkeep-archive --archive ", "walkeep-restore --archive "] {
        assert!(readme.contains(&format!("_command = '{command}/mnt/archive %")), "{command}");
        assert!(demo.contains(&format!("_command=\"{command}$work/archive %")), "{command}");
    }
}
