"""Calls whose work an earlier call has done: for a file archived already, and for one prefetched already.

A pause before each call, as the server itself makes by writing or replaying WAL, lets helpers get ahead. Before each
call also one of `true` is timed, in the same way: what it costs to call anything at all."""

import shutil
import time

from benchlib import leftovers
from benchlib.pagecache import warm
from benchlib.process import progress

PAUSE_S = 0.1
SEGMENTS = 60


def measure(place, wal, segments, work):
    """Samples in ms by command and by peer, each with those of `true`."""
    segments = segments[:SEGMENTS]
    results = {"archive": {}, "restore": {}}
    root = work / f"{place.name}-noop"
    for peer in place.asynchronous(root):
        progress(f"{place.name}: calls of {peer.name} with nothing left to do")
        peer.set_up(wal)
        for segment in segments:
            peer.offer(wal, segment)
            warm(wal / "pg_wal" / segment)
        with leftovers.contained():
            results["archive"][peer.name] = _times(peer, segments, peer.push_ms)
        with leftovers.contained():
            results["restore"][peer.name] = _times(peer, segments, lambda name, of=peer: of.restore_ms(wal, name))
    shutil.rmtree(root)
    return results


def _times(peer, segments, call_ms):
    """Samples without that of the first call, which does the work."""
    call_ms(segments[0])
    samples = {"true": [], "call": []}
    for segment in segments[1:]:
        time.sleep(PAUSE_S)
        samples["true"].append(peer.nothing_ms())
        samples["call"].append(call_ms(segment))
    return samples
