"""Threads that serve requests one after another, each with the database connection it keeps.

Django gives every request a thread of its own, and with it a new connection: on SQLite the pragmas and the reading of
the schema, on PostgreSQL the sign-in, are a good part of the time from a click to its answer. Here a request takes a
thread that waits for one, or a new one when all are at work, so that a request that waits for something delays nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.db import connections
from django.http import HttpRequest, HttpResponse

KEPT = 8
"""How many threads wait for a request, with their connections, when there is nothing to do."""

Application = Callable[[dict[str, Any], Callable, Callable], Awaitable[None]]


class OnLanes:
    """An application whose blocking code runs on the thread that each request is given."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._idle: list[ThreadPoolExecutor] = []

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        lane = self._idle.pop() if self._idle else ThreadPoolExecutor(max_workers=1, thread_name_prefix="request")
        try:
            async with ThreadSensitiveContext(executor=lane):
                await self.application(scope, receive, send)
        finally:
            self._give_back(lane)

    def _give_back(self, lane: ThreadPoolExecutor) -> None:
        if len(self._idle) < KEPT:
            self._idle.append(lane)
            return
        lane.submit(connections.close_all)
        lane.shutdown(wait=False)


class InOneThread:
    """The innermost middleware. It can be called in a thread only, so Django runs the whole chain in one.

    Otherwise it changes to a thread and back for nearly every middleware, a dozen times a request. Views that are
    asynchronous are still run on the event loop.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)
