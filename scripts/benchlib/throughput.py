"""Throughput of each peer: how fast it archives a backlog, and restores it to a recovery that requests it in order.

The stand-ins do what PostgreSQL's archiver and recovery do, but nothing between two calls: they are never what is
waited for. Recovery's bytes are compared off the clock; a helper that fetches ahead goes on meanwhile, as in a replay.

Each drain finds the WAL in the page cache, and an archive that is empty; each replay an archive that is in the page
cache and on disk. The disk has nothing to write when they begin."""

import os
import random
import shutil
import time

from benchlib import leftovers, pagecache
from benchlib.peers import WALKEEP
from benchlib.process import Failure, progress

# Number of attempts, as of PostgreSQL's archiver, one second apart.
ATTEMPTS = 3

# Number of files for a peer whose calls each handle only their own file.
ONE_BY_ONE_SEGMENTS = 12


def measure(place, wal, segments, work, rounds, replays):
    """Returns a sample of every peer for each round. Peers take turns in shuffled order."""
    samples = {"drain": {}, "replay": {}}
    _claim_memory(work / "claim", sum((wal / "pg_wal" / name).stat().st_size for name in segments))
    order = random.Random(2)
    for number in range(rounds):
        root = work / f"{place.name}-backlog-{number + 1}"
        peers = [peer for peer in place.throughput(root) if peer.name not in place.skipped]
        for peer in order.sample(peers, len(peers)):
            progress(f"{place.name}: backlog of {peer.name}, round {number + 1} of {rounds}")
            try:
                drained, replayed = _one(peer, wal, segments, replays)
            except Failure as failure:
                if peer.name.startswith(WALKEEP):
                    raise
                place.skipped[peer.name] = f"failed: {failure}"
                continue
            samples["drain"].setdefault(peer.name, []).append(drained)
            if replayed:
                samples["replay"].setdefault(peer.name, []).append(replayed)
        shutil.rmtree(root, ignore_errors=True)
    in_order = [peer.name for peer in peers if peer.name not in place.skipped]
    return {what: {name: of[name] for name in in_order if name in of} for what, of in samples.items()}


def _claim_memory(file, size):
    """Uses as much of the page cache as the largest archive will.

    A virtual machine has to get memory that was never used from its host, at several times the cost of a copy.
    Otherwise whoever comes first would do that for all."""
    with open(file, "wb") as claim:
        for _ in range(size >> 20):
            claim.write(bytes(1 << 20))
    file.unlink()


def _one(peer, wal, segments, replays):
    segments = segments[:ONE_BY_ONE_SEGMENTS] if peer.one_by_one else segments
    peer.set_up(wal)
    try:
        drained = drain(peer, wal, segments)
        return drained, replay(peer, wal, segments) if replays and peer.restore_command else None
    finally:
        peer.release_memory()
        shutil.rmtree(peer.root)


def drain(peer, wal, segments):
    """Marks all these segments as ready at once, and has the peer archive them."""
    for segment in segments:
        peer.offer(wal, segment)
    os.sync()
    with pagecache.held([wal / "pg_wal" / segment for segment in segments]), leftovers.contained():
        started = time.perf_counter()
        calls = [_archive(peer, name) for name in peer.backlog()]
        seconds = time.perf_counter() - started
    os.sync()
    return {
        "segments": len(segments),
        "seconds": seconds,
        "ms": [elapsed for elapsed, _ in calls],
        "failed_attempts": sum(failed for _, failed in calls),
    }


def _archive(peer, name):
    """Returns the milliseconds of the call that succeeded, and the number of failures before."""
    for failed in range(ATTEMPTS - 1):
        try:
            return peer.push_ms(name), failed
        except Failure as failure:
            progress(f"{peer.name}: {failure}")
        time.sleep(1)
    return peer.push_ms(name), ATTEMPTS - 1


def replay(peer, wal, segments):
    """Has the peer restore these segments, all of which it has archived."""
    with pagecache.held(peer.archived()), leftovers.contained():
        calls = [peer.restore_ms(wal, segment) for segment in segments]
    return {"segments": len(segments), "seconds": sum(calls) / 1e3, "ms": calls}
