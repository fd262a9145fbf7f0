"""How a peer's worker says when it had a task in hand."""

from __future__ import annotations

import os
import socket
import time

_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def ring() -> None:
    """Send the time of now to whoever measures."""
    now = time.perf_counter()
    _socket.sendto(repr(now).encode(), ("127.0.0.1", int(os.environ["PEER_BELL"])))
