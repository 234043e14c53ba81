"""What is compared, and the stand-ins for PostgreSQL's archiver and recovery that call it.

Peers take turns segment by segment, each time in a shuffled order, so that the noise of a shared machine hits all alike.
Every figure has one sample for each round and segment, in the same order for all peers: sample i of one belongs to
sample i of the other."""

import os
import random
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchlib.process import Failure, environment, peak_memory_bytes, run, shell_ms, start_ms

CP = "cp"
CP_FSYNC = "cp with fsync"
PGBACKREST = "pgBackRest"
WALKEEP = "walkeep"

MEMORY_PUSHES = 5


@dataclass
class Peer:
    """One pair of commands, with data directories and an archive of its own."""

    name: str
    root: Path
    archive_command: str
    restore_command: str = ""
    prepare: tuple = ()
    variables: dict = field(default_factory=dict)

    def set_up(self, wal):
        _data_directory(self.root / "primary", wal)
        _data_directory(self.root / "recovery", wal)
        (self.root / "recovery/recovery.signal").touch()
        (self.root / "archive").mkdir()
        if self.prepare:
            run(self.prepare, environment(HOME=str(self.root), **self.variables))

    def offer(self, wal, segment):
        """What the server does when it has finished a segment; returns the command that the archiver will call."""
        os.link(wal / "pg_wal" / segment, self.root / "primary/pg_wal" / segment)
        (self.root / "primary/pg_wal/archive_status" / f"{segment}.ready").touch()
        return self.archive_command.replace("%p", f"pg_wal/{segment}").replace("%f", segment)

    def push_ms(self, wal, segment):
        """One round of the archiver, which finds this segment alone and not a backlog."""
        command = self.offer(wal, segment)
        elapsed = shell_ms(command, self.root / "primary", self.root / "log", self.variables)
        status = self.root / "primary/pg_wal/archive_status"
        os.rename(status / f"{segment}.ready", status / f"{segment}.done")
        self._write_out()
        return elapsed

    def _write_out(self):
        """Off the clock: what plain cp leaves in memory, another peer's fsync would have to wait for."""
        for file in _files(self.root / "archive"):
            os.fsync(file)

    def release_memory(self):
        """Takes the archive out of the page cache, for the next files to use.

        Without this every file lands in memory never used before, as on no server that has run for a while. A virtual
        machine has to get such memory from its host, at several times the cost of the copy: that would flatter whoever
        writes less."""
        for file in _files(self.root / "archive"):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    def restore_ms(self, wal, segment):
        """One request of recovery; the bytes that came back are compared."""
        restored = self.root / "recovery/pg_wal/RECOVERYXLOG"
        elapsed = self._request_ms(segment, 0)
        if not _same_bytes(restored, wal / "pg_wal" / segment):
            raise Failure(f"{self.name} restored {segment} with other bytes than it had archived")
        restored.unlink()
        return elapsed

    def miss_ms(self, segment):
        """One request of recovery for what has not been archived, as the last one always is."""
        return self._request_ms(segment, 1)

    def _request_ms(self, segment, expected_status):
        command = self.restore_command.replace("%p", "pg_wal/RECOVERYXLOG").replace("%f", segment)
        return shell_ms(command, self.root / "recovery", self.root / "log", self.variables, expected_status)

    def archive_bytes(self):
        return sum(file.stat().st_size for file in (self.root / "archive").rglob("*") if file.is_file())


def measure_pushes_and_restores(wal, segments, work, binaries, rounds, keep_cached):
    """Samples in ms and archive sizes of every peer, and why a peer was skipped."""
    no_pgbackrest = why_no_pgbackrest(pgbackrest(work / "trial"), wal)
    push, restore, archive_bytes = {}, {}, {}
    order = random.Random(1)
    for number in range(rounds):
        print(f"bench: round {number + 1} of {rounds}", file=sys.stderr)
        root = work / "round"
        peers = [_cp(root), _cp_fsync(root), _walkeep(root, binaries)]
        if not no_pgbackrest:
            peers.insert(2, pgbackrest(root))
        for peer in peers:
            peer.set_up(wal)
        for segment in segments:
            warm(wal / "pg_wal" / segment)
            turn = order.sample(peers, len(peers))
            for peer in turn:
                push.setdefault(peer.name, []).append(peer.push_ms(wal, segment))
            for peer in turn:
                if peer.restore_command:
                    restore.setdefault(peer.name, []).append(peer.restore_ms(wal, segment))
            if not keep_cached:
                for peer in peers:
                    peer.release_memory()
        archive_bytes = {peer.name: peer.archive_bytes() for peer in peers}
        shutil.rmtree(root)
    return {
        "push_ms": {peer.name: push[peer.name] for peer in peers},
        "restore_ms": {peer.name: restore[peer.name] for peer in peers if peer.restore_command},
        "archive_bytes": archive_bytes,
        "skipped": {PGBACKREST: no_pgbackrest} if no_pgbackrest else {},
    }


