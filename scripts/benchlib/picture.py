"""Drawing of results, if some Python has matplotlib.

Debian's matplotlib belongs to Debian's Python, which need not be the one that runs this."""

import json
import subprocess
import sys

from benchlib import draw
from benchlib.process import Failure, progress

PYTHONS = (sys.executable, "/usr/bin/python3")
INSTALL = "matplotlib not found (Debian, Ubuntu: apt-get install python3-matplotlib)"


def drawing(path):
    """Returns a function that draws results into `path`, an SVG. Prints the reason and returns None if no Python can."""
    for python in PYTHONS:
        if subprocess.run([python, "-c", "import matplotlib"], capture_output=True).returncode == 0:
            return lambda results: _draw_by(python, path, results)
    progress(f"picture skipped: {INSTALL}")
    return None


def _draw_by(python, path, results):
    if not draw.has_something_to_draw(results):
        progress("picture skipped: none of drain, replay and growth was measured")
        return
    program = [python, "-B", draw.__file__, path]
    done = subprocess.run(program, input=json.dumps(results), stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failure(f"cannot draw {path}: {done.stderr.strip().splitlines()[-1]}")
