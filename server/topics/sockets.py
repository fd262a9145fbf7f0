"""The sockets that live in this process, so that a server that goes away can say goodbye to each."""

from __future__ import annotations

import asyncio
from typing import Protocol
from weakref import WeakSet


class LiveSocket(Protocol):
    """A consumer that is connected."""

    async def farewell(self) -> None:
        """Send `bye` (going away, come back) and close."""


live_sockets: WeakSet[LiveSocket] = WeakSet()


async def farewell_to_all(*, within_seconds: float) -> int:
    """Say goodbye to everybody at once and answer how many there were. Whoever does not take it in time is left."""
    leaving = [asyncio.create_task(socket.farewell()) for socket in list(live_sockets)]
    if leaving:
        await asyncio.wait(leaving, timeout=within_seconds)
    return len(leaving)
