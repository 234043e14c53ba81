//! Output of `walkeep completions` and `walkeep man` works with shells and page formatters.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the point")]

use std::{collections::BTreeSet, fs, process::Command};

use support::{files::names_in, output_of, running::outcome_of, sandbox::Sandbox};

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
        let about = help.lines().next().unwrap();
        assert!(text.contains(&format!("{name} - {about}")), "{name}: {text}");
        assert!(options(&text).is_superset(&options(&help)), "{name}: {text}\n{help}");
        assert!(!options(&text).contains("--prefetch-after"), "hidden options stay hidden");
        assert!(source.contains(".TH walkeep"), "{source}");
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
