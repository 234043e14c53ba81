//! Output of `walkeep completions` and `walkeep man` works with shells and page formatters.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{collections::BTreeSet, fs, process::Command};

use support::{files::names_in, output_of, package, running::outcome_of, sandbox::Sandbox};

const PROGRAMS: [&str; 3] = ["walkeep", "walkeep-archive", "walkeep-restore"];

fn completions(sandbox: &Sandbox, shell: &str) -> String {
    output_of(sandbox.walkeep().args(["completions", shell]))
}

/// Lists the commands of `walkeep`, from its help.
fn commands(sandbox: &Sandbox) -> Vec<String> {
    let help = output_of(sandbox.walkeep().arg("--help"));
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    names.map(|line| line.split(' ').next().unwrap().to_owned()).filter(|name| name != "help").collect()
}

/// Returns the long options in a text.
fn options(text: &str) -> BTreeSet<String> {
    let in_option = |c: char| c == '-' || c.is_ascii_lowercase();
    let words = text.split(|c| !in_option(c)).filter(|word| word.len() > 3 && word.starts_with("--"));
    words.map(str::to_owned).collect()
}

#[test]
fn bash_completes_all_three_programs() {
    let sandbox = Sandbox::new();
    let script = sandbox.file("completions", completions(&sandbox, "bash"));
    let bash = |line: &str| -> Command {
        let mut bash = sandbox.command("bash");
        bash.args(["--norc", "-euc", line, "bash"]).arg(&script);
        bash
    };
    let registered = output_of(&mut bash(&format!("source \"$1\"; complete -p {}", PROGRAMS.join(" "))));
    assert_eq!(registered.lines().count(), 3, "{registered}");
    for (words, expected) in [
        ("walkeep pru", "prune"),
        ("walkeep prune --keep-b", "--keep-backups"),
        ("walkeep completions ba", "bash"),
        ("walkeep-archive --compression z", "zstd"),
        ("walkeep-restore --on-error r", "retry"),
    ] {
        // As bash does when somebody presses the tab key.
        let (program, word) = (words.split(' ').next().unwrap(), words.split(' ').next_back().unwrap());
        let previous = words.split(' ').nth_back(1).unwrap();
        let (_, function) = registered
            .lines()
            .find(|line| line.ends_with(&format!(" {program}")))
            .unwrap()
            .split_once("-F ")
            .unwrap();
        let function = function.split(' ').next().unwrap();
        let line = format!(
            "source \"$1\"; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); \
             set +eu; {function} {program} {word} {previous}; echo \"${{COMPREPLY[@]}}\""
        );
        assert_eq!(output_of(&mut bash(&line)), expected, "{words}");
    }
}

#[test]
fn every_shell_gets_a_script_for_all_three_programs() {
    let sandbox = Sandbox::new();
    for (shell, registration) in [
        ("bash", "-o default {}\n"),
        ("zsh", "compdef _{} {}"),
        ("fish", "complete -c {} "),
        ("elvish", "edit:completion:arg-completer[{}]"),
        ("powershell", "Register-ArgumentCompleter -Native -CommandName '{}'"),
    ] {
        let script = completions(&sandbox, shell);
        for program in PROGRAMS {
            let registration = registration.replace("{}", program);
            assert!(script.contains(&registration), "{shell}: {registration}");
        }
    }
    let outcome = outcome_of({
        let mut wrong = sandbox.walkeep();
        wrong.args(["completions", "csh"]);
        wrong
    });
    assert_eq!(outcome.status, 2);
    assert!(outcome.stderr.contains("csh"), "{}", outcome.stderr);
}

