"""A server's end of the HTTPS fall-back in memory, with faults on request, and a network that lets no WebSocket out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import msgspec

from tests.worker_client.builders import EPOCH
from worker_client.protocol import messages as wire
from worker_client.protocol.codec import decode_from_worker, encode
from worker_client.protocol.identity import LINK_HEADER

M = TypeVar("M")
Fault = Callable[[httpx.Request], httpx.Response | None]


class SyncCaller:
    """One worker's link, as the server sees it: decision 0013 in thirty lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unconfirmed: deque[tuple[int, str]] = deque()
        self.heard: asyncio.Queue[wire.FromWorker] = asyncio.Queue()
        self.taken: list[int] = []
        self.is_over = False
        self._said = self._turn = 0
        self._news = asyncio.Event()

    def say(self, message: wire.FromServer) -> None:
        self._said += 1
        self.unconfirmed.append((self._said, encode(msgspec.structs.replace(message, id=self._said))))
        self._news.set()

    def say_raw(self, frame: str) -> None:
        self._said += 1
        self.unconfirmed.append((self._said, frame))
        self._news.set()

    async def hear(self, kind: type[M]) -> M:
        while True:
            message = await self.heard.get()
            if isinstance(message, kind):
                return message

    async def welcome(self, *verdicts: wire.Verdict) -> wire.Hello:
        hello = await self.hear(wire.Hello)
        self.say(wire.Welcome(session=1, epoch=EPOCH, resume=verdicts))
        return hello

    async def exchange(self, *, ack: int, frames: list[msgspec.Raw]) -> list[str]:
        while self.unconfirmed and self.unconfirmed[0][0] <= ack:
            self.unconfirmed.popleft()
        for frame in frames:
            message = decode_from_worker(bytes(frame))
            if message.id > max(self.taken, default=0):
                self.taken.append(message.id)
                self.heard.put_nowait(message)
                self.is_over = self.is_over or isinstance(message, wire.Bye)
        self._turn += 1
        turn = self._turn
        self._news.set()
        while turn == self._turn and not self.unconfirmed and not self.is_over:
            self._news = asyncio.Event()
            await self._news.wait()
        return [frame for _, frame in self.unconfirmed] if turn == self._turn else []


class _Asked(msgspec.Struct):
    session: str | None
    ack: int
    frames: list[msgspec.Raw]


@dataclass
class SyncDesk:
    """Answers `/healthz` and the fall-back. `faults` come first, one a request: an answer, an exception, or None.

    `lost` answers are thrown away after the server took what the request held.
    """

    callers: asyncio.Queue[SyncCaller] = field(default_factory=asyncio.Queue)
    links: dict[str, SyncCaller] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    lost: int = 0
    requests: list[httpx.Request] = field(default_factory=list)
    open_requests: int = 0
    most_open_requests: int = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/healthz":
            return httpx.Response(200)
        self.requests.append(request)
        if self.faults:
            answer = self.faults.popleft()(request)
            if answer is not None:
                return answer
        self.open_requests += 1
        self.most_open_requests = max(self.most_open_requests, self.open_requests)
        try:
            return await self._exchange(msgspec.json.decode(request.content, type=_Asked), request)
        finally:
            self.open_requests -= 1

    async def caller(self) -> SyncCaller:
        async with asyncio.timeout(5):
            return await self.callers.get()

    async def _exchange(self, asked: _Asked, request: httpx.Request) -> httpx.Response:
        assert request.headers[LINK_HEADER]
        if asked.session is None:
            caller = self.links.setdefault(f"link-{len(self.links) + 1}", SyncCaller(f"link-{len(self.links) + 1}"))
            caller.say(wire.Challenge(nonce="bm9uY2U=", server_time=0.0, server_id="s"))
            self.callers.put_nowait(caller)
        elif asked.session in self.links:
            caller = self.links[asked.session]
        else:
            return _answer(None, [encode(wire.Bye(code=4000, reason="this link is not known here"))])
        frames = await caller.exchange(ack=asked.ack, frames=asked.frames)
        if self.lost and frames:
            self.lost -= 1
            raise httpx.ReadError("the answer was lost", request=request)
        return _answer(caller.name, frames)


def _answer(name: str | None, frames: list[str]) -> httpx.Response:
    body: dict[str, Any] = {"session": name, "frames": [msgspec.Raw(frame.encode()) for frame in frames]}
    return httpx.Response(200, content=msgspec.json.encode(body))
