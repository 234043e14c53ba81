"""Results as a table for people. Pure: no clock, no files, no environment."""

from statistics import median

from benchlib.figures import rates

PLACES = {"local": "Archive in a directory", "s3": "Archive in a store"}
VERDICTS = {True: "met", False: "MISSED", None: ""}
SINGLE = {
    "push_ms": "push of one segment",
    "restore_ms": "restore of one segment",
    "miss_ms": "restore of one that is not there",
}
THROUGHPUT = {"drain": "drain of a backlog", "replay": "replay of a backlog"}


def table(results):
    """The report as lines."""
    yield from _head(results)
    for place, title in PLACES.items():
        if place in results:
            yield ""
            yield title + (f", {results['round_trip_ms']} ms away: Garage, behind TLS" if place == "s3" else "")
            for part in (_single, _throughput, _recovery, _growth, _noop, _memory, _start):
                yield from part(results[place])
            for reason, names in _by_reason(results["skipped"].get(place, {})).items():
                yield f"  {', '.join(names)} skipped: {reason}"
    if results["figures"]:
        yield from _bounds(results["figures"])
    yield from (f"note: {note}" for note in results["notes"])


def _head(results):
    wal, machine = results["wal"], results["machine"]
    versions = ", ".join([machine["walkeep"], *(f"{name} {version}" for name, version in machine["peers"].items())])
    yield f"{versions}; PostgreSQL {wal['postgresql']}"
    yield (
        f"{machine['date']}, {machine['system']}, {machine['cpus']} x {machine['processor']}, "
        f"load {machine['load']:.1f}, on {machine['file_system']}"
    )
    yield (
        f"{wal['segments']} segments, {wal['bytes'] / 1e6:.0f} MB, of pgbench WAL, in turns, "
        f"{results['rounds']} round{'s'[: results['rounds'] - 1]}"
    )


def _single(results):
    if "single" not in results:
        return
    sizes, whole = results["single"]["archive_bytes"], results["single"]["wal_bytes"]
    for what, of in results["single"]["ms"].items():
        shown = sizes if what == "push_ms" else {}
        yield f"  {SINGLE[what]:<34}{'median':>10}{'p90':>10}{'   archive / WAL' if shown else ''}"
        for name, samples in of.items():
            yield f"    {name:<32}{_times(samples)}{f'{shown[name] / whole:>16.1%}' if name in shown else ''}"


def _throughput(results):
    for what, title in THROUGHPUT.items():
        if what not in results:
            continue
        yield f"  {title:<34}{'segments/s':>12}{'worst':>8}{'best':>8}{'a call':>12}{'p90':>10}   segments"
        for name, samples in results[what].items():
            each = rates(samples)
            calls = [elapsed for sample in samples for elapsed in sample["ms"]]
            failed = sum(sample.get("failed_attempts", 0) for sample in samples)
            yield (
                f"    {name:<32}{median(each):>12.1f}{min(each):>8.1f}{max(each):>8.1f}  {_times(calls)}"
                f"{samples[0]['segments']:>11}{f'   {failed} failed attempts' if failed else ''}"
            )


def _recovery(results):
    if "recovery" in results:
        yield f"  {'recovery of a server':<34}{'median':>10}{'best':>10}{'worst':>10}"
        for name, samples in results["recovery"].items():
            yield f"    {name:<32}{median(samples):>8.2f} s{min(samples):>8.2f} s{max(samples):>8.2f} s"


def _growth(results):
    if "growth" in results:
        yield f"  {'drain by length of backlog':<34}{'segments/s':>12}{'worst':>8}{'best':>8}"
        for length, samples in results["growth"].items():
            each = rates(samples)
            yield f"    {length:<32}{median(each):>12.1f}{min(each):>8.1f}{max(each):>8.1f}"


def _noop(results):
    for command, of in results.get("noop", {}).items():
        yield f"  {f'no-op of {command}_command':<34}{'median':>10}{'p90':>10}{'   sh -c true':>14}"
        for name, samples in of.items():
            yield f"    {name:<32}{_times(samples['call'])}{median(samples['true']):>11.2f} ms"


def _memory(results):
    if "memory" not in results:
        return
    yield f"  {'peak memory of walkeep-archive':<34}{'MB':>10}"
    if "single" in results["memory"]:
        yield f"    {'one file':<32}{max(results['memory']['single']) / 1e6:>10.1f}"
    for connections, peak in results["memory"]["backlog"].items():
        name = f"backlog, connections = {connections}" if connections else "backlog"
        yield f"    {name:<32}{peak / 1e6:>10.1f}"


def _start(results):
    if "start" in results:
        yield f"  {'start':<34}{'median':>10}{'p90':>10}"
        for name, samples in results["start"]["ms"].items():
            yield f"    {name:<32}{_times(samples)}"


def _by_reason(skipped):
    names = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return names


def _bounds(figures):
    yield ""
    yield f"{'walkeep / another':<42}{'walkeep':>10}{'other':>10}{'':>4}{'ratio':>10}   bound"
    for figure in figures:
        name = f"  {figure['place']:<7}{figure['name']:<33}"
        if "ours" in figure:
            sides, unit = f"{figure['ours']:>10.2f}{figure['theirs']:>10.2f} {figure['unit']:<3}", ""
        else:
            sides, unit = " " * 24, f" {figure['unit']}"
        verdict = VERDICTS[figure["met"]]
        yield f"{name}{sides}{figure['value']:>10.2f}   {figure['bound'] + unit:<9} {verdict}".rstrip()
    yield ""
    yield "Both sides are medians; the ratio is the median of the ratios of what was measured in turn, and the bound is"
    yield "for that. Of times less is better, of rates (/s) more. Times are this machine's; ratios can be compared."


def _times(samples):
    tenths = sorted(samples)[int(len(samples) * 0.9)]
    return f"{median(samples):>7.2f} ms{tenths:>7.2f} ms"
