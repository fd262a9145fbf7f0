"""The feeds as conversations read them: through a bounded number of threads, and equal questions once.

Flow: 9 browser
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from channels.db import database_sync_to_async

from frontend_bridge import callers, feeds
from frontend_bridge.callers import Caller
from frontend_bridge.sharing import SharedReads
from server.topics.sockets import live_sockets

READERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="browser-read")
"""Browsers read the database here: a bounded number, and never on the thread that all of Django shares."""

SWEEP_SECONDS = 4.0

_shared = SharedReads()


async def _in_thread(function: Callable, *args: Any, **kwargs: Any) -> Any:
    return await database_sync_to_async(function, thread_sensitive=False, executor=READERS)(*args, **kwargs)


def _once(function: Callable, *args: Any) -> Awaitable[Any]:
    """Read in a thread; whoever asks the same meanwhile shares the answer."""
    return _shared.ask((function, args), partial(_in_thread, function, *args))


class _Sweep:
    """One look at the positions of everything that is followed in this process, shared by all its sockets."""

    def __init__(self) -> None:
        self._looked_at = 0.0
        self._asked: set[str] = set()
        self._found: dict[str, feeds.Position] = {}

    async def positions(self, names: list[str]) -> dict[str, feeds.Position]:
        """At most `SWEEP_SECONDS` old: a change that is younger has its poke, or the next look."""
        if time.monotonic() - self._looked_at > SWEEP_SECONDS or not self._asked.issuperset(names):
            await _shared.ask("sweep", partial(self._look, names))
        return {name: self._found[name] for name in names if name in self._found}

    async def _look(self, names: list[str]) -> None:
        followed = {topic for one in live_sockets for topic in getattr(one, "topics", ())}
        asked = followed | set(names)
        self._found = await _in_thread(feeds.positions, asked)
        self._looked_at, self._asked = time.monotonic(), asked


_sweep = _Sweep()


async def caller_by_ticket(ticket: str, *, address: str) -> Caller | None:
    """Who shows this ticket, read in a thread.

    Raises:
        TooMany: this address has failed too often.
    """
    return await _in_thread(callers.by_ticket, ticket, address=address)


class Reading:
    """What one socket reads. `key` is that of its session or of its API token."""

    def __init__(self, key: str) -> None:
        self._key = key

    async def admit(self, user: Any, topic: str) -> None:
        """Raises Problem."""
        await _in_thread(feeds.admit, user, topic)

    async def opening(self, user: Any, topic: str) -> feeds.Opening:
        """The topic as it is now."""
        return await _in_thread(feeds.opening, user, topic)

    async def since(self, topic: str, seq: int, *, limit: int) -> list[feeds.Change]:
        """The changes after `seq`. Five hundred who watch one job are at the same seq, and read it once."""
        return await _once(feeds.since, topic, seq, limit)

    async def positions(self, names: list[str]) -> dict[str, feeds.Position]:
        """Where the logs stand, at most a few seconds ago."""
        return await _sweep.positions(names)

    async def mask_file(self, job_id: str) -> feeds.MaskFile | None:
        """The mask, unless it is too large to be pushed. Its bytes are shared by all who get it at the same time."""
        return await _once(feeds.mask_file, job_id)

    async def signed_in_user(self) -> Any | None:
        """Whose socket this is by now."""
        return await _in_thread(callers.still_there, self._key)
