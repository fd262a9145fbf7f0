"""A log, a wire and a clock that a test holds in its hand."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from frontend_bridge import relay
from frontend_bridge.conversation import Conversation
from frontend_bridge.feeds import Change, MaskFile, Opening, Position
from frontend_bridge.ports import Rhythm
from server.core.errors import NotFound
from tests.frontend_bridge import samples

JOB = "job:01JOB"
DOCTOR = SimpleNamespace(pk=1)


@dataclass
class FakeLibrary:
    """One job's log. `log` is what happened; `trimmed` events at its start are gone."""

    log: list[dict[str, Any]] = field(default_factory=lambda: [samples.job(seq=1)])
    epoch: str = "e1"
    trimmed: int = 0
    mask: MaskFile | None = None
    allowed: set[str] = field(default_factory=lambda: {JOB})
    user: Any = field(default_factory=lambda: DOCTOR)
    reads: int = 0
    mask_reads: int = 0
    breaks: bool = False

    def add(self, **changes: Any) -> int:
        """Something durable happens; its seq."""
        seq = len(self.log) + 1
        self.log.append(samples.job(**({"seq": seq} | changes)))
        return seq

    async def admit(self, user: Any, topic: str) -> None:
        if self.breaks:
            raise ConnectionError("the database is away")
        if topic not in self.allowed:
            raise NotFound("There is no such job that you may see.")

    async def opening(self, user: Any, topic: str) -> Opening:
        return Opening(epoch=self.epoch, seq=len(self.log), snapshot=relay.job_view(self.log[-1]))

    async def since(self, topic: str, seq: int, *, limit: int) -> list[Change]:
        self.reads += 1
        first = max(seq, self.trimmed)
        kept = enumerate(self.log[first : first + limit], start=first + 1)
        found = [relay.job_event(topic, seq=at, kind="changed", snapshot=snapshot) for at, snapshot in kept]
        await asyncio.sleep(0)  # what happens from here on is not in the answer
        return found

    async def positions(self, names: list[str]) -> dict[str, Position]:
        return {name: (self.epoch, len(self.log)) for name in names}

    async def mask_file(self, job_id: str) -> MaskFile | None:
        self.mask_reads += 1
        return self.mask

    async def signed_in_user(self) -> Any | None:
        return self.user


@dataclass
class FakeWire:
    """What the browser has got, and which groups wake the socket up."""

    got: list[Any] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    joins: int = 0
    is_layer_away: bool = False
    takes: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while the browser takes nothing: then sending waits, as it does behind a full transport."""

    def __post_init__(self) -> None:
        self.takes.set()

    async def send(self, text: str) -> None:
        self.got.append(json.loads(text))
        await self.takes.wait()

    async def send_bytes(self, content: bytes) -> None:
        self.got.append(content)
        await self.takes.wait()

    async def join(self, topic: str) -> bool:
        self.joins += 1
        if self.is_layer_away:
            return False
        if topic not in self.groups:
            self.groups.append(topic)
        return True

    async def leave(self, topic: str) -> None:
        if topic in self.groups:
            self.groups.remove(topic)


@dataclass
class FakeClock:
    """Stands still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Socket:
    """A conversation in a test: say something, let it be served, look at what came."""

    def __init__(self, library: FakeLibrary | None = None, *, rhythm: Rhythm | None = None, **beats: Any) -> None:
        self.library = library or FakeLibrary()
        self.wire = FakeWire()
        self.clock = FakeClock()
        self.conversation = Conversation(
            DOCTOR, wire=self.wire, library=self.library, rhythm=rhythm or Rhythm(**beats), clock=self.clock
        )
        self.running: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> Socket:
        self.running = asyncio.create_task(self.conversation.run())
        await self.served()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.running is not None
        self.running.cancel()
        await asyncio.wait([self.running])

    async def served(self) -> list[Any]:
        """Let everything be served that is put down; what came since the last time."""
        for _ in range(50):
            await asyncio.sleep(0)
        got, self.wire.got = self.wire.got, []
        return got

    async def says(self, **frame: Any) -> list[Any]:
        """Say a frame; what came back."""
        self.conversation.take_frame(json.dumps(frame))
        return await self.served()

    async def after(self, seconds: float) -> list[Any]:
        """Move the clock and wake the conversation up; what came."""
        self.clock.now += seconds
        self.conversation.take_poke("nobody", 0)
        return await self.served()

    async def parted(self) -> Any:
        """The bye it ended with."""
        assert self.running is not None
        return await asyncio.wait_for(self.running, timeout=2)
