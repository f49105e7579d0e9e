"""Ports for processes that bind theirs themselves, later than the test names it.

The kernel hands out "any free port" (0) from its ephemeral range. A port probed that way and let go may be given to
the next server in line, of this test or of one that runs beside it, before the process it was meant for binds it. So
these come from below that range (Linux begins at 32768, IANA and macOS at 49152: RFC 6335, section 6), and every
process that runs tests counts on from a place of its own.
"""

import itertools
import os
import socket

FIRST, LAST = 20_000, 32_000

_coming = itertools.count(os.getpid() * 997)


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and which nobody else is given while this process lives."""
    for number in itertools.islice(_coming, LAST - FIRST):
        port = FIRST + number % (LAST - FIRST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"No port of 127.0.0.1 is free from {FIRST} to {LAST}: end what listens there.")
