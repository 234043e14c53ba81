"""Processes that a command leaves running: helpers that detach are waited for, then ended, before the next measurement.

This process becomes the one that orphans are given to. So whatever detaches, however it does that, becomes its child in
the end, and can be told from the servers that it has started itself."""

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

from benchlib.process import Failure

PR_SET_CHILD_SUBREAPER = 36

# An idle helper may stay for a while, in case there is more to do.
PATIENCE_S = 1


def adopt():
    """Makes descendants whose parents end children of this process, from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise Failure(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def contained(patience_s=PATIENCE_S):
    """Ends all processes that were started within this context."""
    before = _children()
    try:
        yield
    except BaseException:
        _end(before, 0)
        raise
    _end(before, patience_s)


def _children():
    return {int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == os.getpid()}


def _parent(stat):
    # A process may have ended meanwhile. Its program's name may contain spaces and parentheses.
    with contextlib.suppress(OSError):
        return int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    return None


def _end(known, patience_s):
    """Waits for all children except the `known`, and kills them after a while. That includes children of theirs."""
    deadline = time.monotonic() + patience_s
    while left := _children() - known:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if time.monotonic() >= deadline:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
