"""A network link with a round-trip time, made of threads: bytes arrive half of it later, and connecting takes one.

That is all it is. Bandwidth is this machine's, and no window has to grow first, as a real link's does for all alike."""

import contextlib
import os
import queue
import signal
import socket
import threading
import time


@contextlib.contextmanager
def slow_link(target, round_trip_s):
    """Leads to the port `target` of this machine; yields the port to connect to instead.

    In a process of its own: this one takes times, and would have to share its interpreter with all those threads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = os.fork()
        if link == 0:
            try:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_DFL)
                _accept(listener, target, round_trip_s)
            finally:
                os._exit(1)
        try:
            yield listener.getsockname()[1]
        finally:
            os.kill(link, signal.SIGKILL)
            os.waitpid(link, 0)


def _start(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def _accept(listener, target, round_trip_s):
    with contextlib.suppress(OSError):
        while True:
            _start(_lead, listener.accept()[0], target, round_trip_s)


def _lead(client, target, round_trip_s):
    # Not create_connection: it looks the address up, for which Python loads a module that may be out of reach by now.
    with client, socket.socket() as server, contextlib.suppress(OSError):
        server.connect(("127.0.0.1", target))
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The kernel has let the client connect at once, so its first bytes wait for what that would have taken: not the
        # connection, or what a client does before it sends anything would go for nothing.
        up = _start(_pass_on, client, server, round_trip_s / 2, round_trip_s)
        down = _start(_pass_on, server, client, round_trip_s / 2, 0)
        for thread in (up, down):
            thread.join()


def _pass_on(source, sink, delay_s, more_at_first_s):
    arrived = queue.SimpleQueue()
    _start(_receive, source, arrived)
    at, data = arrived.get()
    at += more_at_first_s
    with contextlib.suppress(OSError):
        while True:
            time.sleep(max(0, at + delay_s - time.monotonic()))
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            sink.sendall(data)
            at, data = arrived.get()


def _receive(source, arrived):
    data = True
    while data:
        try:
            data = source.recv(1 << 18)
        except OSError:
            data = b""
        arrived.put((time.monotonic(), data))
