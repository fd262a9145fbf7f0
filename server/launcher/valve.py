"""Sending on a WebSocket waits while the other side does not read.

Daphne hands a message to Twisted and goes on; Twisted keeps what the kernel does not take, without limit (measured:
419 MB for 400 MiB to a reader that had stopped). Twisted does say when its buffer is full and when it is empty again,
to a producer that is registered with the connection.
"""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Valve:
    """Open while the connection takes what it is given (Twisted's buffer: 64 KiB), and when it has ended."""

    def __init__(self, transport: Any) -> None:
        self._open = asyncio.Event()
        self._open.set()
        transport.unregisterProducer()  # that of the HTTP request which became this socket
        transport.registerProducer(self, True)  # noqa: FBT003  (Twisted's signature: a streaming producer)

    async def passable(self) -> None:
        """Wait until there is room again."""
        await self._open.wait()

    def pauseProducing(self) -> None:
        """The buffer is full."""
        self._open.clear()

    def resumeProducing(self) -> None:
        """The buffer is empty."""
        self._open.set()

    def stopProducing(self) -> None:
        """The connection has ended; whoever waits may go on, and is told by the next message."""
        self._open.set()
