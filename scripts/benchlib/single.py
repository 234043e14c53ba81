"""Single calls: each pushes or restores one file, with nothing else waiting.

Peers take turns segment by segment, each time in a shuffled order, so that the noise of a shared machine hits all
alike. Every figure has one sample for each round and segment, in the same order for all peers: sample i of one belongs
to sample i of the other. From a store, recovery also asks for a segment before it is archived, which is a miss."""

import random
import shutil

from benchlib import leftovers
from benchlib.pagecache import warm
from benchlib.process import progress, start_ms

# Each segment takes a call of every peer. Calls to a store take twenty times as long.
SEGMENTS = {"local": 40, "s3": 10}


def measure(place, wal, segments, work, rounds, keep_cached):
    """Returns samples in ms of every peer, and the sizes of their archives."""
    segments = segments[: SEGMENTS[place.name]]
    samples = {"push_ms": {}, "restore_ms": {}, "miss_ms": {}}
    order = random.Random(1)
    for number in range(rounds):
        progress(f"{place.name}: single calls, round {number + 1} of {rounds}")
        root = work / f"{place.name}-single-{number + 1}"
        peers = place.single(root)
        for peer in peers:
            peer.set_up(wal)
        for segment in segments:
            warm(wal / "pg_wal" / segment)
            turn = order.sample(peers, len(peers))
            for what, peer in _calls(place, turn):
                # A helper that fetches ahead would disturb the next call.
                with leftovers.contained(patience_s=0):
                    samples[what].setdefault(peer.name, []).append(_sample(what, peer, wal, segment))
                if what == "push_ms" and place.name == "local":
                    peer.write_out()
            if place.name == "local" and not keep_cached:
                for peer in peers:
                    peer.release_memory()
        sizes = {peer.name: peer.archive_bytes() for peer in peers} if place.name == "local" else {}
        shutil.rmtree(root)
    in_order = [peer.name for peer in peers]
    return {
        "ms": {what: {name: of[name] for name in in_order if name in of} for what, of in samples.items() if of},
        "archive_bytes": sizes,
        "wal_bytes": sum((wal / "pg_wal" / name).stat().st_size for name in segments),
    }


def _calls(place, turn):
    restoring = [peer for peer in turn if peer.restore_command]
    if place.name == "s3":
        yield from (("miss_ms", peer) for peer in restoring)
    yield from (("push_ms", peer) for peer in turn)
    yield from (("restore_ms", peer) for peer in restoring)


def _sample(what, peer, wal, segment):
    if what == "miss_ms":
        return peer.miss_ms(segment)
    if what == "restore_ms":
        return peer.restore_ms(wal, segment)
    peer.offer(wal, segment)
    return peer.push_ms(segment)


def measure_start(binaries, true, runs):
    """Returns milliseconds of `walkeep-archive --version` and of `true`, in turns."""
    samples = {"true": [], "walkeep-archive --version": []}
    for _ in range(runs):
        samples["true"].append(start_ms([true]))
        samples["walkeep-archive --version"].append(start_ms([str(binaries / "walkeep-archive"), "--version"]))
    return samples
