"""Execution of other programs: as an unprivileged user, timed, and ended with an interrupted benchmark."""

import contextlib
import json
import os
import pwd
import resource  # noqa: F401 - os.wait4 imports it when called, which may be too late after as_user
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchlib import pagecache

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failure(Exception):
    """An error message for the person who runs the benchmark."""


def progress(text):
    """Prints the current step to standard error, because standard output is for results."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def exit_on_signals():
    """Turns the first stop signal into SystemExit, so that every `finally` runs; further ones are ignored."""

    def stop(number, _frame):
        ignore_signals()
        raise SystemExit(128 + number)

    for number in STOP_SIGNALS:
        signal.signal(number, stop)


def ignore_signals():
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def scratch_directory(parent, owner):
    """Creates a temporary directory of `owner` (None: the current user), and removes it at the end."""
    path = Path(tempfile.mkdtemp(prefix="walkeep-bench-", dir=parent)).resolve()
    try:
        if owner:
            os.chown(path, owner.pw_uid, owner.pw_gid)
        yield path
    finally:
        ignore_signals()
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            print(f"bench: could not remove all of {path}", file=sys.stderr)


def unprivileged_user():
    """Returns the user that root becomes, because PostgreSQL refuses to run as root; None for other users."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Failure("run as root, but there is neither a user postgres nor nobody to drop to; run it as an ordinary user")


def as_user(user, work, function):
    """Calls `function` in `work`, in a forked child that becomes `user`; returns its result by way of JSON.

    A child for all of it, instead of `subprocess`'s user argument for each program: that one keeps Python from using
    vfork, and would add the copying of this process to every time measured."""
    if user is None:
        return function()
    answer = work / "answer.json"
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os._exit(_answer_as(user, work, function, answer))
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise SystemExit(code if code > 0 else 128 - code)
    return json.loads(answer.read_text())


def _answer_as(user, work, function, answer):
    try:
        with pagecache.permission_kept():
            os.setgid(user.pw_gid)
            os.initgroups(user.pw_name, user.pw_gid)
            os.setuid(user.pw_uid)
        try:
            os.chdir(work)
        except PermissionError:
            raise Failure(f"user {user.pw_name} cannot enter {work}; choose another directory with --work") from None
        answer.write_text(json.dumps(function()))
        return 0
    except SystemExit as stop:
        return stop.code
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    return 1


def environment(**extra):
    """Returns the same few variables for every program, so that settings of this machine change no figure."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **extra}


def environment_of_server(directory, variables):
    """Returns the environment of a command of this data directory's server. Its spool is removed with the rest."""
    spool = directory.parent / "spool"
    return environment(PGDATA=str(directory), HOME=str(directory), WALKEEP_SPOOL=str(spool), **variables)


def run(argv, env):
    """Runs a program whose output matters only when it fails; returns its standard output."""
    argv = [str(arg) for arg in argv]
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(argv)}` failed with status {done.returncode}:\n{done.stderr or done.stdout}")
    return done.stdout


def shell_ms(command, directory, log, env, expected_status=0):
    """Milliseconds that `sh -c command` takes, called as PostgreSQL calls its two commands."""
    with open(log, "w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            ["sh", "-c", command],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            umask=0o077,
            start_new_session=True,
        )
        try:
            status = process.wait()
        except BaseException:
            # The shell's children too: what still writes cannot be removed.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        elapsed = (time.perf_counter() - started) * 1e3
        if status != expected_status:
            output.seek(0)
            raise Failure(f"`{command}` ended with status {status}:\n{output.read()}")
    return elapsed


def start_ms(argv):
    """Milliseconds from starting a program, without a shell, to its end."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    env = environment()
    started = time.perf_counter()
    process = os.posix_spawn(argv[0], argv, env, file_actions=quiet)
    _, status = os.waitpid(process, 0)
    elapsed = (time.perf_counter() - started) * 1e3
    if status != 0:
        raise Failure(f"`{' '.join(argv)}` failed")
    return elapsed


def peak_memory_bytes(command, directory, log, variables):
    """Peak resident memory of one program, given as a shell command without operators.

    Linux carries the peak of the process that calls exec over to the program (also through vfork and posix_spawn), so a
    child of this interpreter would never show less than the interpreter. Here a small shell starts the program in the
    background and ends; this process, which orphans are given to, inherits it, and with it the right to its rusage."""
    shell = subprocess.run(
        ["sh", "-c", f"{command} >{shlex.quote(str(log))} 2>&1 & echo $!"],
        cwd=directory,
        env=environment_of_server(directory, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    _, status, usage = os.wait4(int(shell.stdout), 0)
    if status != 0:
        raise Failure(f"`{command}` failed:\n{Path(log).read_text()}")
    return usage.ru_maxrss * 1024
