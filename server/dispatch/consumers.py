"""The worker's WebSocket as Channels sees it: it carries frames and notes to the conversation, and messages out.

Handlers only put things down (Channels dispatches one at a time, so a handler that waits would stop the socket), and
nothing that comes by the channel layer can break it.

Flow: 4 push
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from server import addresses
from server.dispatch.farewells import GONE, Farewell, farewell, going_away, too_many, unreadable
from server.dispatch.inbox import NOTES, Frame, Note
from server.dispatch.reception import hosts_of
from server.dispatch.session import Session
from server.dispatch.threads import database_threads
from server.topics.sockets import Stranger, live_sockets, lobby
from worker_client.protocol import messages as m
from worker_client.protocol.codec import encode
from worker_client.protocol.errors import CloseCode
from worker_client.protocol.identity import SUBPROTOCOL

log = structlog.get_logger(__name__)


class WorkerConsumer(AsyncWebsocketConsumer):
    """One worker socket at `/ws/worker/`."""

    transport = "websocket"

    def __init__(self) -> None:
        super().__init__()
        self.session: Session | None = None
        self._frames_sent = 0
        self._conversation: asyncio.Task[None] | None = None
        self._has_parted = asyncio.Event()
        self._stranger: Stranger | None = None
        self.address = ""

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        async with database_threads():
            try:
                await super().__call__(scope, receive, send)
            finally:
                await asyncio.shield(self._end())

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Pass a message to its handler; unknown ones are ignored, and a failing one costs this socket nothing."""
        try:
            await self._handle(message)
        except StopConsumer:
            raise
        except Exception:
            log.exception("a message to a worker's socket could not be handled", type=message["type"])

    async def say(self, message: m.Message) -> None:
        """Send a message with the next frame number."""
        self._frames_sent += 1
        await self.send(encode(msgspec.structs.replace(message, id=self._frames_sent)))

    async def farewell(self) -> None:
        """The server goes away: say so, and wait until it is said."""
        if self.session is None:
            return
        self.session.take(going_away())
        await self._has_parted.wait()

    async def _handle(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.connect":
            await self._connect()
        elif kind == "websocket.disconnect":
            self._put_down(GONE)
            raise StopConsumer
        elif kind == "websocket.receive":
            self._receive(message.get("text"))
        elif kind in NOTES:
            self._put_down(Note(kind, reply_to=message.get("reply_to", "")))

    async def _connect(self) -> None:
        headers = dict(self.scope["headers"])
        offered = self.scope.get("subprotocols") or []
        if SUBPROTOCOL not in offered:
            # Without one of its own protocols a browser fails the handshake before it could read why.
            await self.accept(subprotocol=offered[0] if offered else None)
            await self.say(m.Error(code="unsupported_version", supported=(SUBPROTOCOL,)))
            await self._part(farewell(CloseCode.UNSUPPORTED_VERSION, "no common version of the protocol"))
            return
        await self.accept(subprotocol=SUBPROTOCOL)
        if b"origin" in headers or b"cookie" in headers:
            await self.say(m.Error(code="not_a_browser_endpoint"))
            await self._part(farewell(CloseCode.BAD_AUTH, "workers send neither Origin nor cookies"))
            return
        self.address = addresses.of_scope(self.scope)
        self._stranger = lobby.enter(self.address)
        if self._stranger is None:
            await self._part(too_many("too many sockets of this address have not signed in"))
            return
        live_sockets.add(self)
        called = headers.get(b"host", b"").decode("latin-1")
        self.session = Session(self, hosts=hosts_of(called), on_known=self._stranger.known)
        self._conversation = asyncio.create_task(self._converse(self.session))

    def _receive(self, text: str | None) -> None:
        if text is None:
            self._put_down(farewell(CloseCode.PROTOCOL_ERROR, "binary frames are not for this socket"))
        elif len(text) > settings.LIMITS.control_message_bytes:
            self._put_down(unreadable("frame_too_large"))
        else:
            self._put_down(Frame(text))

    def _put_down(self, item: Any) -> None:
        if self.session is not None:
            self.session.take(item)

    async def _converse(self, session: Session) -> None:
        await self._part(await session.run())

    async def _part(self, ending: Farewell) -> None:
        """Say goodbye in a frame, since the close frame's reason does not arrive, and close."""
        try:
            if ending.bye is not None:
                await self.say(ending.bye)
            if ending is not GONE:
                await self.close(code=int(ending.bye.code) if ending.bye else 1000)
        finally:
            self._has_parted.set()

    async def _end(self) -> None:
        live_sockets.discard(self)
        if self._stranger is not None:
            self._stranger.known()
        if self._conversation is not None:
            self._put_down(GONE)
            await asyncio.wait({self._conversation})
            if not self._conversation.cancelled() and self._conversation.exception() is not None:
                log.error("a worker's socket did not end in order", cause=str(self._conversation.exception()))
