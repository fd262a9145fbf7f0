"""The HTTPS fall-back's side of a line: what was said and not confirmed, and who waits for more (decision 0013).

Each side numbers its frames. A frame of the server is kept until the worker confirms its number; a frame of the worker
is taken once, by its number. So lost answers and repeated requests change nothing.

Flow: 4 push
"""

import asyncio
import contextvars
import secrets
import time
from collections import deque
from collections.abc import Sequence

import msgspec
import structlog
from channels.layers import get_channel_layer
from django.conf import settings

from server.dispatch.farewells import Farewell, farewell, going_away, unreadable
from server.dispatch.inbox import NOTES, Frame, Note, number_of
from server.dispatch.session import Session
from server.dispatch.threads import database_threads
from server.topics.sockets import Stranger, live_sockets, lobby
from worker_client.protocol import messages as m
from worker_client.protocol.codec import encode
from worker_client.protocol.errors import CloseCode

log = structlog.get_logger(__name__)

MOST_FRAMES = 64
MOST_BYTES = 1024 * 1024
MOST_UNCONFIRMED = 256
KEPT_SECONDS = 30.0
"""How long a dead link is kept, so that its last word can be collected."""
MOST_LINKS = 2000
COLLECTING_SECONDS = 1.0


class Link:
    """One worker's line by HTTPS. Its name is a secret: whoever knows it speaks for the worker."""

    transport = "https"

    def __init__(self, *, hosts: frozenset[str], address: str, stranger: Stranger) -> None:
        self.name = secrets.token_urlsafe(32)
        self.address = address
        self.channel_name = ""
        self.ended_at: float | None = None
        self._stranger = stranger
        self._session = Session(self, hosts=hosts, on_known=stranger.known)
        self._unconfirmed: deque[tuple[int, bytes]] = deque()
        self._last_said = self._last_taken = 0
        self._told = 0
        self._news = asyncio.Event()
        self._turn = self._waiting = 0
        self._is_over, self._is_collected = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """The conversation and what the channel layer has for it, until one says goodbye."""
        self.channel_name = await get_channel_layer().new_channel()
        live_sockets.add(self)
        listening = asyncio.create_task(self._listen())
        try:
            async with database_threads():
                ending = await self._session.run()
            if ending.bye is not None:
                await self.say(ending.bye)
        finally:
            listening.cancel()
            await asyncio.wait({listening})
            self._stranger.known()
            live_sockets.discard(self)
            self.ended_at = time.monotonic()
            self._is_over.set()
            self._news.set()

    async def say(self, message: m.Message) -> None:
        """Keep a message for the next answer."""
        self._last_said += 1
        frame = encode(msgspec.structs.replace(message, id=self._last_said)).encode()
        self._unconfirmed.append((self._last_said, frame))
        if len(self._unconfirmed) > MOST_UNCONFIRMED:
            self._session.take(farewell(CloseCode.TOO_SLOW, "too much was not collected", retry_seconds=5.0))
        self._news.set()

    async def farewell(self) -> None:
        """The server goes away: say so, and wait until it was collected."""
        self._session.take(going_away())
        await self._is_over.wait()
        if self._waiting:
            await asyncio.wait({asyncio.ensure_future(self._is_collected.wait())}, timeout=COLLECTING_SECONDS)

    def take(self, frames: Sequence[msgspec.Raw]) -> None:
        """Frames of a request; those that were taken before are passed over."""
        for raw in frames:
            octets = bytes(raw)
            number = number_of(octets)
            if number and number <= self._last_taken:
                continue
            self._last_taken = max(number, self._last_taken)
            self._session.take(_frame_of(octets))

    def confirm(self, number: int | None) -> None:
        """The worker has everything up to this number; None: everything that any answer held."""
        upto = self._told if number is None else min(number, self._told)
        while self._unconfirmed and self._unconfirmed[0][0] <= upto:
            self._unconfirmed.popleft()
        if not self._unconfirmed and not self._is_over.is_set():
            self._news.clear()

    async def hear(self, *, seconds: float) -> list[msgspec.Raw]:
        """What is unconfirmed, as soon as there is something; nothing when time is up or a newer request has come."""
        self._turn += 1
        turn = self._turn
        self._wake_older()
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                while turn == self._turn and not self._unconfirmed and not self._is_over.is_set():
                    await self._news.wait()
        except TimeoutError:
            return []
        finally:
            self._waiting -= 1
        return self._answer() if turn == self._turn else []

    def _wake_older(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
        if self._unconfirmed or self._is_over.is_set():
            self._news.set()

    def _answer(self) -> list[msgspec.Raw]:
        told: list[msgspec.Raw] = []
        size = 0
        for number, frame in self._unconfirmed:
            size += len(frame)
            if len(told) == MOST_FRAMES or size > MOST_BYTES:
                break
            told.append(msgspec.Raw(frame))
            self._told = max(self._told, number)
        if self._is_over.is_set() and self._told == self._last_said:
            self._is_collected.set()
        return told

    async def _listen(self) -> None:
        layer = get_channel_layer()
        while True:
            try:
                message = await layer.receive(self.channel_name)
            except Exception as error:  # noqa: BLE001  (the layer may be away for a while; the rows have the truth)
                log.warning("a link cannot hear the channel layer", cause=type(error).__name__)
                await asyncio.sleep(1.0)
                continue
            if message["type"] in NOTES:
                self._session.take(Note(message["type"], reply_to=message.get("reply_to", "")))


class Links:
    """The links of this process, by their names."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._running: set[asyncio.Task[None]] = set()

    def open(self, *, hosts: frozenset[str], address: str) -> Link | None:
        """A new link; None when there are too many, in all or of strangers at this address."""
        self._sweep()
        stranger = lobby.enter(address) if len(self._links) < MOST_LINKS else None
        if stranger is None:
            return None
        link = Link(hosts=hosts, address=address, stranger=stranger)
        self._links[link.name] = link
        # A context of its own: the request's has a thread that ends with it.
        running = asyncio.create_task(link.run(), context=contextvars.Context())
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return link

    def find(self, name: str) -> Link | None:
        """The link of this name, if it is alive or its last word was not collected."""
        self._sweep()
        return self._links.get(name)

    def _sweep(self) -> None:
        oldest = time.monotonic() - KEPT_SECONDS
        dead = [name for name, link in self._links.items() if link.ended_at is not None and link.ended_at < oldest]
        for name in dead:
            del self._links[name]


links = Links()


def _frame_of(octets: bytes) -> Frame | Farewell:
    if len(octets) > settings.LIMITS.control_message_bytes:
        return unreadable("frame_too_large")
    try:
        return Frame(octets.decode())
    except UnicodeDecodeError:
        return unreadable("bad_frame")
