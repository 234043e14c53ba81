"""A real server's recovery: from a base backup, through all of the WAL, until it accepts connections.

Each recovery gets a fresh copy of the same base backup, the same settings, and an archive in the page cache, from where
plain cp takes its uncompressed files fastest. The disk has nothing to write when it begins."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

from benchlib import leftovers, pagecache
from benchlib.process import Failure, environment, environment_of_server, progress, run
from benchlib.throughput import drain

TIMEOUT_S = 600

# One round is not enough, because much of the time is the disk's.
ROUNDS_AT_LEAST = 2

SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{sockets}'
archive_mode = off
fsync = on
shared_buffers = 256MB
max_wal_size = 1GB
restore_command = '{restore_command}'
"""


def why_not(wal, programs):
    """Returns the reason why no server can recover this WAL; empty if one can."""
    if not (wal / "base").is_dir():
        return "this WAL came without a base backup; an empty or new --wal gets one"
    if programs is None:
        return "PostgreSQL is not installed"
    server = run([programs / "postgres", "--version"], environment()).split()[2].split(".")[0]
    version = (wal / "PG_VERSION").read_text().strip()
    return "" if server == version else f"the WAL is of PostgreSQL {version}, but {programs} is of {server}"


def measure(place, wal, segments, work, programs, rounds):
    """Returns the seconds of every peer. They take turns in shuffled order."""
    root = work / "recovery"
    peers = place.recovering(root)
    for peer in peers:
        progress(f"{place.name}: archiving with {peer.name}, for a server to recover")
        peer.set_up(wal)
        drain(peer, wal, segments)
    samples = {peer.name: [] for peer in peers}
    order = random.Random(4)
    for number in range(rounds):
        for peer in order.sample(peers, len(peers)):
            progress(f"{place.name}: recovery with {peer.name}, round {number + 1} of {rounds}")
            samples[peer.name].append(_recover(peer, wal, segments, programs))
    shutil.rmtree(root)
    return samples


def _recover(peer, wal, segments, programs):
    data = peer.recovery
    shutil.rmtree(data)
    shutil.copytree(wal / "base", data)
    (data / "recovery.signal").touch()
    log = peer.root / "server.log"
    # A socket's path is limited to about 100 bytes.
    with tempfile.TemporaryDirectory(prefix="walkeep-bench-", dir="/tmp") as sockets:
        command = peer.restore_command.replace("'", "''")
        with open(data / "postgresql.conf", "a") as configuration:
            configuration.write(SETTINGS.format(sockets=sockets, restore_command=command))
        os.sync()
        with pagecache.held(peer.archived()), leftovers.contained():
            seconds = _seconds_until_open(programs / "postgres", data, log, peer.variables)
    restored = [name for name in segments if f'restored log file "{name}"' in log.read_text()]
    if restored != segments:
        raise Failure(f"{peer.name} recovered {len(restored)} of {len(segments)} segments:\n{log.read_text()[-2000:]}")
    return seconds


def _seconds_until_open(postgres, data, log, variables):
    with open(log, "w") as output:
        started = time.perf_counter()
        server = subprocess.Popen(
            [postgres, "-D", data],
            env=environment_of_server(data, variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while "database system is ready to accept connections" not in log.read_text():
            if server.poll() is not None or time.perf_counter() - started > TIMEOUT_S:
                raise Failure(f"PostgreSQL did not recover:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)
        return time.perf_counter() - started
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
