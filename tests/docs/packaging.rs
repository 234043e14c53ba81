//! Files installed by packages work with systemd and cron.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the point")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use support::{kept::Kept, output_of, package, running::outcome_of, sandbox::Sandbox};

const UNITS: [&str; 6] = [
    "walkeep-prune.service",
    "walkeep-prune.timer",
    "walkeep-status.service",
    "walkeep-status.timer",
    "walkeep-verify.service",
    "walkeep-verify.timer",
];

/// Maximum exposure of a service, on systemd's scale from 0 to 10.
const MOST_EXPOSED: f64 = 3.0;

fn packaged(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)).unwrap()
}

/// Returns what the Debian package and the one for Red Hat's family install from the sources: each file with its source.
fn installed() -> [BTreeMap<PathBuf, PathBuf>; 2] {
    let manifest: toml::Table = fs::read_to_string(package().join("Cargo.toml")).unwrap().parse().unwrap();
    let metadata = &manifest["package"]["metadata"];
    [(metadata, "deb", ["0", "1"]), (metadata, "generate-rpm", ["source", "dest"])].map(
        |(metadata, kind, [source, to])| {
            let mut files = BTreeMap::new();
            for asset in metadata[kind]["assets"].as_array().unwrap() {
                let field = |name: &str| {
                    let value = name.parse::<usize>().map_or_else(|_| &asset[name], |index| &asset[index]);
                    value.as_str().unwrap().to_owned()
                };
                let (source, to) = (field(source), field(to));
                if source.starts_with("target/") {
                    continue;
                }
                let sources = glob::glob(package().join(&source).to_str().unwrap()).unwrap();
                let before = files.len();
                for source in sources.map(Result::unwrap) {
                    let name = if to.ends_with('/') { source.file_name().unwrap() } else { "".as_ref() };
                    let to = Path::new("/").join(&to).join(name);
                    files.insert(to.components().collect(), source);
                }
                assert!(files.len() > before, "{source}");
            }
            files
        },
    )
}

#[test]
fn both_packages_install_the_same_files() {
    let [debian, red_hat] = installed().map(BTreeMap::into_keys).map(BTreeSet::from_iter);
    let different = debian.symmetric_difference(&red_hat);
    // Red Hat's place for licences, which stay when documents are left out.
    let different: Vec<_> = different.filter(|file| !file.starts_with("/usr/share/licenses")).collect();
    assert!(different.is_empty(), "{different:?}");
}

#[test]
fn every_link_within_the_installed_documents_leads_to_another_one() {
    for files in installed() {
        let mut checked = 0;
        for (from, source) in
            files.iter().filter(|(_, source)| source.extension().is_some_and(|it| it == "md"))
        {
            let text = fs::read_to_string(source).unwrap();
            let links = text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap());
            for link in links.filter(|link| !link.is_empty() && !link.contains("://")) {
                let mut to = from.parent().unwrap().to_owned();
                for component in Path::new(link).components() {
                    match component {
                        Component::ParentDir => drop(to.pop()),
                        component => to.push(component),
                    }
                }
                assert!(files.contains_key(&to), "{link} in {}", from.display());
                checked += 1;
            }
        }
        assert!(checked > 100, "{checked}");
    }
}

/// Start of the command of a service. systemd looks for a program without a path.
const STARTS: &str = "ExecStart=walkeep ";

/// Returns the directories into which the README, the guide and the packages install the programs.
fn directories_of_programs() -> BTreeSet<String> {
    let by_hand = |page: &str| {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let line = text.lines().find(|line| line.contains("install target/release/walkeep ")).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    let mut directories = BTreeSet::from(["README.md", "docs/guide/install.md"].map(by_hand));
    let manifest: toml::Table = fs::read_to_string(package().join("Cargo.toml")).unwrap().parse().unwrap();
    let metadata = &manifest["package"]["metadata"];
    let text = |value: &toml::Value| value.as_str().unwrap().trim_matches('/').to_owned();
    for asset in metadata["deb"]["assets"].as_array().unwrap() {
        if text(&asset[0]) == "target/release/walkeep" {
            directories.insert(format!("/{}", text(&asset[1])));
        }
    }
    for asset in metadata["generate-rpm"]["assets"].as_array().unwrap() {
        if text(&asset["source"]) == "target/release/walkeep" {
            directories.insert(format!("/{}", text(&asset["dest"]).trim_end_matches("/walkeep")));
        }
    }
    directories
}

#[test]
fn units_and_cron_find_the_programs_wherever_they_are_installed() {
    let directories = directories_of_programs();
    assert_eq!(directories, BTreeSet::from(["/usr/bin", "/usr/local/bin"].map(str::to_owned)));
    let of_systemd = output_of(Command::new("systemd-path").arg("search-binaries-default"));
    let table = packaged("walkeep.cron");
    let of_cron = table.lines().find_map(|line| line.strip_prefix("PATH=")).unwrap();
    for searched in [of_systemd.trim(), of_cron] {
        let searched: BTreeSet<&str> = searched.split(':').collect();
        let missing: Vec<_> = directories.iter().filter(|path| !searched.contains(path.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?} is not in {searched:?}");
    }
    for service in UNITS.iter().filter(|unit| unit.ends_with(".service")) {
        let starts = packaged(service).lines().filter(|line| line.starts_with("ExecStart=")).count();
        assert_eq!((starts, packaged(service).matches(STARTS).count()), (1, 1), "{service}");
    }
}

/// Writes the units to the sandbox, with the local path of the program.
fn units(sandbox: &Sandbox) -> Vec<PathBuf> {
    let program = sandbox.program("walkeep").display().to_string();
    let unit = |name: &&str| {
        let text = packaged(name);
        assert_eq!(text.matches(STARTS).count(), usize::from(name.ends_with(".service")), "{name}");
        sandbox.file(name, text.replace(STARTS, &format!("ExecStart={program} ")))
    };
    UNITS.iter().map(unit).collect()
}

fn systemd_analyze(sandbox: &Sandbox) -> Command {
    let found = Command::new("systemd-analyze").arg("--version").output();
    assert!(found.is_ok_and(|found| found.status.success()), "apt-get install systemd");
    sandbox.command("systemd-analyze")
}

#[test]
fn systemd_finds_no_fault_in_the_units() {
    let sandbox = Sandbox::new();
    let mut verify = systemd_analyze(&sandbox);
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).args(units(&sandbox));
    let outcome = outcome_of(verify);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));

    // Proves that a fault would be found.
    let wrong = packaged(UNITS[0]).replace("IOSchedulingClass=idle", "IOSchedulingClas=idle");
    let mut verify = systemd_analyze(&sandbox);
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).arg(sandbox.file("wrong.service", wrong));
    let stderr = outcome_of(verify).stderr;
    assert!(stderr.contains("IOSchedulingClas") && stderr.contains("walkeep is not executable"), "{stderr}");
}

