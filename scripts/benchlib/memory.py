"""Peak memory of walkeep-archive: of a call with one file, and of one that takes a backlog along."""

import shutil

from benchlib import leftovers
from benchlib.process import progress

SINGLE_CALLS = 5
CONNECTIONS = (1, 2, 4, 8, 16, 32)


def single_calls(place, wal, segments, work):
    """Returns the peak resident bytes of a few calls with one file each."""
    progress(f"{place.name}: memory of single calls")
    root = work / "memory-single"
    peer = place.walkeep(root)
    peer.set_up(wal)
    peaks = []
    for segment in segments[:SINGLE_CALLS]:
        peer.offer(wal, segment)
        peaks.append(peer.push_peak_memory_bytes(segment))
        (peer.primary / f"pg_wal/archive_status/{segment}.ready").unlink()
    shutil.rmtree(root)
    return peaks


def backlog(place, wal, segments, work):
    """Peak resident bytes of the one call that takes the backlog along; to a store, by its number of connections."""
    peaks = {}
    for connections in CONNECTIONS if place.name == "s3" else ("",):
        progress(f"{place.name}: memory of a call with a backlog {connections}".rstrip())
        root = work / f"memory-{place.name}-{connections}"
        settings = {"settings": f"connections = {connections}"} if connections else {}
        peer = place.walkeep(root, **settings)
        peer.set_up(wal)
        for segment in segments:
            peer.offer(wal, segment)
        with leftovers.contained():
            peaks[str(connections)] = peer.push_peak_memory_bytes(segments[0])
        peer.release_memory()
        shutil.rmtree(root)
    return peaks
