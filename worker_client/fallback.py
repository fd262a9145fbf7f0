"""The same conversation over HTTPS, for networks that let no WebSocket through (docs/decisions/0013).

One request waits at the server for news, and a second carries what the worker has to say; the server ends the older
one then. Frames are numbered, and each side repeats what the other has not confirmed, so a lost answer loses nothing.

Flow: 5 receive
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from worker_client.actions import HangUp
from worker_client.conversation import NO_CLOSE_FRAME, End, Owner
from worker_client.outgoing import Outgoing
from worker_client.protocol.codec import MAX_FRAME_BYTES, decode_from_server, encode
from worker_client.protocol.errors import FrameTooLarge, ProtocolError, UnknownType
from worker_client.protocol.identity import LINK_HEADER
from worker_client.protocol.messages import Bye, FromServer, Welcome

logger = logging.getLogger(__name__)

MOST_FRAMES = 64
MOST_BYTES = 1 << 20
MOST_ANSWER_BYTES = 2 << 20
OPEN_SECONDS = 15.0
ANSWER_SECONDS = 35.0
"""The server answers after 20 seconds at the latest."""
LAST_WORD_SECONDS = 5.0
PAUSE_SECONDS = 1.0
REQUESTS_AT_ONCE = 2


class _Request(msgspec.Struct, frozen=True):
    session: str | None
    ack: int
    frames: tuple[msgspec.Raw, ...]


class _Answer(msgspec.Struct, frozen=True):
    session: str | None
    frames: tuple[msgspec.Raw, ...] = ()


_answers = msgspec.json.Decoder(_Answer)


class SyncRefused(Exception):
    """A request got no answer that belongs to the conversation. `is_final`: asking again would not help."""

    def __init__(self, cause: str, *, status: int | None = None, is_final: bool = False) -> None:
        self.status = status
        self.is_final = is_final
        super().__init__(cause)


@dataclass(frozen=True)
class _Sent:
    """A frame that no answer has confirmed."""

    number: int
    frame: bytes


class SyncLine:
    """One link over HTTPS, from its first request to its end. `luck` is uniform in 0 to 1."""

    def __init__(self, client: httpx.AsyncClient, url: str, *, luck: Callable[[], float]) -> None:
        self._client = client
        self._url = url
        self._luck = luck
        self._headers = {LINK_HEADER: secrets.token_urlsafe(16), "Content-Type": "application/json"}
        self._link_id: str | None = None
        self._taken = 0
        self._unconfirmed: deque[_Sent] = deque()
        self._is_unsaid = False
        self._bye: Bye | None = None
        self._welcomed_at: float | None = None

    async def open(self) -> tuple[msgspec.Raw, ...]:
        """Begin the link; its first frames. Raises SyncRefused."""
        answer = await self._ask(_Request(None, 0, ()), seconds=OPEN_SECONDS)
        self._link_id = answer.session
        return answer.frames

    async def converse(
        self, first: tuple[msgspec.Raw, ...], outgoing: Outgoing, owner: Owner, *, clock: Callable[[], float]
    ) -> End:
        """Carry frames both ways until one side ends it, or the server no longer knows the link."""
        self._take(first, outgoing, owner, clock=clock)
        asked: dict[asyncio.Task[_Answer], int] = {}
        try:
            while self._bye is None and not outgoing.is_ending.is_set():
                while len(asked) < (REQUESTS_AT_ONCE if outgoing.has_news or self._is_unsaid else 1):
                    last = self._pack(outgoing, owner)
                    asked[asyncio.create_task(self._ask(self._request(), seconds=ANSWER_SECONDS))] = last
                for task in await _first_of(asked, outgoing):
                    last = asked.pop(task)
                    await self._settle(task, last, outgoing, owner, clock=clock)
        except SyncRefused as refused:
            return End(NO_CLOSE_FRAME, str(refused), welcomed_at=self._welcomed_at, status=refused.status)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        self._pack(outgoing, owner)
        return await self._part(outgoing.hang_up)

    async def _settle(
        self, task: asyncio.Task[_Answer], last: int, outgoing: Outgoing, owner: Owner, *, clock: Callable[[], float]
    ) -> None:
        try:
            answer = task.result()
        except SyncRefused as refused:
            if refused.is_final:
                raise
            # The frames stay unconfirmed and go again. How long that may go on is the session's to say (15 s).
            self._is_unsaid = bool(self._unconfirmed)
            await asyncio.sleep(PAUSE_SECONDS * (0.5 + self._luck()))
            return
        while self._unconfirmed and self._unconfirmed[0].number <= last:
            self._unconfirmed.popleft()
        self._take(answer.frames, outgoing, owner, clock=clock)

    def _take(
        self, frames: tuple[msgspec.Raw, ...], outgoing: Outgoing, owner: Owner, *, clock: Callable[[], float]
    ) -> None:
        for frame in frames:
            try:
                message: FromServer = decode_from_server(bytes(frame))
            except UnknownType as unknown:
                if unknown.re > self._taken:
                    self._taken = unknown.re
                    owner.garbled(unknown)
                continue
            except ProtocolError as error:
                owner.garbled(error)
                return
            # A goodbye counts under any number: it may be the word about a link that this server does not know.
            if message.id > self._taken or isinstance(message, Bye):
                self._taken = max(self._taken, message.id)
                self._note(message, outgoing, clock=clock)
                owner.received(message)

    def _note(self, message: FromServer, outgoing: Outgoing, *, clock: Callable[[], float]) -> None:
        if isinstance(message, Bye):
            self._bye = message
        elif isinstance(message, Welcome):
            self._welcomed_at = clock()
            outgoing.allow(message.limits.msg)

    def _pack(self, outgoing: Outgoing, owner: Owner) -> int:
        """Number what waits among the unconfirmed; the number of the last one."""
        room = MOST_BYTES - sum(len(sent.frame) for sent in self._unconfirmed)
        while outgoing.has_news and len(self._unconfirmed) < MOST_FRAMES and room > MAX_FRAME_BYTES:
            message = outgoing.pop()
            if isinstance(message, HangUp):
                break
            try:
                frame = encode(message, limit=outgoing.frame_bytes).encode()
            except FrameTooLarge:
                logger.exception("A message is too long and was not sent", extra={"kind": type(message).__name__})
                owner.unsendable(message)
                continue
            self._unconfirmed.append(_Sent(message.id, frame))
            room -= len(frame)
        return self._unconfirmed[-1].number if self._unconfirmed else 0

    def _request(self) -> _Request:
        self._is_unsaid = False
        return _Request(self._link_id, self._taken, tuple(msgspec.Raw(sent.frame) for sent in self._unconfirmed))

    async def _part(self, hang_up: HangUp | None) -> End:
        if self._bye is not None:
            return End(self._bye.code, self._bye.reason, welcomed_at=self._welcomed_at, was_heard=True)
        with contextlib.suppress(SyncRefused):
            await self._ask(self._request(), seconds=LAST_WORD_SECONDS)
        code, reason = (NO_CLOSE_FRAME, "") if hang_up is None else (hang_up.code, hang_up.reason)
        return End(code, reason, welcomed_at=self._welcomed_at, was_heard=True)

    async def _ask(self, request: _Request, *, seconds: float) -> _Answer:
        try:
            async with asyncio.timeout(seconds):
                return await self._post(msgspec.json.encode(request))
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise SyncRefused(type(error).__name__) from error

    async def _post(self, body: bytes) -> _Answer:
        came = bytearray()
        post = self._client.stream("POST", self._url, content=body, headers=self._headers, timeout=ANSWER_SECONDS)
        async with post as response:
            status = response.status_code
            if status != httpx.codes.OK:
                passes = status < 400 or status in (408, 425, 429) or status >= 500
                raise SyncRefused(f"it answered {status}", status=status, is_final=not passes)
            async for piece in response.aiter_bytes():
                came += piece
                if len(came) > MOST_ANSWER_BYTES:
                    raise SyncRefused("its answer is too long", is_final=True)
        try:
            return _answers.decode(bytes(came))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SyncRefused("its answer is none of the protocol's") from error


async def _first_of(asked: dict[asyncio.Task[_Answer], int], outgoing: Outgoing) -> list[asyncio.Task[_Answer]]:
    """The requests that were answered; none when there is something to say and a request to say it in, or the end."""
    signs: list[asyncio.Task[Any]] = [asyncio.create_task(outgoing.is_ending.wait())]
    if len(asked) < REQUESTS_AT_ONCE:
        signs.append(asyncio.create_task(outgoing.wait()))
    try:
        done, _ = await asyncio.wait({*asked, *signs}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for sign in signs:
            sign.cancel()
        await asyncio.gather(*signs, return_exceptions=True)
    return [task for task in asked if task in done]
