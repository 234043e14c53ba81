"""Drawing of drains, replays and growth: a program that reads results and writes an SVG, for a Python with matplotlib.

It imports nothing of this package, and matplotlib only when it draws."""

import json
import sys
from statistics import median

PANELS = (
    ("local", "drain", "Archiving a backlog, to a local disk"),
    ("local", "replay", "Restoring it, from the local disk"),
    ("s3", "drain", "Archiving a backlog, to S3"),
    ("s3", "replay", "Restoring it, from S3"),
)

GAP_IN = 0.55
OURS, OTHERS, INK, FAINT = "#0b5fa5", "#b4bcc6", "#1c2430", "#5b6674"

# Names in the results, with those on the picture if they differ.
TITLES = {
    "cp with fsync": "cp and fsync",
    "pgBackRest async 2": "pgBackRest, 2 processes",
    "pgBackRest async 8": "pgBackRest, 8 processes",
    "pgBackRest sync": "pgBackRest, synchronous",
}


def has_something_to_draw(results):
    return bool(_panels(results) or _growth_of(results))


def _panels(results):
    return [panel for panel in PANELS if results.get(panel[0], {}).get(panel[1])]


def _growth_of(results):
    return results.get("local", {}).get("growth")


def _draw(results, path):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"font.size": 10, "text.color": INK, "svg.hashsalt": "bench"})
    from matplotlib.figure import Figure

    panels, growth = _panels(results), _growth_of(results)
    rows = [panels[at : at + 2] for at in range(0, len(panels), 2)]
    # Heights in rows of bars, all of one height.
    bars = [max(len(results[place][what]) for place, what, _ in row) for row in rows]
    heights = [*bars, *([4.5] if growth else [])]
    inches = 0.33 * sum(heights) + GAP_IN * len(heights) + 1.2
    figure = Figure(figsize=(10, inches), facecolor="white")
    top, bottom = 1 - 0.95 / inches, 0.95 / inches
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights, top=top, bottom=bottom, left=0.195, right=0.98,
                               wspace=0.68, hspace=GAP_IN * len(heights) / (0.33 * sum(heights)))
    for number, row in enumerate(rows):
        for column, (place, what, title) in enumerate(row):
            _bars(figure.add_subplot(grid[number, column]), title, results[place][what], bars[number])
    if growth:
        _growth(figure.add_subplot(grid[len(rows), :]), growth)
    figure.text(0.02, 1 - 0.2 / inches, "WAL segments of 16 MB, per second", fontsize=15, fontweight="bold", va="top")
    figure.text(0.98, 1 - 0.24 / inches, "more is better", fontsize=10, color=FAINT, va="top", ha="right")
    figure.text(0.02, 0.1 / inches, _caption(results), fontsize=7.5, color=FAINT, va="bottom", linespacing=1.5)
    figure.savefig(path, metadata={"Date": None})


def _bars(axes, title, samples_of, room):
    """Draws bars, the fastest at the top, with the spread of the rounds as a thin line."""
    rates = {name: _rates(samples) for name, samples in samples_of.items()}
    names = sorted(rates, key=lambda name: median(rates[name]))
    longest = max(max(of) for of in rates.values())
    for at, name in enumerate(names):
        ours = name.startswith("walkeep")
        middle, least, most = median(rates[name]), min(rates[name]), max(rates[name])
        axes.barh(at, middle, height=0.68, color=OURS if ours else OTHERS, zorder=2)
        if most > least:
            axes.plot([least, most], [at, at], color=INK, linewidth=1, alpha=0.55, zorder=3, solid_capstyle="butt")
        text = f"{middle:.0f}" if middle >= 10 else f"{middle:.1f}"
        axes.text(max(middle, most) + longest * 0.02, at, text, va="center", fontsize=10,
                  fontweight="bold" if ours else "normal")
    axes.set_yticks(range(len(names)), [TITLES.get(name, name) for name in names])
    for label, name in zip(axes.get_yticklabels(), names):
        label.set_fontweight("bold" if name.startswith("walkeep") else "normal")
    axes.set_xlim(0, longest * 1.16)
    axes.set_ylim(len(names) - room - 0.5, len(names) - 0.5)
    axes.set_xticks([])
    _plain(axes, title)


def _growth(axes, growth):
    """Draws the lengths at equal distances, because each is a multiple of the one before."""
    rates = [_rates(samples) for samples in growth.values()]
    middles = [median(of) for of in rates]
    at = range(len(middles))
    axes.bar(at, middles, width=0.5, color=OURS, zorder=2)
    for x, of, middle in zip(at, rates, middles):
        axes.plot([x, x], [min(of), max(of)], color=INK, linewidth=1, alpha=0.55, zorder=3)
        axes.text(x, max(of) + max(middles) * 0.03, f"{middle:.0f}", ha="center", fontweight="bold")
    axes.set_xticks(at, [f"{length} segments" for length in growth])
    axes.set_ylim(0, max(map(max, rates)) * 1.15)
    axes.set_yticks([])
    _plain(axes, "Archiving with walkeep, to a local disk, by the length of the backlog")


def _rates(samples):
    return [sample["segments"] / sample["seconds"] for sample in samples]


def _plain(axes, title):
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, colors=INK)
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", pad=5)


def _caption(results):
    machine, wal = results["machine"], results["wal"]
    others = ", ".join(f"{name} {version}" for name, version in machine["peers"].items())
    far = f"; S3: Garage behind TLS, {results['round_trip_ms']} ms away" if "round_trip_ms" in results else ""
    return (
        f"{machine['date']}, {machine['cpus']} cores of {machine['processor']}, {machine['system']}. "
        f"{machine['walkeep'].replace('-archive', '')}, {others}, PostgreSQL {wal['postgresql']}.\n"
        f"{wal['segments']} segments of pgbench WAL{_fewer(results)}. cp: not compressed; barman-cloud: gzip; "
        f"the others: zstd level 1{far}.\n"
        f"Median of {results['rounds']} round{'s'[: results['rounds'] - 1]}; thin lines: slowest and fastest round."
    )


def _fewer(results):
    samples = [of[0] for place, what, _ in PANELS for of in results.get(place, {}).get(what, {}).values()]
    fewest = min((sample["segments"] for sample in samples), default=results["wal"]["segments"])
    return f" ({fewest} where each call does its own file alone)" if fewest < results["wal"]["segments"] else ""


if __name__ == "__main__":
    _draw(json.load(sys.stdin), sys.argv[1])
