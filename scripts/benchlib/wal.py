"""The WAL to measure with: real segments from pgbench in a throwaway cluster, kept in the shape of a data directory.

A WAL directory here has `PG_VERSION`, `global/pg_control`, `pg_wal/SEGMENT` and `pg_wal/archive_status/SEGMENT.ready`;
the data directory of a stopped server with an archiving backlog is one too. One that was made here also has `base`, the
backup that its first segment continues."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from benchlib.process import Failure, environment, run

SERVER_PROGRAMS = ("initdb", "postgres", "pg_isready", "pgbench")
READY_SEGMENT = re.compile(r"([0-9A-F]{24})\.ready")
START_TIMEOUT_S = 60

# Checkpoints that come by the amount of WAL, and several within a run, give a mix of full-page images and small records
# as a busy server writes it, however fast this machine is. An empty archive_command lets `.ready` pile up. Nothing here
# needs to survive, and the WAL of a server without fsync is the same.
SETTINGS = """
listen_addresses = ''
archive_mode = on
archive_command = ''
wal_level = replica
max_wal_size = 512MB
fsync = off
synchronous_commit = off
"""


def ready_segments(directory):
    """Returns the names of the complete segments that wait for the archiver, oldest first."""
    status = directory / "pg_wal/archive_status"
    names = os.listdir(status) if status.is_dir() else []
    return sorted(match[1] for match in map(READY_SEGMENT.fullmatch, names) if match)


def copy_wal(source, destination, names):
    """Copies the named segments, and the files that identify their cluster. Both sides are WAL directories."""
    (destination / "global").mkdir(parents=True, exist_ok=True)
    (destination / "pg_wal/archive_status").mkdir(parents=True, exist_ok=True)
    for file in ["PG_VERSION", "global/pg_control", *(f"pg_wal/{name}" for name in names)]:
        with open(source / file, "rb") as original, open(destination / file, "wb") as copy:
            shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            # Flushed now, or the kernel would write it during a measurement.
            os.fsync(copy.fileno())
    for name in names:
        (destination / f"pg_wal/archive_status/{name}.ready").touch()


def copy_base(source, destination):
    """Copies the base backup, if there is one."""
    if (source / "base").is_dir():
        shutil.copytree(source / "base", destination / "base")


def find_server():
    """The directory of PostgreSQL's programs: WALKEEP_PG_BINDIR, else the newest of Debian's, pg_config's, PATH."""
    chosen = os.environ.get("WALKEEP_PG_BINDIR")
    if chosen:
        missing = [program for program in SERVER_PROGRAMS if not (Path(chosen) / program).exists()]
        if missing:
            raise Failure(f"WALKEEP_PG_BINDIR={chosen} has no {', '.join(missing)}")
        return Path(chosen)
    debian = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    candidates = sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    if shutil.which("pg_config"):
        candidates.append(Path(run(["pg_config", "--bindir"], environment()).strip()))
    if shutil.which("postgres"):
        candidates.append(Path(shutil.which("postgres")).parent)
    for candidate in candidates:
        if all((candidate / program).exists() for program in SERVER_PROGRAMS):
            return candidate
    raise Failure(
        f"PostgreSQL's {', '.join(SERVER_PROGRAMS)} not found; install it (Debian, Ubuntu: apt-get install postgresql; "
        "Fedora: dnf install postgresql-server postgresql-contrib) or name their directory in WALKEEP_PG_BINDIR"
    )


def generate(programs, work, destination, count):
    """Fills the WAL directory `destination` with `count` segments that pgbench's transactions wrote, and their base."""
    cluster = work / "cluster"
    env = environment(HOME=str(work), PGUSER="bench", PGDATABASE="postgres")
    options = ["-A", "trust", "-U", "bench", "-E", "UTF8", "--locale=C", "--no-sync"]
    run([programs / "initdb", "-D", cluster, *options], env)
    with _server(programs, cluster, work) as sockets:
        run([programs / "pgbench", "-h", sockets, "-i", "-q", "-s", "20"], env)
    # The initial load is not what an archiver sees day by day. The shutdown has ended its last segment, and put its
    # checkpoint into the next: with that one begins what the base backup needs.
    loaded = len(ready_segments(cluster))
    shutil.copytree(cluster, destination / "base", ignore=_what_a_base_backup_leaves_out)
    (destination / "base/pg_wal").mkdir(mode=0o700)
    with _server(programs, cluster, work) as sockets:
        while len(ready_segments(cluster)) < loaded + count:
            run([programs / "pgbench", "-h", sockets, "-n", "-M", "prepared", "-c", "4", "-t", "2500"], env)
    copy_wal(cluster, destination, ready_segments(cluster)[loaded : loaded + count])
    shutil.rmtree(cluster)


def _what_a_base_backup_leaves_out(_directory, names):
    return {"pg_wal"}.intersection(names)


@contextlib.contextmanager
def _server(programs, cluster, work):
    """Runs the cluster; yields the directory of its socket.

    As a direct child and not through pg_ctl, so that an interruption at any moment finds a process to stop."""
    # A socket's path is limited to about 100 bytes, which TMPDIR may have used up.
    with tempfile.TemporaryDirectory(prefix="walkeep-bench-", dir=work if len(str(work)) < 60 else "/tmp") as sockets:
        with open(cluster / "postgresql.conf", "a") as configuration:
            configuration.write(f"{SETTINGS}unix_socket_directories = '{sockets}'\n")
        log = work / "server.log"
        with open(log, "w") as output:
            postgres = subprocess.Popen(
                [programs / "postgres", "-D", cluster],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            ready = [programs / "pg_isready", "-q", "-h", sockets]
            while subprocess.run(ready, env=environment(), stdin=subprocess.DEVNULL).returncode != 0:
                if postgres.poll() is not None or time.monotonic() > deadline:
                    raise Failure(f"PostgreSQL did not start:\n{log.read_text()}")
                time.sleep(0.05)
            yield sockets
        finally:
            # Fast shutdown: later steps use the cluster in that state.
            postgres.send_signal(signal.SIGINT)
            postgres.wait()