#[test]
fn every_command_has_a_manual_page_that_formats_without_a_warning() {
    let sandbox = Sandbox::new();
    let directory = sandbox.join("share/man/man1");
    output_of(sandbox.walkeep().arg("man").arg(&directory));
    let commands = commands(&sandbox);
    assert!(commands.iter().any(|command| command == "prune"), "{commands:?}");
    let of_commands = commands.iter().map(|command| (format!("walkeep-{command}"), vec!["walkeep", command]));
    let expected: Vec<(String, Vec<&str>)> =
        PROGRAMS.iter().map(|program| ((*program).to_owned(), vec![*program])).chain(of_commands).collect();
    let pages: BTreeSet<String> = expected.iter().map(|(name, _)| format!("{name}.1")).collect();
    assert_eq!(names_in(&directory), Vec::from_iter(pages), "and no more");

    for (name, words) in expected {
        let page = directory.join(format!("{name}.1"));
        let mut groff = sandbox.command("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-P-cbou", "-rLL=200n"]).arg(&page);
        let output = groff.output().unwrap_or_else(|error| panic!("apt-get install groff-base: {error}"));
        assert!(output.status.success(), "{name}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        let text = String::from_utf8(output.stdout).unwrap().replace(['‐', '−'], "-");
        let source = fs::read_to_string(&page).unwrap();
        let (program, arguments) = words.split_first().unwrap();
        let help = output_of(sandbox.command(sandbox.program(program)).args(arguments).arg("--help"));
        let about: Vec<&str> = help.lines().take_while(|line| !line.is_empty()).collect();
        assert!(text.contains(&format!("{name} - {}", about.join(" "))), "{name}: {text}");
        assert!(options(&text).is_superset(&options(&help)), "{name}: {text}\n{help}");
        assert!(!options(&text).contains("--prefetch-after"), "hidden options stay hidden");
        assert!(source.contains(".TH walkeep"), "{source}");
        check_sections(&name, &text, &options(&help));
    }
}

/// Asserts that a page has the sections that people look for, with what the guide says.
fn check_sections(name: &str, text: &str, options: &BTreeSet<String>) {
    let section = |title: &str| -> String {
        let lines = text.lines().skip_while(|line| *line != title).skip(1);
        lines
            .take_while(|line| line.is_empty() || line.starts_with(' '))
            .flat_map(|line| [line, "\n"])
            .collect()
    };
    let statuses = section("EXIT STATUS");
    assert!(statuses.lines().any(|line| line.trim_start().starts_with("0 ")), "{name}: {text}");
    assert_eq!(text.matches("Exit status: ").count(), 0, "{name}: said once");
    assert!(section("FILES").contains("/etc/walkeep/walkeep.toml"), "{name}: {text}");
    let environment = section("ENVIRONMENT");
    if options.contains("--config") || name == "walkeep" {
        let guide = fs::read_to_string(package().join("docs/guide/configuration.md")).unwrap();
        let keys = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let keys: Vec<&str> = keys.filter(|key| !key.starts_with(['[', '-'])).collect();
        assert!(keys.contains(&"keep_backups"), "{keys:?}");
        for key in keys.into_iter().filter(|key| key.bytes().all(|c| c == b'_' || c.is_ascii_lowercase())) {
            let variable = format!("WALKEEP_{}", key.to_ascii_uppercase());
            assert!(environment.contains(&variable), "{name}: {variable} in {environment}");
        }
    } else {
        assert!(environment.contains("No variable"), "{name}: {environment}");
    }
    let pages = ["README.md", "docs/guide/verify.md", "docs/guide/many-clusters.md", "packaging/README.md"];
    let guide: String = pages.map(|page| fs::read_to_string(package().join(page)).unwrap()).concat();
    let examples = section("EXAMPLES");
    for line in examples.lines() {
        assert!(line.chars().count() <= 80, "{name}: {line}");
    }
    // As a shell reads them.
    let joined =
        examples.replace('’', "'").lines().map(str::trim).collect::<Vec<_>>().join("\n").replace("\\\n", "");
    let examples: Vec<&str> = joined.lines().filter(|line| !line.is_empty()).collect();
    assert!(!examples.is_empty(), "{name}: {text}");
    for example in examples {
        assert!(guide.contains(example), "{name}: {example} is in no page");
    }
}

#[test]
fn every_help_fits_a_terminal_of_80_columns_and_names_the_stores() {
    let sandbox = Sandbox::new();
    let of_commands = commands(&sandbox).into_iter().map(|command| ("walkeep", Some(command)));
    let all = PROGRAMS.map(|program| (program, None)).into_iter().chain(of_commands);
    for (program, command) in all {
        for flag in ["--help", "-h"] {
            let mut help = sandbox.command(sandbox.program(program));
            // A wide terminal makes no difference.
            help.env("COLUMNS", "200").args(&command).arg(flag);
            let help = output_of(&mut help);
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{program} {command:?} {flag}: {line}");
            }
            if help.contains("--archive ") {
                for store in ["s3://", "gs://", "az://"] {
                    assert!(help.contains(store), "{program} {command:?} {flag}: {store}");
                }
            }
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_to_is_named() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("file", "");
    let outcome = outcome_of({
        let mut man = sandbox.walkeep();
        man.arg("man").arg(file.join("man1"));
        man
    });
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.starts_with("walkeep: error: cannot write "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("/file/man1/walkeep"), "{}", outcome.stderr);
}
