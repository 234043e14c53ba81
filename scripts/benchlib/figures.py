"""Computation of figures from samples, with their bounds. Pure: no clock, no files, no environment."""

from statistics import median

from benchlib.peers import CP, CP_FSYNC, PGBACKREST, PGBACKREST_2, PGBACKREST_8, WALKEEP
from benchlib.s3peers import WALKEEP_NO_HEAD

# Bounds of the project's figures: maximum ratio of walkeep's time to the other's. MB is 1,000,000 bytes.
SINGLE_BOUNDS = {
    "local": (
        ("push", "push_ms", WALKEEP, CP_FSYNC, 1.0),
        ("push", "push_ms", WALKEEP, PGBACKREST, None),
        ("restore", "restore_ms", WALKEEP, CP, 1.5),
        ("restore", "restore_ms", WALKEEP, PGBACKREST, None),
    ),
    "s3": (
        ("push", "push_ms", WALKEEP, PGBACKREST, 0.6),
        ("push, no HEAD", "push_ms", WALKEEP_NO_HEAD, PGBACKREST, 0.45),
        ("restore", "restore_ms", WALKEEP, PGBACKREST, 0.72),
        ("miss", "miss_ms", WALKEEP, PGBACKREST, None),
    ),
}
START_BOUND = 4.0
NOOP_BOUND = 3.0
RECOVERY_BOUND = 1.1
PEAK_MEMORY_BOUND_MB = 64
BINARY_BOUND_MB = 12

# Minimum ratio of walkeep's rate to the other's.
THROUGHPUT_BOUNDS = {
    "local": (("drain", PGBACKREST_2, 1.8), ("replay", PGBACKREST_2, 1.4)),
    "s3": (("drain", PGBACKREST_8, 2.5), ("replay", PGBACKREST_8, 2.5)),
}


def figures(results):
    """Returns all figures: place, name, both sides with unit, value, bound, and whether it is met."""
    return [
        {"place": place, **figure}
        for place in ("local", "s3")
        if place in results
        for figures_of in (_single, _throughput, _recovery, _noop, _start, _memory)
        for figure in figures_of(place, results[place])
    ]


def rates(samples):
    """Segments per second, in each round."""
    return [sample["segments"] / sample["seconds"] for sample in samples]


def _single(place, results):
    times = results["single"]["ms"] if "single" in results else {}
    for name, what, ours, theirs, bound in SINGLE_BOUNDS[place]:
        of = times.get(what, {})
        if ours in of and theirs in of:
            yield _ratio(f"{name} / {theirs}", of[ours], of[theirs], "ms", bound)


def _throughput(place, results):
    for what, theirs, bound in THROUGHPUT_BOUNDS[place]:
        of = results.get(what, {})
        if theirs in of:
            yield _ratio(f"{what} / {theirs}", rates(of[WALKEEP]), rates(of[theirs]), "/s", bound, at_least=True)


def _recovery(_place, results):
    of = results.get("recovery", {})
    for theirs, bound in ((CP, RECOVERY_BOUND), (PGBACKREST_2, None)):
        if theirs in of:
            yield _ratio(f"recovery / {theirs}", of[WALKEEP], of[theirs], "s", bound)


def _noop(_place, results):
    for command, of in results.get("noop", {}).items():
        yield _ratio(f"no-op {command} / sh -c true", of[WALKEEP]["call"], of[WALKEEP]["true"], "ms", NOOP_BOUND)


def _start(_place, results):
    if "start" not in results:
        return
    times = results["start"]["ms"]
    yield _ratio("--version / true", times["walkeep-archive --version"], times["true"], "ms", START_BOUND)
    for name, size in results["start"]["binary_bytes"].items():
        yield _size(f"size of {name}", size, BINARY_BOUND_MB)


def _memory(_place, results):
    if "single" in results.get("memory", {}):
        yield _size("peak memory of a push", max(results["memory"]["single"]), PEAK_MEMORY_BOUND_MB)


def _ratio(name, ours, theirs, unit, bound, at_least=False):
    """The median of the ratios of samples taken side by side. It is less noisy than the ratio of the medians."""
    value = median(our / their for our, their in zip(ours, theirs))
    met = None if bound is None else value >= bound if at_least else value <= bound
    sign = ">=" if at_least else "<="
    return {
        "name": name,
        "ours": median(ours),
        "theirs": median(theirs),
        "unit": unit,
        "value": value,
        "bound": f"{sign} {bound}" if bound else "none",
        "met": met,
    }


def _size(name, size, bound_mb):
    value = size / 1e6
    return {"name": name, "unit": "MB", "value": value, "bound": f"<= {bound_mb}", "met": value <= bound_mb}
