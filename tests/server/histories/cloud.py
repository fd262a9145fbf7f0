"""The server's side of a history: real conversations over lines in memory, and a process that can die at any call.

Database calls run where they are made, on the fake clock; each can be made to fail, or to be the last of its process,
before it or right after its commit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from django.db import OperationalError

from server.core.clocks import Reading
from server.dispatch import housekeeping
from server.dispatch.clock import Dispatcher
from server.dispatch.farewells import GONE, Farewell
from server.dispatch.inbox import Frame, Note
from server.dispatch.session import Session
from tests.server.histories.virtual import VirtualLoop
from worker_client.protocol.codec import encode

HOST = "testserver"
Moment = Literal["before", "after", "fail"]


@dataclass
class Process:
    """One life of the server process. `fate` is (calls until it strikes, what strikes)."""

    number: int
    is_dead: bool = False
    fate: tuple[int, Moment] | None = None

    def meet(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One database call, or what fate has for it."""
        if self.is_dead:
            raise asyncio.CancelledError
        strikes = self._is_due()
        if strikes == "fail":
            raise OperationalError("database is locked")
        if strikes == "before":
            self.is_dead = True
            raise asyncio.CancelledError
        answer = function(*args, **kwargs)
        if strikes == "after":
            self.is_dead = True
            raise asyncio.CancelledError
        return answer

    def _is_due(self) -> Moment | None:
        if self.fate is None:
            return None
        left, what = self.fate
        self.fate = (left - 1, what) if left > 0 else None
        return None if left > 0 else what


present: ContextVar[Process | None] = ContextVar("present", default=None)


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Stands for the threads of the product: the call is made here and now."""
    process = present.get()
    return function(*args, **kwargs) if process is None else process.meet(function, args, kwargs)


@dataclass(eq=False)
class Wire:
    """One connection: frames under way in both directions, each side's end of it, and who knows that it is cut."""

    name: str
    process: Process
    to_server: deque[str | None] = field(default_factory=deque)
    to_worker: deque[str | None] = field(default_factory=deque)
    is_cut: bool = False
    session: Session = field(init=False)
    task: asyncio.Task[None] = field(init=False)

    channel_name: str = ""
    transport: str = "websocket"
    address: str = "127.0.0.1"
    said: int = 0

    async def say(self, message: Any) -> None:
        """The server's end: a message goes out under the next number."""
        if self.process.is_dead:
            raise asyncio.CancelledError
        self.said += 1
        if not self.is_cut:
            self.to_worker.append(encode(msgspec.structs.replace(message, id=self.said)))

    def hear(self, text: str) -> None:
        """The worker's end: a frame goes out."""
        if not self.is_cut:
            self.to_server.append(text)


class Cloud:
    """The server: at most one process at a time, its connections, its dispatcher."""

    def __init__(self, loop: VirtualLoop, *, forget: Callable[[], None]) -> None:
        self.loop = loop
        self.process = Process(0)
        self.wires: dict[str, Wire] = {}
        self.loses_pokes = False
        self._forget = forget
        self._lives = 0
        self.start()

    @property
    def is_up(self) -> bool:
        """Whether a process lives."""
        return not self.process.is_dead

    def start(self) -> None:
        """A new process: it remembers nothing but the database."""
        self._lives += 1
        self._forget()
        self.process = Process(self._lives)
        housekeeping.on_start(node=f"node-{self._lives}", is_alone=True)
        self.dispatcher = Dispatcher(on_server_job=lambda: None, read=self._read_clocks)

    def _read_clocks(self) -> Reading:
        return Reading(wall=self.loop.wall().timestamp(), monotonic=self.loop.now)

    def bury(self) -> list[Wire]:
        """The process is dead: what was open is cut. Answers the connections that it took along."""
        self.process.is_dead = True
        taken = list(self.wires.values())
        self.wires.clear()
        for wire in taken:
            wire.is_cut = True
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.settle()
        return taken

    def open(self, name: str) -> Wire:
        """A worker's new connection."""
        wire = Wire(name, self.process)
        wire.channel_name = f"{name}-{self._lives}-{id(wire)}"
        wire.session = Session(wire, hosts=frozenset({HOST}))
        token = present.set(self.process)
        try:
            wire.task = self.loop.create_task(self._converse(wire))
        finally:
            present.reset(token)
        self.wires[wire.channel_name] = wire
        self.loop.settle()
        return wire

    def take(self, wire: Wire) -> None:
        """The next frame, or the close, reaches the server."""
        text = wire.to_server.popleft()
        wire.session.take(GONE if text is None else Frame(text))
        self.loop.settle()

    def lose(self, wire: Wire) -> None:
        """The server sees that the connection is gone."""
        wire.session.take(GONE)
        self.loop.settle()

    async def send(self, channel_name: str, message: dict[str, Any]) -> None:
        """A poke to a worker's connection; it may be lost."""
        wire = self.wires.get(channel_name)
        if wire is not None and not self.loses_pokes:
            wire.session.take(Note(message["type"], reply_to=message.get("reply_to", "")))

    def look(self) -> None:
        """The dispatcher's tick: what ran out, and who gets what."""
        token = present.set(self.process)
        self.dispatcher._tick_at = 0.0
        try:
            with suppress(asyncio.CancelledError):
                self.loop.run_until_complete(self.dispatcher.look())
        finally:
            present.reset(token)
        self.loop.settle()

    async def _converse(self, wire: Wire) -> None:
        ending: Farewell = await wire.session.run()
        self.wires.pop(wire.channel_name, None)
        if ending.bye is not None and not wire.process.is_dead:
            await wire.say(ending.bye)
        if not wire.is_cut:
            wire.to_worker.append(None)
