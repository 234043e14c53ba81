"""From samples to figures with their bounds, and to a table for people. Pure: no clock, no files, no environment."""

from statistics import median

from benchlib.peers import CP, CP_FSYNC, PGBACKREST, WALKEEP
from benchlib.s3peers import WALKEEP_NO_HEAD

# The project's figures. MB is 1,000,000 bytes.
PUSH_BOUND = 1.0
RESTORE_BOUND = 1.5
START_BOUND = 4.0
PEAK_MEMORY_BOUND_MB = 64
BINARY_BOUND_MB = 12
S3_PUSH_BOUND = 0.6
S3_PUSH_NO_HEAD_BOUND = 0.45
S3_RESTORE_BOUND = 0.72

VERDICTS = {True: "met", False: "MISSED", None: ""}


def figures(results):
    """Each figure as name, value, unit, bound, whether it is met, and the ratio of medians where it is a ratio."""
    return _figures_of_s3(results) if "miss_ms" in results else _figures_of_directory(results)


def _figures_of_directory(results):
    start = results["start_ms"]
    return [
        _ratio("push / cp with fsync", results["push_ms"][WALKEEP], results["push_ms"][CP_FSYNC], PUSH_BOUND),
        _ratio("restore / cp", results["restore_ms"][WALKEEP], results["restore_ms"][CP], RESTORE_BOUND),
        _ratio("--version / true", start["walkeep-archive --version"], start["true"], START_BOUND),
        _size("peak memory of a push", max(results["peak_memory_bytes"]), PEAK_MEMORY_BOUND_MB, inclusive=True),
        *(
            _size(f"size of {name}", size, BINARY_BOUND_MB, inclusive=False)
            for name, size in results["binary_bytes"].items()
        ),
    ]


def _figures_of_s3(results):
    """None without pgBackRest, which is all there is to compare with."""
    miss, push, restore = results["miss_ms"], results["push_ms"], results["restore_ms"]
    if PGBACKREST not in push:
        return []
    return [
        _ratio("push / pgBackRest", push[WALKEEP], push[PGBACKREST], S3_PUSH_BOUND),
        _ratio("no HEAD / pgBackRest", push[WALKEEP_NO_HEAD], push[PGBACKREST], S3_PUSH_NO_HEAD_BOUND),
        _ratio("restore / pgBackRest", restore[WALKEEP], restore[PGBACKREST], S3_RESTORE_BOUND),
        _ratio("miss / pgBackRest", miss[WALKEEP], miss[PGBACKREST], None),
    ]


def _ratio(name, ours, theirs, bound):
    value = median(our / their for our, their in zip(ours, theirs))
    return {
        "name": name,
        "value": value,
        "ratio_of_medians": median(ours) / median(theirs),
        "unit": "",
        "bound": f"<= {bound}" if bound else "none",
        "met": value <= bound if bound else None,
    }


def _size(name, size, bound_mb, inclusive):
    value = size / 1e6
    met = value <= bound_mb if inclusive else value < bound_mb
    bound = f"{'<=' if inclusive else '<'} {bound_mb} MB"
    return {"name": name, "value": value, "unit": "MB", "bound": bound, "met": met}


def table(results):
    """The report as lines."""
    wal, machine = results["wal"], results["machine"]
    yield (
        f"{machine['walkeep']}, {machine['system']}, {machine['cpus']} CPUs, load {machine['load']:.1f}, "
        f"on {machine['file_system']}"
    )
    yield (
        f"{wal['segments']} segments, {wal['bytes'] / 1e6:.0f} MB, of pgbench WAL (PostgreSQL {wal['postgresql']}), "
        f"each taken {results['rounds']} times, in turns"
    )
    if "round_trip_ms" in results:
        yield f"archived to Garage's S3, through TLS, {results['round_trip_ms']} ms of round trip away"
    yield ""
    sizes = results.get("archive_bytes", {})
    yield f"{'push of one segment':<28}{'median':>10}{'p90':>10}{'   archive / WAL' if sizes else ''}"
    for name, samples in results["push_ms"].items():
        yield f"  {name:<26}{_times(samples)}{_share(sizes.get(name), wal['bytes'])}"
    for what, samples_of in (
        ("restore of one segment", "restore_ms"),
        ("restore of one that is not there", "miss_ms"),
        ("start", "start_ms"),
    ):
        if samples_of in results:
            yield what
            yield from (f"  {name:<26}{_times(samples)}" for name, samples in results[samples_of].items())
    for name, reason in results["skipped"].items():
        yield f"{name} skipped: {reason}"
    if results["figures"]:
        yield from _bounds(results["figures"])
    yield from (f"note: {note}" for note in results["notes"])


def _bounds(figures):
    yield ""
    yield f"{'walkeep':<28}{'in turn':>10}{'medians':>10}   bound"
    for figure in figures:
        second = f"{figure['ratio_of_medians']:>10.2f}" if "ratio_of_medians" in figure else f"{figure['unit']:>10}"
        verdict = VERDICTS[figure["met"]]
        yield f"  {figure['name']:<26}{figure['value']:>10.2f}{second}   {figure['bound']:<9} {verdict}".rstrip()
    yield ""
    yield "'in turn': median of the ratios of each segment's two times, to which the bound applies; 'medians': ratio of the"
    yield "medians. Times are of this run on this machine; ratios are what can be compared."


def _times(samples):
    tenths = sorted(samples)[int(len(samples) * 0.9)]
    return f"{median(samples):>7.2f} ms{tenths:>7.2f} ms"


def _share(size, whole):
    return "" if size is None else f"{size / whole:>16.1%}"
