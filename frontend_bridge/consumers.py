"""The browser's WebSocket as Channels sees it: it carries frames, pokes and news to the conversation.

Handlers only put things down (Channels dispatches one at a time, so a handler that waits would stop the socket),
and nothing that a group sends can break the socket: one failing handler would end every member's connection.

Flow: 9 browser
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from frontend_bridge import door, reading
from frontend_bridge import messages as m
from frontend_bridge.callers import Caller
from frontend_bridge.conversation import Conversation
from frontend_bridge.door import Door
from frontend_bridge.ports import TROUBLE, Farewell, Rhythm, going_away, rhythm_of, session_name
from server.accounts.errors import TooMany
from server.topics import pokes
from server.topics.sockets import Stranger, address_of, live_sockets, lobby

log = structlog.get_logger(__name__)

PARTING_SECONDS = 1.0

_sockets_of: Counter[Any] = Counter()
"""How many sockets each user has open in this process."""


class SegmentationConsumer(AsyncWebsocketConsumer):
    """One browser socket at `/ws/segmentation/`."""

    def __init__(self, *, rhythm: Rhythm | None = None) -> None:
        super().__init__()
        self.rhythm = rhythm or rhythm_of(settings.LIMITS)
        self.door = Door(self.rhythm)
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
            except Exception:  # on some layers a restart ends every socket of the process: each parts with a word
                log.exception("the channel layer left a browser's socket")
                await self._part(TROUBLE)
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
        offered = self.scope.get("subprotocols") or [None]
        await self.accept(subprotocol=offered[0])
        live_sockets.add(self)
        self._serving = self._tasks.create_task(self._serve())

    async def on_websocket_receive(self, message: dict[str, Any]) -> None:
        (self.conversation or self.door).take_frame(message.get("text"))

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

    async def join(self, topic: str) -> bool:
        """Be woken up by what happens to `topic`. False when the layer is away; then only the log tells of it."""
        try:
            await self.channel_layer.group_add(pokes.group_of(topic), self.channel_name)
        except Exception as error:  # noqa: BLE001  (the layer may be anything and away; the log has the truth)
            log.warning("a browser's socket could not join", topic=topic, cause=type(error).__name__)
            return False
        return True

    async def leave(self, topic: str) -> None:
        """No longer. While the layer is away its entries run out by themselves."""
        with contextlib.suppress(Exception):
            await self.channel_layer.group_discard(pokes.group_of(topic), self.channel_name)

    async def farewell(self) -> None:
        """Say goodbye because the server goes away, and close."""
        if self._serving is not None:
            (self.conversation or self.door).dismiss(going_away(random.random()))  # noqa: S311  (no secret)
            await asyncio.wait([self._serving])

    # ── a socket's life ─────────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self) -> None:
        try:
            caller = await self._caller()
            with _seat_of(caller.user.pk):
                bye = await self._converse(caller)
        except Farewell as farewell:
            if farewell.error is not None:
                await self.send(m.encode(farewell.error))
            bye = farewell.bye
        except Exception:  # the socket must part with a word, whatever went wrong
            log.exception("a browser's socket could not be served")
            bye = TROUBLE
        await self._part(bye)

    async def _caller(self) -> Caller:
        """Who this is, by the page's session or by a ticket. Raises Farewell."""
        user, session = self.scope.get("user"), self.scope.get("session")
        if user is not None and user.is_authenticated and session is not None:
            return Caller(user=user, key=session.session_key)
        address = address_of(self.scope)
        with _stranger_from(address):
            ticket = await self.door.ticket(self.scope.get("subprotocols") or ())
            try:
                caller = await reading.caller_by_ticket(ticket, address=address)
            except TooMany as refusal:
                raise door.too_often(refusal) from None
        if caller is None:
            raise door.bad_ticket()
        return caller

    async def _converse(self, caller: Caller) -> m.Bye:
        self.conversation = Conversation(
            caller.user,
            wire=self,
            library=reading.Reading(caller.key),
            session=session_name(caller.key),
            rhythm=self.rhythm,
            spread=random.random(),  # noqa: S311  (so that not all look again at the same moment)
        )
        for text in self.door.held():
            self.conversation.take_frame(text)
        return await self.conversation.run()

    async def _part(self, bye: m.Bye) -> None:
        """Say why, since the close frame's reason does not arrive, and close; a browser that takes nothing is cut."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARTING_SECONDS):
                await self.send(m.encode(bye))
        await self.close(bye.code)

    async def _leave_groups(self) -> None:
        for topic in self.topics:
            await self.leave(topic)


@contextlib.contextmanager
def _seat_of(user_id: Any) -> Iterator[None]:
    """One of the sockets a user may have here. Raises Farewell when all are taken: the newest is refused."""
    if _sockets_of[user_id] >= settings.LIMITS.sockets_per_user:
        raise door.too_many()
    _sockets_of[user_id] += 1
    try:
        yield
    finally:
        _sockets_of[user_id] -= 1
        if not _sockets_of[user_id]:
            del _sockets_of[user_id]


@contextlib.contextmanager
def _stranger_from(address: str) -> Iterator[Stranger]:
    """One of the sockets of an address that have not said who they are. Raises Farewell when there are too many."""
    stranger = lobby.enter(address)
    if stranger is None:
        raise door.too_many()
    try:
        yield stranger
    finally:
        stranger.known()
