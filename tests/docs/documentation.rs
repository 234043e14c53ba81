//! Commands in the documentation work.
//!
//! Each test takes its commands from the text, so that neither can change without the other.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::{
    archive::ArchiveDirectory,
    cluster::Cluster,
    data_directory::DataDirectory,
    guide::{self, page},
    kept::{Kept, name},
    output_of, package,
    push::SYSTEM,
    sandbox::Sandbox,
};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format-1");

/// Returns the one line of `page` that starts with `beginning`.
fn line(page: &str, beginning: &str) -> String {
    let lines: Vec<&str> = page.lines().filter(|line| line.trim_start().starts_with(beginning)).collect();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.trim() == lines[0].trim()),
        "{beginning}: {lines:?}"
    );
    lines[0].trim().to_owned()
}

/// Runs a line of the documentation with other names.
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

/// Returns the configuration file in a page.
fn example(name: &str) -> String {
    let page = page(name);
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    example.lines().fold(String::new(), |example, line| example + line.trim_start() + "\n")
}

#[test]
fn the_configuration_file_of_a_store_is_accepted() {
    let sandbox = Sandbox::new();
    let example =
        example("docs/guide/stores.md").replace("https://minio.example:9000", "https://127.0.0.1:1");
    let file = sandbox.file("walkeep.toml", example);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let output = sandbox.walkeep().args(["check", "--config"]).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("✗ archive        cannot list s3://bucket/prefix"), "{text}");
    assert!(
        text.contains("Connection refused"),
        "the store, not the configuration, is what is missing: {text}"
    );
}

#[test]
fn every_setting_of_a_store_in_the_guide_exists() {
    let sandbox = Sandbox::new();
    let guide = page("docs/guide/stores.md");
    let settings = guide.split("## Settings in").nth(1).unwrap().split("\n## ").next().unwrap();
    let names: Vec<&str> =
        settings.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(names.contains(&"ca_file") && names.len() > 9, "{names:?}");
    for name in names {
        let value = match name {
            "virtual_hosted_style_request" | "allow_http" => "true",
            "conditional_put" => "'auto'",
            "connect_timeout" | "read_timeout" => "'1s'",
            "proxy_url" => "'http://127.0.0.1:1'",
            "checksum_algorithm" => "'sha256'",
            "tags" => "'team=db'",
            "endpoint" => "'https://127.0.0.1:1'",
            _ => "'x'",
        };
        let file = sandbox.file("one.toml", format!("archive = 's3://wal'\n[store]\n{name} = {value}"));
        let output = sandbox
            .walkeep()
            .args(["cat", "00000002.history", "--timeout", "1s", "--config"])
            .arg(file)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            !stderr.contains(&format!("setting {name}")) && !stderr.contains("[store]:"),
            "{name}: {stderr}"
        );
    }
}

#[test]
fn the_checks_in_the_guides_pass_on_a_server_that_archives() {
    let sandbox = Sandbox::new();
    let archive = ArchiveDirectory::new(&sandbox);
    let mut server = Cluster::new(&sandbox, "data");
    server.archive_into(&archive);
    server.restore_from(&archive);
    server.start();
    // Before the check, as the README says.
    let backups =
        ["README.md", "docs/guide/first-hour.md"].map(|name| line(&page(name), "pg_basebackup -D "));
    assert_eq!(backups[0], backups[1]);
    let backup = backups[0].replace("/mnt/backup/2026-01-02", sandbox.join("backup").to_str().unwrap());
    let words: Vec<&str> = backup.split(' ').collect();
    output_of(server.client(words[0]).args(&words[1..]).arg("--checkpoint=fast"));
    let commands = ["README.md", "docs/guide/first-hour.md", "docs/guide/stores.md"].map(|name| {
        line(&page(name), "walkeep check --")
            .replace("check --pgdata", "check --archive /mnt/archive --pgdata")
    });
    assert_eq!(commands[0], commands[1]);
    assert_eq!(commands[0], commands[2]);
    let of_restoring = line(&page("docs/guide/failover.md"), "walkeep check --");
    for (command, tick) in [(&commands[0], "✓ switch"), (&of_restoring, "✓ restore_command")] {
        let command = command
            .replace("/mnt/archive", archive.url())
            .replace("/var/lib/postgresql/15/main", server.data().to_str().unwrap());
        let words: Vec<&str> = command.split(' ').collect();
        let mut check = server.client(sandbox.program(words[0]).to_str().unwrap());
        let text = output_of(check.args(&words[1..]));
        assert!(text.lines().all(|line| !line.starts_with('✗')), "{text}");
        assert!(text.contains(tick), "{text}");
    }
}