#[test]
fn the_services_are_sandboxed() {
    let sandbox = Sandbox::new();
    for service in units(&sandbox).into_iter().filter(|unit| unit.extension().unwrap() == "service") {
        let mut security = systemd_analyze(&sandbox);
        let report = output_of(security.args(["security", "--offline=true", "--no-pager"]).arg(service));
        let (_, level) = report.split_once("Overall exposure level for ").unwrap();
        let level: f64 = level.split([' ', '\n']).nth(1).unwrap().parse().unwrap();
        assert!(level < MOST_EXPOSED, "{report}");
    }
}

/// Returns the system calls in a set of systemd's.
fn system_calls(sandbox: &Sandbox, set: &str) -> BTreeSet<String> {
    let listed = output_of(systemd_analyze(sandbox).args(["syscall-filter", "--no-pager", set]));
    let names =
        listed.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sets = names.map(|name| {
        if name.starts_with('@') { system_calls(sandbox, name) } else { BTreeSet::from([name.to_owned()]) }
    });
    sets.flatten().collect()
}

#[test]
fn pruning_needs_no_system_call_that_its_unit_forbids() {
    let kept = Kept::new();
    kept.segments(1, 1..=3, 2);
    let Kept { sandbox, archive } = &kept;
    let unit = packaged("walkeep-prune.service");
    let sets: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
        .flat_map(|line| line.split_inclusive(' ').map(str::trim))
        .collect();
    assert_eq!(sets, ["@system-service", "~@privileged", "@resources"]);
    let mut allowed = system_calls(sandbox, "@system-service");
    assert!(allowed.contains("openat") && allowed.contains("mmap"), "{allowed:?}");
    for forbidden in ["@privileged", "@resources"] {
        let forbidden = system_calls(sandbox, forbidden);
        allowed.retain(|call| !forbidden.contains(call));
    }

    let trace = sandbox.join("trace");
    let mut strace = sandbox.command("strace");
    strace.args(["-f", "-qq", "-o"]).arg(&trace).arg(sandbox.program("walkeep"));
    strace.args(["prune", "--before", "000000010000000000000003", "--archive", archive.url()]);
    let pruned = output_of(&mut strace);
    assert!(!pruned.contains("deleted 0 files"), "{pruned}");
    let trace = fs::read_to_string(trace).unwrap();
    let calls = trace.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('));
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let used: BTreeSet<_> = calls.map(|(name, _)| name.to_owned()).filter(|name| is_name(name)).collect();
    assert!(used.contains("unlink") || used.contains("unlinkat"), "{used:?}");
    // The program is started before the filter applies.
    let missing: Vec<_> = used.iter().filter(|call| !allowed.contains(*call)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_lines_for_cron_run_as_a_shell_would_run_them() {
    let sandbox = Sandbox::new();
    let table = packaged("walkeep.cron");
    let mut path = None;
    let mut asked = Vec::new();
    let log = sandbox.join("calls");
    // Prints its environment and fails; its first argument decides how.
    let program = sandbox.file(
        "walkeep",
        format!(
            "#!/bin/sh\necho \"$*\" >> {}\necho findings\necho complaint >&2\nexit $STATUS\n",
            log.display()
        ),
    );
    output_of(Command::new("chmod").arg("755").arg(&program));
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((name, value)) = line.split_once('=').filter(|(name, _)| !name.contains(' ')) {
            path = (name == "PATH").then(|| value.to_owned()).or(path);
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (times, user) = (&fields[..5], fields[5]);
        let ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
        for (time, (first, last)) in times.iter().zip(ranges) {
            assert!(*time == "*" || (first..=last).contains(&time.parse::<u32>().unwrap()), "{line}");
        }
        assert_eq!(user, "postgres");
        let (_, command) = line.split_once(" postgres ").unwrap();
        assert!(!command.contains('%'), "cron takes it for the end of the line");
        let path = format!("{}:{}", sandbox.path().display(), path.as_ref().expect("cron's own is short"));
        for (status, mailed) in [("0", ""), ("1", "findings\n")] {
            let mut shell = sandbox.command("/bin/sh");
            shell.env_clear().env("PATH", &path).env("STATUS", status).args(["-c", command]);
            let output = shell.output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), mailed, "what is printed is mailed");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "complaint\n");
        }
        asked.push(fields.len());
    }
    assert_eq!(fs::read_to_string(log).unwrap(), "prune\nprune\nverify\nverify\n");
    assert_eq!(asked.len(), 2);
}
