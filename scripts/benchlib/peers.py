"""The peers that archive into a directory, and the command lines of each."""

import shlex
import shutil

from benchlib.peer import Peer
from benchlib.process import Failure

CP = "cp"
CP_FSYNC = "cp with fsync"
PGBACKREST = "pgBackRest sync"
PGBACKREST_2 = "pgBackRest async 2"
PGBACKREST_8 = "pgBackRest async 8"
WALKEEP = "walkeep"

PROCESSES = {PGBACKREST: 0, PGBACKREST_2: 2, PGBACKREST_8: 8}

# These are walkeep's defaults, given explicitly: all peers compress alike.
COMPRESSION = ("--compression", "zstd", "--compression-level", "1")


class Directory:
    """Archives in directories. `skipped` contains the peers that cannot be measured, with the reasons."""

    name = "local"

    def __init__(self, work, wal, binaries):
        self.binaries = binaries
        self.skipped = skipped_pgbackrest(pgbackrest(work / "trial"), wal)

    def single(self, root):
        """The peers whose single calls are compared."""
        return self._without_skipped([cp(root), cp_fsync(root), pgbackrest(root), self.walkeep(root)])

    def throughput(self, root):
        """The peers whose throughput on a backlog is compared."""
        asynchronous = [pgbackrest(root, PGBACKREST_2), pgbackrest(root, PGBACKREST_8)]
        return self._without_skipped([cp(root), cp_fsync(root), self.walkeep(root), *asynchronous, pgbackrest(root)])

    def asynchronous(self, root):
        """walkeep, and the peer with which its figures compare it."""
        return self._without_skipped([self.walkeep(root), pgbackrest(root, PGBACKREST_2)])

    def recovering(self, root):
        """The peers with which a server recovers."""
        return self._without_skipped([cp(root), self.walkeep(root), pgbackrest(root, PGBACKREST_2)])

    def _without_skipped(self, peers):
        return [peer for peer in peers if peer.name not in self.skipped]

    def walkeep(self, root):
        archive = ["--archive", str(root / "walkeep/archive")]
        push = shlex.join([str(self.binaries / "walkeep-archive"), *COMPRESSION, *archive])
        restore = shlex.join([str(self.binaries / "walkeep-restore"), *archive])
        return Peer(WALKEEP, root / "walkeep", f"{push} %p", f"{restore} %f %p")


def cp(root):
    root = root / "cp"
    archive = shlex.quote(str(root / "archive"))
    return Peer(CP, root, f"test ! -f {archive}/%f && cp %p {archive}/%f", f"cp {archive}/%f %p")


def cp_fsync(root):
    """cp that flushes. It has no restore_command, because restores would not differ from plain cp."""
    root = root / "cp-fsync"
    archive = shlex.quote(str(root / "archive"))
    return Peer(
        CP_FSYNC, root, f"test ! -f {archive}/%f && cp %p {archive}/%f && sync {archive}/%f {archive}"
    )


def pgbackrest(root, name=PGBACKREST, repository=(), variables=None, stored=None):
    """pgBackRest, with a repository below `root`, or one given by options and environment variables."""
    processes = PROCESSES[name]
    root = root / f"pgbackrest-{processes}"
    options = [
        "pgbackrest",
        # The configuration of this machine's own pgBackRest must not change a figure.
        "--no-config",
        "--stanza=bench",
        *(repository or [f"--repo1-path={root}/archive"]),
        f"--lock-path={root}/lock",
        "--log-level-file=off",
    ]
    primary, recovery = f"--pg1-path={root}/primary", f"--pg1-path={root}/recovery"
    push, restore = [*options, primary, "--compress-type=zst", "--compress-level=1"], [*options, recovery]
    if processes:
        asynchronous = ["--archive-async", f"--spool-path={root}/spool", f"--process-max={processes}"]
        # The queues are so large that they never limit it.
        push += [*asynchronous, "--archive-push-queue-max=1TiB"]
        restore += [*asynchronous, "--archive-get-queue-max=1GiB"]
    return Peer(
        name,
        root,
        f"{shlex.join([*push, 'archive-push'])} %p",
        f"{shlex.join([*restore, 'archive-get'])} %f %p",
        prepare=(*options, primary, "--no-online", "stanza-create"),
        variables=variables or {},
        stored=stored,
        one_by_one=not processes,
    )


def skipped_pgbackrest(trial, wal):
    """Returns why pgBackRest cannot be measured, by each of its names; empty if it can. Sets up `trial` to find out."""
    reason = _why_no_pgbackrest(trial, wal)
    return dict.fromkeys(PROCESSES, reason) if reason else {}


def _why_no_pgbackrest(trial, wal):
    if not shutil.which("pgbackrest"):
        return "not installed (Debian, Ubuntu: apt-get install pgbackrest)"
    try:
        trial.set_up(wal)
    except Failure as failure:
        return str(failure).strip().splitlines()[-1]
    finally:
        shutil.rmtree(trial.root.parent, ignore_errors=True)
    return ""
