"""What a command leaves running: helpers that detach are waited for, then ended, before anything else is measured.

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

# A helper that has nothing left to do may stay for a while, in case there is more.
PATIENCE_S = 1


def adopt():
    """From now on, descendants whose parents end become children of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise Failure(f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def contained(patience_s=PATIENCE_S):
    """No process that begins within it outlives it."""
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
    # A process may have ended meanwhile; its program's name may hold spaces and parentheses.
    with contextlib.suppress(OSError):
        return int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    return None


def _end(known, patience_s):
    """Those that are killed may leave children of their own, which come here, too."""
    deadline = time.monotonic() + patience_s
    while left := _children() - known:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if time.monotonic() >= deadline:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
