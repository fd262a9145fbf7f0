"""A scripted TCP proxy on loopback: what networks do to connections, on demand and while they live.

TCP keeps the order of bytes, so independent messages of one connection cannot overtake each other here; the
in-memory transport of tests/server/histories does that. Loss is what TCP makes of it: bytes that come later (`holds`,
jitter), or never and nobody is told (`loses`: the state of a NAT or firewall that forgot the connection).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from tests.system.faults.frames import MessageMeter, Part

Direction = Literal["up", "down"]
"""Up is from the client to the server."""

PIECE_BYTES = 16 * 1024
STOP_SECONDS = 10.0
SIGN_IN_MESSAGES = 4
CAPTIVE_PORTAL = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 24\r\nConnection: close\r\n\r\n"
    b"<html>Please sign in</ht"
)

T = TypeVar("T")


@dataclass(frozen=True)
class Weather:
    """What every connection meets from now on. Times in seconds, bandwidth in bytes a second and direction."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float | None = None
    holds: frozenset[Direction] = frozenset()
    """These directions stand still; what was sent arrives once they move again."""
    loses: frozenset[Direction] = frozenset()
    """These directions of the connections that are open now are dead for good, and nobody is told."""
    duplicates: float = 0.0
    """The share of WebSocket frames that arrive twice; the first ones of a connection, which sign in, never do."""
    refuses: bool = False
    answers: bytes | None = None
    """Said to every new connection in place of the server."""


@dataclass(frozen=True)
class Cut:
    """Cut a connection right after its `after`th message in a direction: by RST, or in order."""

    after: int
    direction: Direction
    by_reset: bool = True


@dataclass(eq=False)
class _Pipe:
    """One client's connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    cut: Cut | None = None
    counts: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    dead: set[Direction] = field(default_factory=set)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    is_closed: bool = False

    def close(self, *, by_reset: bool) -> None:
        self.is_closed = True
        self.moved.set()
        for writer in (self.client, self.server):
            if by_reset:
                with contextlib.suppress(OSError):
                    end = writer.get_extra_info("socket")
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """Listens on a port of its own, and passes on to `upstream_port`. It runs on its own thread."""

    def __init__(self, upstream_port: int, *, seed: int = 0) -> None:
        self.upstream_port = upstream_port
        self.port = 0
        self.accepted = 0
        self._luck = random.Random(seed)
        self._weather = Weather()
        self._plan: Callable[[int], Cut | None] = _no_cut
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        self._loop.close()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def weather(self) -> Weather:
        """What connections meet now."""
        return self._weather

    @property
    def open_connections(self) -> int:
        """How many there are."""
        return len(self._pipes)

    def set_weather(self, weather: Weather) -> None:
        """From now on; open connections meet it too."""
        self._call(self._change(weather))

    def plan_cuts(self, plan: Callable[[int], Cut | None]) -> None:
        """Ask `plan` for the cut of every new connection, by its number from 1."""
        self._plan = plan

    def forget_cuts(self) -> None:
        """Cut no new connection."""
        self._plan = _no_cut

    def cut_after(self, messages: int, direction: Direction, *, by_reset: bool = True) -> int:
        """Cut every open connection after so many more messages, and answer how many there are."""
        return self._call(self._arm(messages, direction, by_reset=by_reset))

    def cut_all(self, *, by_reset: bool = True) -> int:
        """Cut every open connection at once, and answer how many there were."""
        return self._call(self._cut_all(by_reset=by_reset))

    # ── on the proxy's loop ─────────────────────────────────────────────────────────────────────────────────────

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(STOP_SECONDS)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        await self._cut_all(by_reset=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _change(self, weather: Weather) -> None:
        self._weather = weather
        for pipe in self._pipes:
            pipe.dead |= weather.loses
            pipe.moved.set()

    async def _arm(self, messages: int, direction: Direction, *, by_reset: bool) -> int:
        for pipe in self._pipes:
            pipe.cut = Cut(pipe.counts[direction] + messages, direction, by_reset)
        return len(self._pipes)

    async def _cut_all(self, *, by_reset: bool) -> int:
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.close(by_reset=by_reset)
        return len(pipes)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._weather.answers is not None:
            writer.write(self._weather.answers)
            await writer.drain()
            writer.close()
            return
        if self._weather.refuses:
            writer.transport.abort()
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        pipe = _Pipe(client=writer, server=up_writer, cut=self._plan(self.accepted))
        self._pipes.add(pipe)
        ways = [
            asyncio.create_task(self._pump(pipe, "up", reader, up_writer)),
            asyncio.create_task(self._pump(pipe, "down", up_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._pipes.discard(pipe)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            pipe.close(by_reset=False)

    async def _pump(
        self, pipe: _Pipe, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One way of one connection. An exception in one way ends both."""
        waiting: asyncio.Queue[tuple[float, Part]] = asyncio.Queue(maxsize=64)
        sending = asyncio.create_task(self._send(pipe, direction, waiting, writer))
        meter, last = MessageMeter(), 0.0
        try:
            while piece := await reader.read(PIECE_BYTES):
                weather = self._weather
                late = weather.delay_seconds + self._luck.random() * weather.jitter_seconds
                for part in meter.split(piece):
                    last = max(last, self._loop.time() + late)
                    await waiting.put((last, part))
            await waiting.put((last, Part(b"")))
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(
        self,
        pipe: _Pipe,
        direction: Direction,
        waiting: asyncio.Queue[tuple[float, Part]],
        writer: asyncio.StreamWriter,
    ) -> None:
        while not pipe.is_closed:
            due, part = await waiting.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._let_through(pipe, direction)
            if not part.octets:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            if self._weather.bytes_per_second:
                await asyncio.sleep(len(part.octets) / self._weather.bytes_per_second)
            is_early = pipe.counts[direction] < SIGN_IN_MESSAGES
            is_doubled = part.is_whole_frame and not is_early and self._luck.random() < self._weather.duplicates
            writer.write(part.octets * 2 if is_doubled else part.octets)
            await writer.drain()
            pipe.counts[direction] += part.ends_message
            cut = pipe.cut
            if cut is not None and cut.direction == direction and pipe.counts[direction] >= cut.after:
                pipe.close(by_reset=cut.by_reset)

    async def _let_through(self, pipe: _Pipe, direction: Direction) -> None:
        while (direction in self._weather.holds or direction in pipe.dead) and not pipe.is_closed:
            pipe.moved.clear()
            await pipe.moved.wait()


def _no_cut(_: int) -> Cut | None:
    return None
