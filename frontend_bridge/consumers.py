"""The browser's WebSocket as Channels sees it: it carries frames, pokes and news to the conversation.

Handlers only put things down (Channels dispatches one at a time, so a handler that waits would stop the socket),
and nothing that a group sends can break the socket: one failing handler would end every member's connection.

Flow: 9 browser
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from frontend_bridge import feeds
from frontend_bridge import messages as m
from frontend_bridge.conversation import Conversation
from frontend_bridge.ports import GOING_AWAY, SIGNED_OUT, Rhythm, session_name
from server.topics import pokes
from server.topics.sockets import live_sockets

log = structlog.get_logger(__name__)

READERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="browser-read")
"""Browsers read the database here: a bounded number, and never on the thread that all of Django shares."""


async def _in_thread(function: Callable, *args: Any) -> Any:
    return await database_sync_to_async(function, thread_sensitive=False, executor=READERS)(*args)


class _Sweep:
    """One look at the positions of everything that is followed in this process, shared by all its sockets."""

    def __init__(self) -> None:
        self._looked_at = 0.0
        self._asked: set[str] = set()
        self._found: dict[str, feeds.Position] = {}

    async def positions(self, names: list[str]) -> dict[str, feeds.Position]:
        """At most `SWEEP_SECONDS` old: a change that is younger has its poke, or the next look."""
        now = time.monotonic()
        if now - self._looked_at > SWEEP_SECONDS or not self._asked.issuperset(names):
            followed = {topic for one in live_sockets if isinstance(one, SegmentationConsumer) for topic in one.topics}
            self._looked_at, self._asked = now, followed | set(names)
            self._found = await _in_thread(feeds.positions, self._asked)
        return {name: self._found[name] for name in names if name in self._found}


SWEEP_SECONDS = 4.0
_sweep = _Sweep()


class _Reading:
    """The feeds, read through the bounded threads."""

    def __init__(self, session_key: str | None) -> None:
        self._session_key = session_key

    async def admit(self, user: Any, topic: str) -> None:
        await _in_thread(feeds.admit, user, topic)

    async def opening(self, user: Any, topic: str) -> feeds.Opening:
        return await _in_thread(feeds.opening, user, topic)

    async def since(self, topic: str, seq: int) -> list[feeds.Change]:
        return await _in_thread(feeds.since, topic, seq)

    async def positions(self, names: list[str]) -> dict[str, feeds.Position]:
        return await _sweep.positions(names)

    async def mask_file(self, job_id: str) -> feeds.MaskFile | None:
        return await _in_thread(feeds.mask_file, job_id)

    async def signed_in_user(self) -> Any | None:
        return await _in_thread(feeds.signed_in_user, self._session_key)


class SegmentationConsumer(AsyncWebsocketConsumer):
    """One browser socket at `/ws/segmentation/`."""

    def __init__(self, *, rhythm: Rhythm | None = None) -> None:
        super().__init__()
        self.rhythm = rhythm or Rhythm()
        self.conversation: Conversation | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def topics(self) -> list[str]:
        """What this socket follows."""
        return self.conversation.topics if self.conversation is not None else []

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await super().__call__(scope, receive, send)
            finally:
                live_sockets.discard(self)
                if self._serving is not None:
                    self._serving.cancel()
                await self._leave_groups()

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Pass a message to its handler; unknown ones are ignored, and a failing one costs this socket nothing."""
        handler = getattr(self, "on_" + message["type"].replace(".", "_"), None)
        if handler is None:
            return
        try:
            await handler(message)
        except StopConsumer:
            raise
        except Exception:
            log.exception("a message to a browser's socket could not be handled", type=message["type"])

    # ── handlers: they put down, and never wait for anything but the socket itself ───────────────────────────────

    async def on_websocket_connect(self, _: dict[str, Any]) -> None:
        await self.accept()
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.send(m.encode(m.Error(code="unauthenticated", detail=SIGNED_OUT.reason)))
            await self._part(SIGNED_OUT)
            return
        session = self.scope.get("session")
        key = session.session_key if session is not None else None
        self.conversation = Conversation(
            user, wire=self, library=_Reading(key), session=session_name(key), rhythm=self.rhythm
        )
        live_sockets.add(self)
        self._serving = self._tasks.create_task(self._serve(self.conversation))

    async def on_websocket_receive(self, message: dict[str, Any]) -> None:
        if self.conversation is not None:
            self.conversation.take_frame(message.get("text"))

    async def on_websocket_disconnect(self, _: dict[str, Any]) -> None:
        raise StopConsumer

    async def on_topic_poke(self, message: dict[str, Any]) -> None:
        if self.conversation is not None:
            self.conversation.take_poke(message["topic"], message["seq"])

    async def on_topic_news(self, message: dict[str, Any]) -> None:
        if self.conversation is not None:
            self.conversation.take_news(message["topic"], message["kind"], message["body"])

    # ── the wire, as the conversation sees it ───────────────────────────────────────────────────────────────────

    async def send_bytes(self, content: bytes) -> None:
        """Send one binary frame."""
        await self.send(bytes_data=content)

    async def join(self, topic: str) -> None:
        """Be woken up by what happens to `topic`."""
        await self.channel_layer.group_add(pokes.group_of(topic), self.channel_name)

    async def leave(self, topic: str) -> None:
        """No longer."""
        await self.channel_layer.group_discard(pokes.group_of(topic), self.channel_name)

    async def farewell(self) -> None:
        """Say goodbye because the server goes away, and close."""
        if self.conversation is not None and self._serving is not None:
            self.conversation.dismiss(GOING_AWAY)
            await asyncio.wait([self._serving])

    async def _serve(self, conversation: Conversation) -> None:
        await self._part(await conversation.run())

    async def _part(self, bye: m.Bye) -> None:
        await self.send(m.encode(bye))
        await self.close(bye.code)

    async def _leave_groups(self) -> None:
        for topic in self.topics:
            with contextlib.suppress(Exception):  # the layer may be away; its entries run out by themselves
                await self.leave(topic)
