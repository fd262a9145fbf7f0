"""The outbound WebSocket: connect, carry frames both ways, come back. The only user of `websockets`.

The loop is written out, since `async for … in connect()` starts its pauses anew after every handshake (an
accept-then-close server is then asked 56 times a second) and takes a 403 for final, which is all that Daphne answers
when it cannot serve a handshake.

Flow: 5 receive
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from worker_client.actions import HangUp
from worker_client.comeback import Backoff, StayAway, Verdict
from worker_client.errors import ServerForbids
from worker_client.protocol import messages as wire
from worker_client.protocol.codec import decode_from_server, encode
from worker_client.protocol.errors import BadFrame, FrameTooLarge, ProtocolError
from worker_client.protocol.identity import SUBPROTOCOL

logger = logging.getLogger(__name__)

NO_CLOSE_FRAME = 1006
SLOWEST_SEND_SECONDS = 20.0


class Owner(Protocol):
    """Who the link carries for: told of everything on the event loop, one call at a time."""

    @property
    def is_urgent(self) -> bool:
        """Whether the server waits for our work."""

    def opened(self) -> None:
        """A socket is open."""

    def received(self, message: wire.FromServer) -> None:
        """A message came."""

    def garbled(self, error: ProtocolError) -> None:
        """A frame came that is no message."""

    def closed(self, *, code: int, reason: str) -> Verdict:
        """The socket is gone; whether to come back."""


class NoRedirect(connect):
    """A handshake that follows no redirect: captive portals send them, and the enrolled server has no need to."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """The answer as it is."""
        return exc


class Outgoing:
    """Frames waiting for the socket. A newer progress or preview takes the place of an older one of the same job."""

    def __init__(self) -> None:
        self._waiting: deque[wire.FromWorker | HangUp] = deque()
        self._news = asyncio.Event()

    def put(self, item: wire.FromWorker | HangUp) -> None:
        """Add something at the end."""
        older = next((one for one in self._waiting if _is_outdated(one, by=item)), None)
        if older is not None:
            self._waiting.remove(older)
        self._waiting.append(item)
        self._news.set()

    async def get(self) -> wire.FromWorker | HangUp:
        """The next message, once there is one."""
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()


def _is_outdated(older: wire.FromWorker | HangUp, *, by: wire.FromWorker | HangUp) -> bool:
    for kind in (wire.JobProgress, wire.JobPreview):
        if isinstance(older, kind) and isinstance(by, kind):
            return older.job == by.job
    return False


@dataclass(frozen=True)
class Route:
    """How to reach the server: its WebSocket URL, the TLS context (wss only), and whether proxies are looked for."""

    url: str
    tls: ssl.SSLContext | None = None
    uses_proxy: bool = True


class Link:
    """The connection that is, or the wait for the next one. `luck` is uniform in 0 to 1."""

    def __init__(self, route: Route, *, luck: Callable[[], float] = random.random) -> None:
        self._route = route
        self._luck = luck
        self._backoff = Backoff()
        self._outgoing: Outgoing | None = None
        self._is_over = asyncio.Event()
        self._is_away = False
        self._opening: asyncio.Task[ClientConnection] | None = None

    def send(self, message: wire.FromWorker) -> None:
        """Queue a message on the present connection; without one it is dropped, as the session starts anew then."""
        if self._outgoing is not None:
            self._outgoing.put(message)

    def hang_up(self, code: int, reason: str) -> None:
        """Close the present connection once everything before it is sent."""
        if self._outgoing is not None:
            self._outgoing.put(HangUp(code, reason))

    def stop(self) -> None:
        """Make no more connections, and give up one that is being made; the present one ends by `hang_up`."""
        self._is_over.set()
        if self._opening is not None:
            self._opening.cancel()

    async def run(self, owner: Owner) -> None:
        """Keep a connection until `stop`. Raises ServerForbids when the server says not to come back."""
        while not self._is_over.is_set():
            verdict = await self._connect_once(owner)
            if isinstance(verdict, StayAway):
                raise ServerForbids(verdict.reason, code=verdict.code)
            delay = self._backoff.delay(verdict, is_urgent=owner.is_urgent, luck=self._luck())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._is_over.wait()

    async def _connect_once(self, owner: Owner) -> Verdict:
        opening = self._opening = asyncio.create_task(open_socket(self._route))
        try:
            socket = await opening
        except asyncio.CancelledError:
            if not self._is_over.is_set():
                raise
            return owner.closed(code=NO_CLOSE_FRAME, reason="")
        except (OSError, WebSocketException, EOFError) as error:
            status = error.response.status_code if isinstance(error, InvalidStatus) else None
            # Once is news; a server that stays away for an hour is not news every few seconds.
            logger.log(logging.INFO if self._is_away else logging.WARNING, "No connection: %s", _cause(error))
            self._is_away = True
            self._backoff.ended(signed_in_seconds=0.0, status=status)
            return owner.closed(code=NO_CLOSE_FRAME, reason="")
        if self._is_over.is_set():
            await socket.close()
            return owner.closed(code=NO_CLOSE_FRAME, reason="")
        return await self._converse(socket, owner)

    async def _converse(self, socket: ClientConnection, owner: Owner) -> Verdict:
        loop = asyncio.get_running_loop()
        self._outgoing, self._is_away = Outgoing(), False
        owner.opened()
        try:
            async with socket, asyncio.TaskGroup() as group:
                writer = group.create_task(_write(socket, self._outgoing))
                end = await _read(socket, owner, clock=loop.time)
                writer.cancel()
        finally:
            self._outgoing = None
        lived = 0.0 if end.welcomed_at is None else loop.time() - end.welcomed_at
        self._backoff.ended(signed_in_seconds=lived)
        logger.info("The connection ended (%d %s)", end.code, end.reason)
        return owner.closed(code=end.code, reason=end.reason)


async def open_socket(route: Route) -> ClientConnection:
    """A WebSocket to the server with the settings that the protocol asks for.

    Raises OSError (TimeoutError and TLS failures among them), WebSocketException or EOFError.
    """
    return await NoRedirect(
        route.url,
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        compression=None,
        max_size=2**18,
        max_queue=16,
        ping_interval=15,
        ping_timeout=20,
        open_timeout=15,
        close_timeout=5,
        proxy=True if route.uses_proxy else None,
        ssl=route.tls,
    )


@dataclass(frozen=True)
class _End:
    code: int
    reason: str
    welcomed_at: float | None


async def _read(socket: ClientConnection, owner: Owner, *, clock: Callable[[], float]) -> _End:
    welcomed_at = None
    while True:
        try:
            frame = await socket.recv()
        except ConnectionClosed as closed:
            # Daphne answers every close with 1000; who closed first says why.
            first = closed.rcvd if closed.rcvd_then_sent or closed.sent is None else closed.sent
            code, reason = (NO_CLOSE_FRAME, "") if first is None else (first.code, first.reason)
            return _End(code, reason, welcomed_at)
        try:
            if not isinstance(frame, str):
                raise BadFrame("a binary frame has no place here")
            message = decode_from_server(frame)
        except ProtocolError as error:
            owner.garbled(error)
            continue
        if isinstance(message, wire.Welcome):
            welcomed_at = clock()
        owner.received(message)


async def _write(socket: ClientConnection, outgoing: Outgoing) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            message = await outgoing.get()
            if isinstance(message, HangUp):
                await socket.close(message.code, message.reason)
                return
            try:
                frame = encode(message)
            except FrameTooLarge:
                logger.exception("A message is too long and was not sent", extra={"kind": type(message).__name__})
                continue
            await _send(socket, frame)


async def _send(socket: ClientConnection, frame: str) -> None:
    try:
        async with asyncio.timeout(SLOWEST_SEND_SECONDS):
            await socket.send(frame)
    except TimeoutError:
        # Nothing leaves this machine any more; a close frame would not either.
        socket.transport.abort()


def _cause(error: Exception) -> str:
    """A short word on what went wrong, without addresses."""
    if isinstance(error, InvalidStatus):
        return f"it answered {error.response.status_code}"
    return getattr(error, "strerror", None) or type(error).__name__
