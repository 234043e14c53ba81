"""Description of a measurement: versions, processor, file system."""

import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from benchlib import pagecache
from benchlib.process import environment, run


def describe(work, binaries, garage):
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "walkeep": run([binaries / "walkeep-archive", "--version"], environment()).strip(),
        "peers": _versions(garage),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "file_system": run(["stat", "-f", "-c", "%T", work], environment()).strip(),
    }


def _versions(garage):
    """The versions of the installed programs, as each prints it."""
    commands = {
        "pgBackRest": ["pgbackrest", "version"],
        "barman-cloud": ["barman-cloud-wal-archive", "--version"],
        "Garage": [garage or "garage", "--version"],
    }
    return {
        name: run(command, environment()).split(" [")[0].split()[-1].rpartition(":")[2]
        for name, command in commands.items()
        if shutil.which(command[0])
    }


def _processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def notes(results, args, work, wal, segments):
    """Circumstances that make the figures misleading."""
    if len(segments) < args.segments:
        yield f"{args.wal} has {len(segments)} segments, fewer than {args.segments}"
    segment = wal / "pg_wal" / segments[0]
    if segment.stat().st_size != 16 << 20:
        yield f"segments are {segment.stat().st_size >> 20} MB here; the bounds are meant for 16 MB"
    if results["machine"]["file_system"] == "tmpfs":
        yield "on tmpfs an fsync costs nothing; choose a directory on a disk with --work"
    if not pagecache.allowed():
        yield "what is archived may leave the page cache meanwhile; root, or `ulimit -l unlimited`, prevents that"
    clone = work / "clone"
    if subprocess.run(["cp", "--reflink=always", segment, clone], stderr=subprocess.DEVNULL).returncode == 0:
        yield "this file system shares blocks between files, so cp copies nothing here"
    clone.unlink(missing_ok=True)
