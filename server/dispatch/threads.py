"""Database work of a long-lived task, on its own thread and its own connection.

Channels' `database_sync_to_async` closes the connection after every call when CONN_MAX_AGE is 0, and a SQLite
connection with its pragmas costs more than the query. Here the thread of the surrounding ThreadSensitiveContext
keeps its connection and drops it after an error.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

P = ParamSpec("P")
R = TypeVar("R")


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a blocking function on the context's one thread, in the order of asking."""
    return await sync_to_async(_guarded, thread_sensitive=True)(function, *args, **kwargs)


async def let_go() -> None:
    """Close the thread's connections: the last call of a task."""
    await sync_to_async(_close_all, thread_sensitive=True)()


def _guarded(function: Callable[..., R], *args: object, **kwargs: object) -> R:
    try:
        return function(*args, **kwargs)
    finally:
        for connection in connections.all(initialized_only=True):
            if connection.errors_occurred and not connection.in_atomic_block:
                connection.close()


def _close_all() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