def measure_peak_memory(wal, segments, work, binaries):
    """Peak resident bytes of a few pushes of walkeep-archive."""
    peer = _walkeep(work / "memory", binaries)
    peer.set_up(wal)
    return [
        peak_memory_bytes(peer.offer(wal, segment), peer.root / "primary", peer.root / "log")
        for segment in segments[-MEMORY_PUSHES:]
    ]


def measure_start(binaries, runs):
    """Milliseconds of `walkeep-archive --version` and of `true`, in turns."""
    true = shutil.which("true") or "/bin/true"
    samples = {"true": [], "walkeep-archive --version": []}
    for _ in range(runs):
        samples["true"].append(start_ms([true]))
        samples["walkeep-archive --version"].append(start_ms([str(binaries / "walkeep-archive"), "--version"]))
    return samples


def _cp(root):
    root = root / "cp"
    archive = shlex.quote(str(root / "archive"))
    return Peer(CP, root, f"test ! -f {archive}/%f && cp %p {archive}/%f", f"cp {archive}/%f %p")


def _cp_fsync(root):
    root = root / "cp-fsync"
    archive = shlex.quote(str(root / "archive"))
    return Peer(
        CP_FSYNC, root, f"test ! -f {archive}/%f && cp %p {archive}/%f && sync {archive}/%f {archive}"
    )


def _walkeep(root, binaries):
    root = root / "walkeep"
    archive = f"--archive {shlex.quote(str(root / 'archive'))}"
    push, restore = (shlex.quote(str(binaries / name)) for name in ("walkeep-archive", "walkeep-restore"))
    return Peer(WALKEEP, root, f"{push} {archive} %p", f"{restore} {archive} %f %p")


def pgbackrest(root, repository=(), variables=None):
    """It, with a repository below `root`, or the one of these options and environment variables."""
    root = root / "pgbackrest"
    options = [
        "pgbackrest",
        # No configuration file: whatever this machine's own pgBackRest does must not change a figure.
        "--no-config",
        "--stanza=bench",
        *(repository or [f"--repo1-path={root}/archive"]),
        f"--lock-path={root}/lock",
        "--log-level-file=off",
    ]
    primary, recovery = f"--pg1-path={root}/primary", f"--pg1-path={root}/recovery"
    push = [*options, primary, "--compress-type=zst", "--compress-level=1", "archive-push"]
    restore = [*options, recovery, "archive-get"]
    return Peer(
        PGBACKREST,
        root,
        f"{shlex.join(push)} %p",
        f"{shlex.join(restore)} %f %p",
        prepare=(*options, primary, "--no-online", "stanza-create"),
        variables=variables or {},
    )


def why_no_pgbackrest(trial, wal):
    """Why pgBackRest cannot be measured, which setting up a `trial` of it tells; empty when it can."""
    if not shutil.which("pgbackrest"):
        return "not installed (Debian, Ubuntu: apt-get install pgbackrest)"
    try:
        trial.set_up(wal)
    except Failure as failure:
        return str(failure).strip().splitlines()[-1]
    finally:
        shutil.rmtree(trial.root.parent, ignore_errors=True)
    return ""


def _data_directory(path, wal):
    """What the two commands look at in a data directory, without a server."""
    (path / "pg_wal/archive_status").mkdir(parents=True)
    (path / "global").mkdir()
    path.chmod(0o700)
    for file in ("PG_VERSION", "global/pg_control"):
        shutil.copyfile(wal / file, path / file)


def _files(directory):
    """A descriptor of each file below, one open at a time."""
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                yield file.fileno()


def warm(segment):
    """Into the page cache, where the server that has just written it would have left it."""
    with open(segment, "rb") as file:
        while file.read(1 << 20):
            pass


def _same_bytes(one, other):
    # Not filecmp.cmp: it remembers results by size and time, and the restored file has the same name each time.
    with open(one, "rb") as left, open(other, "rb") as right:
        while True:
            block = left.read(1 << 20)
            if block != right.read(1 << 20):
                return False
            if not block:
                return True
