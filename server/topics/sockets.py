"""The sockets that live in this process: how many of them have not said who they are, and a goodbye to each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakSet

from django.conf import settings

from server import addresses


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


class Stranger:
    """A socket that has not said who it is. It counts until `known` is called: on sign-in and at the end."""

    def __init__(self, lobby: Lobby, address: str) -> None:
        self._lobby: Lobby | None = lobby
        self._address = address

    def known(self) -> None:
        """It no longer counts; calling this twice does no harm."""
        lobby, self._lobby = self._lobby, None
        if lobby is not None:
            lobby.left(self._address)


class Lobby:
    """How many sockets of each client address have not said who they are.

    Whoever opens a socket and stays silent costs memory, so each address may have only so many of those.
    """

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()

    def enter(self, address: str) -> Stranger | None:
        """A place for one more socket; None when the address has LIMITS.unknown_sockets_per_address already."""
        if self._waiting[address] >= settings.LIMITS.unknown_sockets_per_address:
            return None
        self._waiting[address] += 1
        return Stranger(self, address)

    def left(self, address: str) -> None:
        """One less; asked for by the stranger itself."""
        self._waiting[address] -= 1
        if self._waiting[address] <= 0:
            del self._waiting[address]

    def count(self, address: str) -> int:
        """How many are waiting there."""
        return self._waiting.get(address, 0)


lobby = Lobby()


def address_of(scope: Mapping[str, Any]) -> str:
    """What one client has of addresses: behind a trusted proxy the one that the proxy saw; a whole /64 of IPv6."""
    return addresses.group_of(addresses.of_scope(scope))
