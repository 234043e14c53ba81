"""The command line: what to measure, with what, and where to write it."""

import argparse
from pathlib import Path

PLACES = ("local", "s3")

# What can be measured, and where.
PARTS = {
    "single": ("one push or restore at a time, and from a store a restore of an absent segment", PLACES),
    "drain": ("archiving a backlog by archive_command", PLACES),
    "replay": ("restoring that backlog by restore_command, without a server", PLACES),
    "recovery": ("recovery of a real server", ("local",)),
    "growth": ("drains of backlogs of 10 to 1000 segments", ("local",)),
    "memory": ("peak memory of walkeep-archive, by connections", PLACES),
    "noop": ("calls whose work has been done already", ("local",)),
    "start": ("starting the program, and its size", ("local",)),
}

DESCRIPTION = """
Measures walkeep beside cp, cp with fsync, pgBackRest and barman-cloud, on real pgbench WAL, in one run.

parts:
{parts}
"""

HELP = """
Everything takes about 25 minutes on 2 cores. This takes two or three: --only drain,replay --local --rounds 1

Times depend on the disk. --work, else TMPDIR, else /tmp, must be on the disk to measure, with room for about five times
the WAL, and for growth 20 GB. As root, everything that is measured runs as the user postgres, or nobody.

A store is a bucket of Garage, a server that runs behind TLS and a slow link, all of it on this machine. Missing programs
are installed: stunnel and openssl with apt; Garage, unless WALKEEP_GARAGE names it, by scripts/garage, which may take ten
minutes or more. pgBackRest and barman-cloud are measured if they are installed.

The exit status is 0 if everything was measured. A bound that is missed is marked MISSED, and is no failure.
WALKEEP_PG_BINDIR names the directory of PostgreSQL's programs; CARGO_TARGET_DIR is honoured.
"""


def arguments():
    parts = "\n".join(f"  {name:<10}{text}{_only(places)}" for name, (text, places) in PARTS.items())
    parser = argparse.ArgumentParser(
        description=DESCRIPTION.format(parts=parts),
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what to measure")
    where = what.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="archives in directories only")
    where.add_argument("--s3", action="store_true", help="archives in a store only")
    what.add_argument("--only", type=_parts, default=tuple(PARTS), metavar="PART,...", help="these parts only")
    what.add_argument("--segments", type=_positive, default=100, metavar="N", help="WAL segments to measure with (100)")
    what.add_argument("--rounds", type=_positive, default=3, metavar="N", help="number of times to measure each part (3)")
    what.add_argument("--starts", type=_positive, default=200, metavar="N", help="number of starts of --version (200)")
    what.add_argument("--rtt", type=_positive, default=30, metavar="MS", help="round-trip time to the store (30)")
    what.add_argument("--keep-cached", action="store_true",
                      help="single calls: leave archived files in the page cache, as a server does; on a virtual machine "
                           "this slows peers that write more, because the host has to provide the memory")
    with_ = parser.add_argument_group("with what, and where")
    with_.add_argument("--wal", type=Path, metavar="DIR", help="take the WAL from here; if empty, generate it here")
    with_.add_argument("--binaries", type=Path, metavar="DIR", help="measure these binaries instead of building them")
    with_.add_argument("--work", type=Path, metavar="DIR", help="create the temporary directory here")
    results = parser.add_argument_group("results")
    results.add_argument("--json", type=Path, metavar="FILE", help="write every sample and figure to FILE")
    results.add_argument("--picture", type=Path, metavar="FILE", help="draw drain, replay and growth into FILE, an SVG")
    results.add_argument("--again", type=Path, metavar="FILE",
                         help="measure nothing: print and draw what --json has written to FILE")
    args = parser.parse_args()
    for file in (args.json, args.picture):
        if file and not file.parent.is_dir():
            parser.error(f"{file}: there is no such directory")
    # From here on, each is the set of parts to measure there.
    args.local, args.s3 = (_parts_of(place, args.only) if wanted else set()
                           for place, wanted in (("local", not args.s3), ("s3", not args.local)))
    if not args.local | args.s3:
        parser.error(f"{', '.join(args.only)}: not measured with archives in a store")
    return args


def _parts_of(place, parts):
    return {part for part in parts if place in PARTS[part][1]}


def _only(places):
    return "" if places == PLACES else f" ({', '.join(places)} only)"


def _parts(text):
    names = text.split(",")
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(PARTS)}")
    return tuple(names)


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)