#[test]
fn the_configuration_files_of_the_guides_are_accepted() {
    let sandbox = Sandbox::new();
    for page in ["docs/guide/configuration.md", "docs/guide/first-hour.md"] {
        let file = sandbox.file("walkeep.toml", example(page));
        let mut cat = sandbox.walkeep();
        let output = cat.args(["cat", "--timeout", "1s", "00000002.history", "--config"]).arg(file).output();
        let stderr = String::from_utf8(output.unwrap().stderr).unwrap();
        let lacks_the_archive = stderr.contains("/mnt/archive");
        assert!(
            lacks_the_archive,
            "the archive, not the configuration, is what is missing: {page}: {stderr}"
        );
    }
}

#[test]
fn every_setting_of_the_guide_exists_and_every_flag_is_in_the_guide() {
    let sandbox = Sandbox::new();
    let guide = page("docs/guide/configuration.md");
    let keeping = KEEPING.map(page).concat() + &page("docs/guide/damage.md");
    for (program, command) in [
        ("walkeep-archive", None),
        ("walkeep-restore", None),
        ("walkeep", Some("backfill")),
        ("walkeep", Some("cat")),
        ("walkeep", Some("check")),
        ("walkeep", Some("prune")),
        ("walkeep", Some("verify")),
        ("walkeep", Some("list")),
        ("walkeep", Some("status")),
    ] {
        let help = output_of(sandbox.command(sandbox.program(program)).args(command).arg("--help"));
        let flags = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        for flag in flags.map(|flag| flag.trim_end_matches(|c: char| !c.is_ascii_lowercase())) {
            let known = ["help", "version", "output"].contains(&flag);
            let told = || guide.contains(&format!("`--{flag}`")) || keeping.contains(&format!("--{flag}"));
            assert!(known || told(), "--{flag} of {program} {command:?}");
        }
    }
    let keys = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for key in keys.filter(|key| !key.starts_with('[')) {
        let value = match key {
            "archive" => "'/mnt/archive'",
            "require_mount" => "true",
            "compression" => "'none'",
            "log_format" => "'text'",
            "compression_level" | "look_ahead_files" | "connections" | "keep_backups" | "keep_days"
            | "keep_wal_days" => "1",
            "backup_dirs" => "['/mnt/backup']",
            "given_up_timelines" | "held_timelines" => "[3]",
            "backup_labels" => "['nightly*']",
            "look_ahead_memory" | "prefetch_size" => "'1MB'",
            "spool" => "'/nowhere'",
            _ => "'1s'",
        };
        let file = sandbox.file("one.toml", format!("{key} = {value}"));
        let output =
            sandbox.walkeep().args(["cat", "00000002.history", "--config"]).arg(file).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("one.toml"), "{key}: {stderr}");
    }
}

/// Pages about maintenance of an archive.
const KEEPING: [&str; 5] = [
    "docs/guide/many-clusters.md",
    "docs/guide/retention.md",
    "docs/guide/verify.md",
    "docs/guide/monitoring.md",
    "docs/guide/troubleshooting.md",
];

