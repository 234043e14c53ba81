"""One of those that are compared: a pair of commands, called as PostgreSQL calls them, and the files they work on."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from benchlib import pagecache
from benchlib.process import Failure, environment, environment_of_server, peak_memory_bytes, run, shell_ms


@dataclass
class Peer:
    """One pair of commands, with data directories of its own, and an archive that is there or in a store."""

    name: str
    root: Path
    archive_command: str
    restore_command: str = ""
    prepare: tuple = ()
    variables: dict = field(default_factory=dict)
    # The directory with what it has stored, which a store's peers share.
    stored: Path = None
    # Whether a call does its own file alone. Then few files tell as much as many, and cost less of one's time.
    one_by_one: bool = False

    def __post_init__(self):
        self.stored = self.stored or self.root / "archive"

    @property
    def primary(self):
        """The data directory that is archived from."""
        return self.root / "primary"

    @property
    def recovery(self):
        """The data directory that is restored to."""
        return self.root / "recovery"

    def set_up(self, wal):
        for directory in (self.primary, self.recovery):
            _data_directory(directory, wal)
        (self.recovery / "recovery.signal").touch()
        (self.root / "archive").mkdir()
        if self.prepare:
            run(self.prepare, environment(HOME=str(self.root), **self.variables))

    def offer(self, wal, segment):
        """What the server does when it has finished a segment."""
        os.link(wal / "pg_wal" / segment, self.primary / "pg_wal" / segment)
        (self.primary / "pg_wal/archive_status" / f"{segment}.ready").touch()

    def backlog(self):
        """What waits to be archived, in the archiver's order: history files first, then by name."""
        ready = [path.stem for path in (self.primary / "pg_wal/archive_status").glob("*.ready")]
        return sorted(ready, key=lambda name: (not name.endswith(".history"), name))

    def push_ms(self, name):
        """One file of the archiver's round."""
        elapsed = self._call_ms(self._push(name), self.primary)
        status = self.primary / "pg_wal/archive_status"
        os.rename(status / f"{name}.ready", status / f"{name}.done")
        return elapsed

    def push_peak_memory_bytes(self, name):
        return peak_memory_bytes(self._push(name), self.primary, self.root / "log", self.variables)

    def _push(self, name):
        return self.archive_command.replace("%p", f"pg_wal/{name}").replace("%f", name)

    def restore_ms(self, wal, segment):
        """One request of recovery; the bytes that came back are compared off the clock."""
        elapsed = self._request_ms(segment, 0)
        restored = self.recovery / "pg_wal/RECOVERYXLOG"
        if not _same_bytes(restored, wal / "pg_wal" / segment):
            raise Failure(f"{self.name} restored {segment} with other bytes than it had archived")
        restored.unlink()
        return elapsed

    def miss_ms(self, segment):
        """One request of recovery for what has not been archived, as the last one always is."""
        return self._request_ms(segment, 1)

    def _request_ms(self, segment, expected_status):
        command = self.restore_command.replace("%p", "pg_wal/RECOVERYXLOG").replace("%f", segment)
        return self._call_ms(command, self.recovery, expected_status)

    def _call_ms(self, command, directory, expected_status=0):
        env = environment_of_server(directory, self.variables)
        return shell_ms(command, directory, self.root / "log", env, expected_status)

    def nothing_ms(self):
        """What the call of a command that does nothing costs."""
        return self._call_ms("true", self.primary)

    def write_out(self):
        """Off the clock: what plain cp leaves in memory, another peer's fsync would have to wait for."""
        for file in pagecache.files(self.stored):
            os.fsync(file)

    def release_memory(self):
        """Takes the archive out of the page cache, for the next files to use.

        Without this every file lands in memory never used before, as on no server that has run for a while. A virtual
        machine has to get such memory from its host, at several times the cost of the copy: that would flatter whoever
        writes less."""
        for file in pagecache.files(self.stored):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    def archived(self):
        """The files of its archive, if that is a directory."""
        return pagecache.paths(self.root / "archive")

    def archive_bytes(self):
        return sum(path.stat().st_size for path in self.archived())


def _data_directory(path, wal):
    """What the two commands look at in a data directory, without a server."""
    (path / "pg_wal/archive_status").mkdir(parents=True)
    (path / "global").mkdir()
    path.chmod(0o700)
    for file in ("PG_VERSION", "global/pg_control"):
        shutil.copyfile(wal / file, path / file)


def _same_bytes(one, other):
    # Not filecmp.cmp: it remembers results by size and time, and the restored file has the same name each time.
    with open(one, "rb") as left, open(other, "rb") as right:
        while True:
            block = left.read(1 << 20)
            if block != right.read(1 << 20):
                return False
            if not block:
                return True
