"""Stand-ins for the slow or outside parts of a worker: the analysis process, the server's socket."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from inference.contract import Grid, ModelRef, Order, Outcome, PackedVolume, Preview, Progress, Region, Stage
from inference.errors import Cancelled
from tests.worker_client.builders import EPOCH, IDENTITY, MODEL
from worker_client.protocol import messages as wire
from worker_client.protocol.codec import decode_from_worker, encode

M = TypeVar("M")
MASK = b"a packed mask"


@dataclass
class FakeBox:
    """An analysis process without a process: writes a fixed mask; waits at `gate` if that is closed."""

    error: Exception | None = None
    start_error: Exception | None = None
    device: str = "cpu"
    is_slow_to_start: bool = False
    starts: int = 0
    tries: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    orders: list[Order] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    is_closed: bool = False
    alive: bool = True

    def __post_init__(self) -> None:
        self.gate.set()

    def start(self) -> None:
        self.tries.release()
        if self.start_error is not None:
            raise self.start_error
        while self.is_slow_to_start and not self.is_closed:
            self.cancelled.wait(0.01)
        self.starts += 1
        self.alive = True

    def segment(self, order: Order, on_news: Callable[[Progress | Preview], None]) -> Outcome:
        self.orders.append(order)
        self.begun.set()
        on_news(Progress(Stage.PREPROCESS, 0.5, eta_seconds=4.0))
        on_news(Preview(labels=np.ones((2, 2, 2), np.uint8), grid=Grid((2, 2, 2), np.eye(4))))
        while not self.gate.wait(0.01):
            if self.cancelled.is_set():
                raise Cancelled
        if self.error is not None:
            raise self.error
        order.output.write_bytes(MASK)
        mask = PackedVolume(
            size=len(MASK),
            sha256=hashlib.sha256(MASK).hexdigest(),
            encoding="zstd",
            dtype="uint8",
            shape=order.grid.shape,
            affine=IDENTITY,
        )
        return Outcome(
            mask=mask,
            model=ModelRef(MODEL.name, MODEL.version, MODEL.sha256),
            volumes_ml={Region.WT: 1.25},
            stage_seconds={Stage.INFERENCE: 0.5},
        )

    def cancel(self, grace_seconds: float = 2.0) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.is_closed = True
        self.cancelled.set()


class Caller:
    """One worker's connection, as the server sees it."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket

    async def say(self, message: wire.FromServer) -> None:
        await self._socket.send(encode(message))

    async def say_raw(self, frame: str | bytes) -> None:
        await self._socket.send(frame)

    async def hear(self, kind: type[M]) -> M:
        """The next message of this kind; others that come before it are passed over."""
        while True:
            message = decode_from_worker(await self._socket.recv())
            if isinstance(message, kind):
                return message

    async def welcome(self, *verdicts: wire.Verdict, **changes: object) -> wire.Hello:
        """Challenge, hello, welcome."""
        await self.say(wire.Challenge(id=1, nonce="bm9uY2U=", server_time=0.0, server_id="s"))
        hello = await self.hear(wire.Hello)
        await self.say(wire.Welcome(id=2, session=1, epoch=EPOCH, resume=verdicts, **changes))  # type: ignore[arg-type]
        return hello

    async def hear_open(self) -> wire.Ready:
        """The worker asks for work: its analysis has started."""
        while (ready := await self.hear(wire.Ready)).credits == 0:
            continue
        return ready

    async def drop(self) -> None:
        """Cut the line without a close frame."""
        self._socket.transport.abort()
        await self._socket.wait_closed()

    async def close(self, code: int, reason: str = "") -> None:
        await self._socket.close(code, reason)

    async def wait_closed(self) -> int | None:
        """The code that the worker closed with."""
        try:
            while True:
                await self._socket.recv()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code


class FakeServer:
    """The server's end of the WebSocket. Each connection waits in `callers` for the test to speak."""

    def __init__(self) -> None:
        self.callers: asyncio.Queue[Caller] = asyncio.Queue()
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/worker/"

    async def caller(self, *, seconds: float = 5.0) -> Caller:
        """The next worker that calls."""
        async with asyncio.timeout(seconds):
            return await self.callers.get()

    async def _serve(self, socket: ServerConnection) -> None:
        await self.callers.put(Caller(socket))
        await socket.wait_closed()


@asynccontextmanager
async def fake_server(**options: object) -> AsyncIterator[FakeServer]:
    """A server on a free port of this machine."""
    server = FakeServer()
    async with serve(
        server._serve, "127.0.0.1", 0, subprotocols=["seg.worker.v1"], compression=None, **options
    ) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server
