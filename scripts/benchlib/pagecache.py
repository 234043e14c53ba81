"""Control of the page cache, so that its content does not depend on earlier measurements."""

import contextlib
import ctypes
import mmap

PR_SET_KEEPCAPS = 8
CAP_IPC_LOCK = 14
LINUX_CAPABILITY_VERSION_3 = 0x20080522


def files(directory):
    """Yields a descriptor of each file below the directory, one open at a time."""
    for path in paths(directory):
        with open(path, "rb") as file:
            yield file.fileno()


def paths(directory):
    return [path for path in directory.rglob("*") if path.is_file()]


def warm(path):
    """Reads a file into the page cache, where the server that has just written it would have left it."""
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


@contextlib.contextmanager
def held(files_to_hold):
    """Keeps files in the page cache, if this process is `allowed` to. Otherwise reads them into it at the beginning.

    Some machines take memory back from the page cache within seconds, because their host wants it. Without this a long
    backlog would be half gone before its turn comes, and the disk would be what is measured."""
    with contextlib.ExitStack() as stack:
        for path in files_to_hold:
            warm(path)
            stack.enter_context(_locked(path))
        yield


def allowed():
    """Returns whether this process may lock more memory than the few megabytes allowed to everybody."""
    size = 64 << 20
    with _mapped(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as address:
        return _LIBC.mlock(address, size) == 0


@contextlib.contextmanager
def permission_kept():
    """Lets the user that root becomes within this context lock memory, too. Programs do not inherit that."""
    _LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    yield
    lock = 1 << CAP_IPC_LOCK
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable: their lower halves, then the upper ones. Drops all other capabilities.
    _LIBC.capset(header, (ctypes.c_uint32 * 6)(lock, lock, 0, 0, 0, 0))


@contextlib.contextmanager
def _locked(path):
    # Not by Python's mmap, which keeps a descriptor for each mapping.
    size = path.stat().st_size
    with contextlib.ExitStack() as stack:
        with open(path, "rb") as file:
            address = stack.enter_context(_mapped(file.fileno(), size, mmap.MAP_SHARED))
        _LIBC.mlock(address, size)
        yield


@contextlib.contextmanager
def _mapped(descriptor, size, flags):
    address = _LIBC.mmap(None, size, mmap.PROT_READ, flags, descriptor, 0)
    try:
        yield address
    finally:
        _LIBC.munmap(address, size)


_LIBC = ctypes.CDLL(None)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_LIBC.mlock.argtypes = _LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