/// Returns the lines in a page's blocks of shell commands.
fn commands(page: &str) -> Vec<String> {
    guide::blocks(page)
        .iter()
        .flat_map(|block| block.lines())
        .map(str::to_owned)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_commands_for_keeping_an_archive_work() {
    let kept = Kept::new();
    kept.segments(1, 1..=14, 2);
    kept.backup(1, 3, 3, 20);
    kept.backup(1, 9, 9, 2);
    let bin = kept.sandbox.program("walkeep");
    let data = DataDirectory::new(&kept.sandbox, "data", SYSTEM);
    fs::create_dir(data.join("pg_wal/archive_status")).unwrap();
    let metrics = kept.sandbox.join("walkeep.prom");
    let readme = page("README.md");
    let look_after = readme.split("## Look after the archive").nth(1).unwrap().split("\n## ").next().unwrap();
    let closing_the_gap = guide::section("docs/guide/failover.md", "## Close the gap");
    let looking = guide::section("docs/guide/damage.md", "# A damaged or missing segment");
    let pages = KEEPING.map(page);
    let texts = [look_after, &closing_the_gap, &looking].into_iter().chain(pages.iter().map(String::as_str));
    let commands: Vec<_> = texts.flat_map(commands).collect();
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        let command = command.replace("/mnt/archive", kept.archive.url());
        let command = command.replace("/var/lib/postgresql/15/main", data.join("").to_str().unwrap());
        let command =
            command.replace("/var/lib/prometheus/node-exporter/walkeep.prom", metrics.to_str().unwrap());
        let path = format!("PATH={}:$PATH ", bin.parent().unwrap().display());
        output_of(kept.sandbox.command("sh").args(["-c", &(path + &command)]));
    }
    assert!(!kept.names().contains(&name(1, 2)) && kept.names().contains(&name(1, 3)));
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
fn every_block_of_commands_is_one_that_a_test_runs() {
    // Number of blocks per page, and the test that runs them.
    let run = [
        ("README.md", 7, "documentation, and scripts/demo, which builds it"),
        ("docs/format.md", 5, "documentation"),
        ("docs/guide/archiving.md", 1, "documentation"),
        ("docs/guide/conflict.md", 3, "history_conflict, drill"),
        ("docs/guide/damage.md", 3, "documentation, damaged_segment"),
        ("docs/guide/drills.md", 1, "drill"),
        ("docs/guide/failover.md", 7, "documentation, failover"),
        ("docs/guide/first-hour.md", 2, "documentation"),
        ("docs/guide/from-cp.md", 1, "moving_from_cp"),
        ("docs/guide/install.md", 1, "scripts/demo, which installs what it builds"),
        ("docs/guide/many-clusters.md", 2, "documentation"),
        ("docs/guide/monitoring.md", 2, "documentation"),
        ("docs/guide/recovery.md", 1, "moving_from_cp"),
        ("docs/guide/retention.md", 2, "documentation"),
        ("docs/guide/stores.md", 1, "documentation"),
        ("docs/guide/troubleshooting.md", 1, "documentation"),
        ("docs/guide/verify.md", 3, "documentation"),
    ];
    for name in pages() {
        let known = run.iter().find(|(page, ..)| *page == name).map_or(0, |(_, blocks, _)| *blocks);
        let text = page(&name);
        let shown = guide::blocks(&text).len();
        assert_eq!(shown, known, "{name}: let a test run the new block, and say here which one does");
    }
}

#[test]
fn the_two_lines_in_the_readme_are_those_of_the_demo() {
    let (readme, demo) = (page("README.md"), page("scripts/demo"));
    for command in ["walkeep-archive --archive ", "walkeep-restore --archive "] {
        assert!(readme.contains(&format!("_command = '{command}/mnt/archive %")), "{command}");
        assert!(demo.contains(&format!("_command=\"{command}$work/archive %")), "{command}");
    }
}

#[test]
fn every_promise_of_the_readme_names_tests_that_exist() {
    let readme = page("README.md");
    let promises: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.trim_start_matches("- ").strip_prefix("**")?.split("**").next())
        .take_while(|promise| !promise.starts_with("Without"))
        .collect();
    assert!(promises.len() > 6, "{promises:?}");
    let rows = guide::section("CONTRIBUTING.md", "## Promises");
    for promise in promises {
        let promise = promise.trim_end_matches(':');
        assert!(rows.contains(&format!("\n| {promise} | ")), "{promise}");
    }
    let tests = rows.split('`').skip(1).step_by(2).filter_map(|name| name.rsplit_once("::"));
    for (module, test) in tests {
        let file = page(&format!("tests/{}.rs", module.replace("::", "/")));
        assert!(file.contains(&format!("\nfn {test}() {{")), "{module}::{test}");
    }
}

/// Lists the pages of the documentation.
fn pages() -> Vec<String> {
    let guides = fs::read_dir(format!("{}/docs/guide", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let guides = guides.map(|guide| format!("docs/guide/{}", guide.unwrap().file_name().to_str().unwrap()));
    let others = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "packaging/README.md",
        "docs/README.md",
        "docs/design.md",
        "docs/format.md",
    ];
    guides.chain(others.map(str::to_owned)).collect()
}

#[test]
fn every_page_is_in_the_index() {
    let index = page("docs/README.md");
    for name in
        pages().iter().filter_map(|name| name.strip_prefix("docs/")).filter(|name| *name != "README.md")
    {
        assert!(index.contains(&format!("]({name})")), "{name}");
    }
    assert!(page("README.md").contains("](docs/README.md)"));
}

/// Returns the anchors of a page's headings.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
    let is_kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    let words = headings.map(|text| text.trim().to_lowercase().chars().filter(is_kept).collect::<String>());
    words.map(|text| text.replace(' ', "-")).collect()
}

#[test]
fn every_link_within_the_documentation_leads_somewhere() {
    let mut checked = 0;
    for from in pages() {
        let (directory, _) = from.rsplit_once('/').unwrap_or_default();
        let text = page(&from);
        let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = Path::new(directory).join(path);
            let to = if path.is_empty() { &from } else { to.to_str().unwrap() };
            assert!(package().join(to).exists(), "{link} in {from}");
            assert!(anchor.is_empty() || anchors(&page(to)).contains(&anchor.to_owned()), "{link} in {from}");
            checked += 1;
        }
    }
    assert!(checked > 150, "{checked}");
}

#[test]
fn the_form_for_faults_names_flags_that_exist() {
    let sandbox = Sandbox::new();
    let help = output_of(sandbox.command(sandbox.program("walkeep-archive")).arg("--help"));
    let form = page(".github/ISSUE_TEMPLATE/fault.yml");
    let flags: Vec<&str> = form
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.starts_with('-'))
        .filter_map(|code| code.split(' ').next())
        .collect();
    assert!(!flags.is_empty());
    for flag in flags {
        assert!(help.contains(&format!(" {flag}")), "{flag}");
    }
}
