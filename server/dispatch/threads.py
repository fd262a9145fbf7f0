"""Database work of long-lived tasks, on a few threads that keep their connections.

A thousand sockets must not mean a thousand threads and database connections, and Channels' `database_sync_to_async`
closes the connection after every call when CONN_MAX_AGE is 0, while opening a SQLite connection with its pragmas
costs more than the query. Each lane is one thread with one connection; a call takes the lane with the fewest calls
before it, so one that blocks (a lock, a lost network) delays nobody while another lane is free.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

P = ParamSpec("P")
R = TypeVar("R")

LANES = 12


class _Lane:
    """One thread, one connection."""

    def __init__(self, number: int) -> None:
        self.waiting = 0
        self.is_used = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"dispatch-db-{number}")

    async def call(self, function: Callable[..., R], *args: object, **kwargs: object) -> R:
        self.waiting += 1
        self.is_used = True
        try:
            guarded = sync_to_async(_guarded, thread_sensitive=False, executor=self._thread)
            return await guarded(function, *args, **kwargs)
        finally:
            self.waiting -= 1


_lanes = tuple(_Lane(number) for number in range(LANES))
_users = 0


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a blocking function. Whoever awaits each call before the next keeps its own order."""
    lane = min(_lanes, key=lambda one: one.waiting)
    return await lane.call(function, *args, **kwargs)


@asynccontextmanager
async def database_threads() -> AsyncIterator[None]:
    """Whoever calls `in_thread` does so inside; the last one to leave closes the connections."""
    global _users  # noqa: PLW0603  (one set of threads for the process)
    _users += 1
    try:
        yield
    finally:
        _users -= 1
        if _users == 0:
            await asyncio.shield(_close_lanes())


async def _close_lanes() -> None:
    used = [lane for lane in _lanes if lane.is_used]
    await asyncio.gather(*(lane.call(_close_all) for lane in used))
    for lane in used:
        lane.is_used = False


def _guarded(function: Callable[..., R], *args: object, **kwargs: object) -> R:
    try:
        return function(*args, **kwargs)
    finally:
        # SQLite's stays with the thread; PostgreSQL's goes back to the pool, which tests it before it is used again.
        for connection in connections.all(initialized_only=True):
            connection.close_if_unusable_or_obsolete()


def _close_all() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
