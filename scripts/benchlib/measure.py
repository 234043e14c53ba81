"""All measurements, in order. They run as an unprivileged user if possible."""

import shutil

from benchlib import growth, leftovers, machine, memory, noop, recovery, single, throughput, wal
from benchlib.peers import Directory
from benchlib.s3peers import Bucket
from benchlib.s3server import serve


def measure(args, work, store, binaries, servers, programs):
    """Returns the results for the JSON file, without the figures, which are computed from them."""
    leftovers.adopt()
    segments = wal.ready_segments(store)
    results = {
        "machine": machine.describe(work, binaries, servers and servers["garage"]),
        "wal": {
            "segments": len(segments),
            "bytes": sum((store / "pg_wal" / name).stat().st_size for name in segments),
            "postgresql": (store / "PG_VERSION").read_text().strip(),
        },
        "rounds": args.rounds,
        "skipped": {},
    }
    results["notes"] = list(machine.notes(results, args, work, store, segments))
    if args.local:
        place = Directory(work, store, binaries)
        results["local"] = _anywhere(args, args.local, place, work, store, segments)
        _local(args, place, work, store, segments, programs, results)
        results["skipped"]["local"] = place.skipped
    if args.s3:
        results["round_trip_ms"] = args.rtt
        with serve(servers, work, args.rtt) as server:
            place = Bucket(work, store, binaries, server)
            results["s3"] = _anywhere(args, args.s3, place, work, store, segments)
            results["skipped"]["s3"] = place.skipped
    return results


def _anywhere(args, parts, place, work, store, segments):
    results = {}
    if "single" in parts:
        results["single"] = single.measure(place, store, segments, work, args.rounds, args.keep_cached)
    if {"drain", "replay"} & parts:
        both = throughput.measure(place, store, segments, work, args.rounds, "replay" in parts)
        results.update({part: both[part] for part in ("drain", "replay") if part in parts})
    if "memory" in parts:
        results["memory"] = {"backlog": memory.backlog(place, store, segments, work)}
    return results


def _local(args, place, work, store, segments, programs, results):
    """Adds the measurements that need archives in directories."""
    local = results["local"]
    if "memory" in args.local:
        local["memory"]["single"] = memory.single_calls(place, store, segments, work)
    if "noop" in args.local:
        local["noop"] = noop.measure(place, store, segments, work)
    if "start" in args.local:
        local["start"] = {
            "ms": single.measure_start(place.binaries, shutil.which("true") or "/bin/true", args.starts),
            "binary_bytes": {path.name: path.stat().st_size for path in place.binaries.glob("walkeep*")},
        }
    if "recovery" in args.local:
        reason = recovery.why_not(store, programs)
        if reason:
            results["notes"].append(f"recovery skipped: {reason}")
        else:
            rounds = max(args.rounds, recovery.ROUNDS_AT_LEAST)
            local["recovery"] = recovery.measure(place, store, segments, work, programs, rounds)
    if "growth" in args.local:
        local["growth"], notes = growth.measure(place, store, segments, work, args.rounds)
        results["notes"] += notes
