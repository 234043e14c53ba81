"""walkeep's rate of archiving a backlog, by the length of the backlog."""

import os
import random
import shutil
import struct
from pathlib import Path

from benchlib.process import progress
from benchlib.throughput import drain

LENGTHS = (10, 30, 100, 300, 1000)

# Short backlogs vary more, and take less time. Long ones vary little.
DRAINED_A_ROUND = 60
ROUNDS_AT_MOST = 2

# The backlog must fit into the page cache, or the disk would be measured. The disk needs room for more than that.
SHARE_OF_MEMORY = 0.85
SHARE_OF_DISK = 0.8

# xlp_pageaddr, in the header of a segment's first page.
PAGE_ADDRESS_OFFSET = 8


def measure(place, wal, segments, work, rounds):
    """Returns samples by length of the backlog, taken in shuffled order, and a note if a length was left out."""
    size = (wal / "pg_wal" / segments[0]).stat().st_size
    room = _room(work)
    lengths = [length for length in LENGTHS if length * size <= room]
    samples = {str(length): [] for length in lengths}
    left_out = [length for length in LENGTHS if length not in lengths]
    notes = [f"growth: no room in memory or on disk for {length} segments" for length in left_out]
    if not lengths:
        return samples, notes
    stretched = work / "stretched"
    progress(f"{place.name}: making {max(lengths)} segments of {len(segments)}")
    names = _stretch(wal, stretched, segments, max(lengths), size)
    order = random.Random(3)
    rounds = min(rounds, ROUNDS_AT_MOST)
    for number in range(rounds):
        turns = [length for length in lengths for _ in range(max(1, DRAINED_A_ROUND // length))]
        for length in order.sample(turns, len(turns)):
            progress(f"{place.name}: backlog of {length} segments, round {number + 1} of {rounds}")
            root = work / "growth"
            peer = place.walkeep(root)
            peer.set_up(stretched)
            samples[str(length)].append(drain(peer, stretched, names[:length]))
            peer.release_memory()
            shutil.rmtree(root)
    shutil.rmtree(stretched)
    return samples, notes


def _room(work):
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(memory["MemAvailable"].split()[0]) * 1024
    return min(available * SHARE_OF_MEMORY, shutil.disk_usage(work).free * SHARE_OF_DISK)


def _stretch(wal, directory, segments, count, size):
    """Fills a WAL directory with the segments, and with copies that continue in name and position. Returns their names.

    Only the first page of a segment says where it belongs, and nobody here looks further."""
    (directory / "global").mkdir(parents=True)
    (directory / "pg_wal").mkdir()
    for file in ("PG_VERSION", "global/pg_control"):
        shutil.copyfile(wal / file, directory / file)
    timeline, first = segments[0][:8], _number(segments[0], size)
    names = []
    for index in range(count):
        number = first + index
        name = f"{timeline}{number // _per_log(size):08X}{number % _per_log(size):08X}"
        original = wal / "pg_wal" / segments[index % len(segments)]
        copy = directory / "pg_wal" / name
        if original.name == name:
            os.link(original, copy)
        else:
            shutil.copyfile(original, copy)
            with open(copy, "r+b") as file:
                file.seek(PAGE_ADDRESS_OFFSET)
                file.write(struct.pack("=Q", number * size))
        names.append(name)
    os.sync()
    return names


def _number(name, size):
    return int(name[8:16], 16) * _per_log(size) + int(name[16:], 16)


def _per_log(size):
    """Number of segments that share the middle part of their names."""
    return (1 << 32) // size
