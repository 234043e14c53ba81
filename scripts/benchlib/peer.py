"""A peer of the comparison: a pair of commands, called as PostgreSQL calls them, and their files."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from benchlib import pagecache
from benchlib.process import Failure, environment, environment_of_server, peak_memory_bytes, run, shell_ms


@dataclass
class Peer:
    """One pair of commands, with data directories of its own, and an archive in a directory or in a store."""

    name: str
    root: Path
    archive_command: str
    restore_command: str = ""
    prepare: tuple = ()
    variables: dict = field(default_factory=dict)
    # The directory with the stored files. Peers of a store share it.
    stored: Path = None
    # Whether a call handles only its own file. Then few files show as much as many, and take less time.
    one_by_one: bool = False

    def __post_init__(self):
        self.stored = self.stored or self.root / "archive"

    @property
    def primary(self):
        """The data directory whose WAL is archived."""
        return self.root / "primary"

    @property
    def recovery(self):
        """The data directory to which WAL is restored."""
        return self.root / "recovery"

    def set_up(self, wal):
        for directory in (self.primary, self.recovery):
            _data_directory(directory, wal)
        (self.recovery / "recovery.signal").touch()
        (self.root / "archive").mkdir()
        if self.prepare:
            run(self.prepare, environment(HOME=str(self.root), **self.variables))

    def offer(self, wal, segment):
        """Marks a segment as ready, as the server does when it has finished it."""
        os.link(wal / "pg_wal" / segment, self.primary / "pg_wal" / segment)
        (self.primary / "pg_wal/archive_status" / f"{segment}.ready").touch()

    def backlog(self):
        """The files that wait to be archived, in the archiver's order: history files first, then by name."""
        ready = [path.stem for path in (self.primary / "pg_wal/archive_status").glob("*.ready")]
        return sorted(ready, key=lambda name: (not name.endswith(".history"), name))

    def push_ms(self, name):
        """Milliseconds to archive one file, as the archiver does. Marks the file as archived."""
        elapsed = self._call_ms(self._push(name), self.primary)
        status = self.primary / "pg_wal/archive_status"
        os.rename(status / f"{name}.ready", status / f"{name}.done")
        return elapsed

    def push_peak_memory_bytes(self, name):
        return peak_memory_bytes(self._push(name), self.primary, self.root / "log", self.variables)

    def _push(self, name):
        return self.archive_command.replace("%p", f"pg_wal/{name}").replace("%f", name)

    def restore_ms(self, wal, segment):
        """Milliseconds of one request of recovery. Compares the restored bytes afterwards, without measuring that."""
        elapsed = self._request_ms(segment, 0)
        restored = self.recovery / "pg_wal/RECOVERYXLOG"
        if not _same_bytes(restored, wal / "pg_wal" / segment):
            raise Failure(f"{self.name} restored {segment} with other bytes than it had archived")
        restored.unlink()
        return elapsed

    def miss_ms(self, segment):
        """Milliseconds of one request of recovery for an absent segment, as the last request always is."""
        return self._request_ms(segment, 1)

    def _request_ms(self, segment, expected_status):
        command = self.restore_command.replace("%p", "pg_wal/RECOVERYXLOG").replace("%f", segment)
        return self._call_ms(command, self.recovery, expected_status)

    def _call_ms(self, command, directory, expected_status=0):
        env = environment_of_server(directory, self.variables)
        return shell_ms(command, directory, self.root / "log", env, expected_status)

    def nothing_ms(self):
        """Milliseconds of a call that does nothing."""
        return self._call_ms("true", self.primary)

    def write_out(self):
        """Flushes the stored files, without measuring that.

        Otherwise another peer's fsync would wait for the bytes that plain cp has left in memory."""
        for file in pagecache.files(self.stored):
            os.fsync(file)

    def release_memory(self):
        """Removes the archive from the page cache, so that the next files can use that memory.

        Without this every file lands in memory never used before, as on no server that has run for a while. A virtual
        machine has to get such memory from its host, at several times the cost of the copy: that would flatter whoever
        writes less."""
        for file in pagecache.files(self.stored):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    def archived(self):
        """The files of its archive, if the archive is a directory."""
        return pagecache.paths(self.root / "archive")

    def archive_bytes(self):
        return sum(path.stat().st_size for path in self.archived())


def _data_directory(path, wal):
    """Creates as much of a data directory as the two commands read, without a server."""
    (path / "pg_wal/archive_status").mkdir(parents=True)
    (path / "global").mkdir()
    path.chmod(0o700)
    for file in ("PG_VERSION", "global/pg_control"):
        shutil.copyfile(wal / file, path / file)


def _same_bytes(one, other):
    # Not by filecmp.cmp, which caches results by name, size and time: the restored file has the same name each time.
    with open(one, "rb") as left, open(other, "rb") as right:
        while True:
            block = left.read(1 << 20)
            if block != right.read(1 << 20):
                return False
            if not block:
                return True
