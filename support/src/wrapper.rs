//! Commands that run another command: a shell, strace, nsenter.

use std::process::Command;

use super::sandbox::Sandbox;

/// Returns `wrapper` followed by the program and the arguments of `command`, with its environment and directory.
pub fn wrapped(mut wrapper: Command, command: &Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        wrapper.current_dir(directory);
    }
    wrapper
}

/// Returns the command as `"$@"` of a shell script, as in `umask 022; exec "$@"`.
pub fn in_shell(sandbox: &Sandbox, script: &str, command: &Command) -> Command {
    let mut shell = sandbox.command("sh");
    shell.args(["-c", script, "sh"]);
    wrapped(shell, command)
}
