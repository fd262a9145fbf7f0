"""The WebSocket: opening it, and carrying frames both ways until it ends. The only user of `websockets`.

Flow: 5 receive
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Data, Subprotocol

from worker_client.actions import HangUp
from worker_client.conversation import NO_CLOSE_FRAME, End, Owner
from worker_client.outgoing import Outgoing
from worker_client.protocol.codec import decode_from_server, encode
from worker_client.protocol.errors import BadFrame, CloseCode, FrameTooLarge, ProtocolError
from worker_client.protocol.identity import SUBPROTOCOL
from worker_client.protocol.messages import Welcome

logger = logging.getLogger(__name__)

SLOWEST_SEND_SECONDS = 20.0
FIRST_WORD_SECONDS = 10.0
LAST_WORD_SECONDS = 6.0
LAST_WORD_TO_A_SILENT_SERVER_SECONDS = 1.0


@dataclass(frozen=True)
class Route:
    """How to reach the server: its WebSocket URL, the TLS context (wss only), and whether proxies are looked for."""

    url: str
    tls: ssl.SSLContext | None = None
    uses_proxy: bool = True


class SocketFailed(Exception):
    """No WebSocket could be opened. `status` is that of an HTTP answer, if one came."""

    def __init__(self, cause: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(cause)


class NoRedirect(connect):
    """A handshake that follows no redirect: captive portals send them, and the enrolled server has no need to."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """The answer as it is."""
        return exc


async def open_socket(route: Route) -> ClientConnection:
    """A WebSocket to the server with the settings that the protocol asks for. Raises SocketFailed."""
    try:
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
    except InvalidStatus as error:
        status = error.response.status_code
        raise SocketFailed(f"it answered {status}", status=status) from error
    except (OSError, WebSocketException, EOFError, ImportError) as error:
        # ImportError: the system's proxy is a SOCKS one, which needs a package of its own.
        raise SocketFailed(getattr(error, "strerror", None) or type(error).__name__) from error


@dataclass(frozen=True)
class Found:
    """An open WebSocket. `first`: the server's first frame, if it was read already."""

    socket: ClientConnection
    first: Data | None = None


async def find_socket(route: Route) -> Found:
    """Open a WebSocket and wait for the server's first word: some proxies let the handshake through and no more.

    Raises SocketFailed.
    """
    socket = await open_socket(route)
    try:
        async with asyncio.timeout(FIRST_WORD_SECONDS):
            return Found(socket, await socket.recv())
    except (TimeoutError, ConnectionClosed) as error:
        socket.transport.abort()
        raise SocketFailed("it opened and stayed silent") from error
    except asyncio.CancelledError:
        socket.transport.abort()
        raise


async def converse(found: Found, outgoing: Outgoing, owner: Owner, *, clock: Callable[[], float]) -> End:
    """Carry frames both ways until the WebSocket ends."""
    socket = found.socket
    async with socket, asyncio.TaskGroup() as group:
        writer = group.create_task(_write(socket, outgoing, owner))
        cutter = group.create_task(_cut_late(socket, outgoing))
        end = await _read(found, outgoing, owner, clock=clock)
        writer.cancel()
        cutter.cancel()
    return end


async def _read(found: Found, outgoing: Outgoing, owner: Owner, *, clock: Callable[[], float]) -> End:
    socket, frame = found.socket, found.first
    welcomed_at, was_heard = None, False
    while True:
        try:
            if frame is None:
                frame = await socket.recv()
        except ConnectionClosed as closed:
            # Daphne answers every close with 1000; who closed first says why.
            last = closed.rcvd if closed.rcvd_then_sent or closed.sent is None else closed.sent
            code, reason = (NO_CLOSE_FRAME, "") if last is None else (last.code, last.reason)
            return End(code, reason, welcomed_at=welcomed_at, was_heard=was_heard)
        was_heard = True
        try:
            if not isinstance(frame, str):
                raise BadFrame("a binary frame has no place here")
            message = decode_from_server(frame)
        except ProtocolError as error:
            owner.garbled(error)
        else:
            if isinstance(message, Welcome):
                welcomed_at = clock()
                outgoing.allow(message.limits.msg)
            owner.received(message)
        frame = None


async def _write(socket: ClientConnection, outgoing: Outgoing, owner: Owner) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            message = await outgoing.get()
            if isinstance(message, HangUp):
                await socket.close(message.code, message.reason)
                return
            try:
                frame = encode(message, limit=outgoing.frame_bytes)
            except FrameTooLarge:
                logger.exception("A message is too long and was not sent", extra={"kind": type(message).__name__})
                owner.unsendable(message)
                continue
            await _send(socket, frame)


async def _send(socket: ClientConnection, frame: str) -> None:
    try:
        async with asyncio.timeout(SLOWEST_SEND_SECONDS):
            await socket.send(frame)
    except TimeoutError:
        # Nothing leaves this machine any more; a close frame would not either.
        socket.transport.abort()


async def _cut_late(socket: ClientConnection, outgoing: Outgoing) -> None:
    """A line that ends has a moment for its last words, and less when the other side has not been heard for long."""
    await outgoing.is_ending.wait()
    is_silent = outgoing.hang_up is not None and outgoing.hang_up.code == CloseCode.HEARTBEAT_LOST
    await asyncio.sleep(LAST_WORD_TO_A_SILENT_SERVER_SECONDS if is_silent else LAST_WORD_SECONDS)
    socket.transport.abort()
