"""Drawing of drains, replays and growth as an SVG.

One column, narrow enough to be read on a telephone, with text as text. Its colours follow the reader's: light or dark."""

import textwrap
from statistics import median
from xml.sax.saxutils import escape

PANELS = (
    ("local", "drain", "Archiving a backlog, to a local disk"),
    ("local", "replay", "Restoring it, from the local disk"),
    ("s3", "drain", "Archiving a backlog, to S3"),
    ("s3", "replay", "Restoring it, from S3"),
)

# In pixels. At 420 pixels of width, text of 13 is as large as 11.4.
WIDTH, MARGIN = 480, 12
NAMES, NUMBERS = 172, 44
ROW, BAR, TITLE = 22, 14, 36
COLUMNS = 110

STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1c2430 }
    .head { font-size: 17px } .head, .title, .ours { font-weight: 600 }
    .faint { font-size: 11.5px; fill: #5b6674 }
    rect { fill: #b4bcc6 } rect.ours { fill: #0b5fa5 }
    line { stroke: #1c2430; stroke-opacity: 0.55 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .faint { fill: #9aa5b1 }
      rect { fill: #57606a } rect.ours { fill: #4fa3e3 } line { stroke: #e6edf3 }
    }
"""

# Names in the results, with those on the picture if they differ.
TITLES = {
    "cp with fsync": "cp and fsync",
    "pgBackRest async 2": "pgBackRest, 2 processes",
    "pgBackRest async 8": "pgBackRest, 8 processes",
    "pgBackRest sync": "pgBackRest, synchronous",
}


def has_something_to_draw(results):
    return bool(_panels(results) or _growth_of(results))


def svg(results):
    """Returns the picture, as text."""
    parts, y = [], 30
    parts.append(_text(MARGIN, y, "WAL segments of 16 MB, per second", "head"))
    parts.append(_text(MARGIN, y + 18, "more is better", "faint"))
    y += 22
    for place, what, title in _panels(results):
        y += TITLE
        parts.append(_text(MARGIN, y, title, "title"))
        y = _bars(parts, y + 10, results[place][what])
    if growth := _growth_of(results):
        y += TITLE
        parts.append(_text(MARGIN, y, "Archiving with walkeep, to a local disk,", "title"))
        y += 18
        parts.append(_text(MARGIN, y, "by the length of the backlog", "title"))
        y = _growth(parts, y + 10, growth)
    y += 8
    for paragraph in _caption(results).split("\n"):
        for line in textwrap.wrap(paragraph, 76):
            y += 16
            parts.append(_text(MARGIN, y, line, "faint"))
    height = round(y + 14)
    body = "\n".join(f"  {part}" for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">\n'
        f"  <style>{STYLE}  </style>\n{body}\n</svg>\n"
    )


def _panels(results):
    return [panel for panel in PANELS if results.get(panel[0], {}).get(panel[1])]


def _growth_of(results):
    return results.get("local", {}).get("growth")


def _bars(parts, y, samples_of):
    """Draws bars, the fastest at the top, with the spread of the rounds as a thin line. Returns the lower edge."""
    rates = {name: _rates(samples) for name, samples in samples_of.items()}
    longest = max(max(of) for of in rates.values())
    scale = (WIDTH - 2 * MARGIN - NAMES - NUMBERS) / longest
    for name in sorted(rates, key=lambda name: -median(rates[name])):
        ours = "ours" if name.startswith("walkeep") else ""
        middle, least, most = median(rates[name]), min(rates[name]), max(rates[name])
        left, center = MARGIN + NAMES, y + ROW / 2
        parts.append(_text(MARGIN, center + 4.5, TITLES.get(name, name), ours))
        parts.append(_rect(left, center - BAR / 2, middle * scale, BAR, ours))
        if most > least:
            parts.append(_line(left + least * scale, center, left + most * scale, center))
        number = f"{middle:.0f}" if middle >= 10 else f"{middle:.1f}"
        parts.append(_text(left + max(middle, most) * scale + 6, center + 4.5, number, ours))
        y += ROW
    return y


def _growth(parts, y, growth):
    """Draws the lengths at equal distances, because each is a multiple of the one before. Returns the lower edge."""
    rates = {length: _rates(samples) for length, samples in growth.items()}
    scale = (COLUMNS - 20) / max(max(of) for of in rates.values())
    step, bottom = (WIDTH - 2 * MARGIN) / len(rates), y + COLUMNS
    for number, (length, of) in enumerate(rates.items()):
        center, middle = MARGIN + step * (number + 0.5), median(of)
        parts.append(_rect(center - step / 4, bottom - middle * scale, step / 2, middle * scale, "ours"))
        parts.append(_line(center, bottom - min(of) * scale, center, bottom - max(of) * scale))
        parts.append(_text(center, bottom - max(of) * scale - 5, f"{middle:.0f}", "ours", "middle"))
        parts.append(_text(center, bottom + 17, length, "", "middle"))
    parts.append(_text(MARGIN, bottom + 34, "segments", "faint"))
    return bottom + 34


def _rates(samples):
    return [sample["segments"] / sample["seconds"] for sample in samples]


def _text(x, y, text, style, anchor=None):
    more = (f' class="{style}"' if style else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(str(text))}</text>'


def _rect(x, y, width, height, style):
    more = f' class="{style}"' if style else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{more}/>'


def _line(x1, y1, x2, y2):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


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
