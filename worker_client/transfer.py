"""Bytes over HTTP: inputs down by ranges, the mask up by tus-like offsets; both go on where they stopped.

Flow: 6 run, 8 mask
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import httpx
import msgspec

from worker_client.address import on_server
from worker_client.cache import Cache
from worker_client.errors import (
    ChecksumRefused,
    DigestMismatch,
    LeaseGone,
    OffsetMoved,
    TokenRefused,
    TransferError,
    TransferRefused,
    Unreachable,
    UploadVanished,
)
from worker_client.protocol.messages import InputArtifact

WINDOW_BYTES = 4 << 20
WINDOWS_IN_FLIGHT = 2
FETCH_TRIES = 8
TOKEN_TRIES = 3
UPLOAD_RESTARTS = 3
MAX_DELAY_SECONDS = 20.0

T = TypeVar("T")
Count = Callable[[int], None]
"""Told how many more bytes went through; a negative number when some have to go again."""


class DataToken:
    """The token that moves one attempt's bytes. It grows old; `ask` lets the session fetch another."""

    def __init__(self, value: str, *, ask: Callable[[], None]) -> None:
        self.value = value
        self._ask = ask
        self._changed = asyncio.Event()

    def use(self, value: str) -> None:
        """From now on this one."""
        self.value = value
        self._changed.set()

    async def renewed(self, old: str) -> None:
        """Wait for an answer to `ask`, unless the token is another than `old` already."""
        if self.value == old:
            self._changed.clear()
            self._ask()
            await self._changed.wait()


@dataclass(frozen=True)
class Parcel:
    """A file to bring up: its facts, the path on the server that takes it, and the words that go with it."""

    path: Path
    size: int
    sha256: str
    url: str
    words: Mapping[str, str] = field(default_factory=dict)


def is_retryable(error: TransferError) -> bool:
    """Whether the same transfer may succeed when it is simply tried again.

    Yes: Unreachable (no network, timeout, 3xx of a captive portal, 408, 423, 425, 429, 5xx), ChecksumRefused (a chunk
    was damaged on its way), OffsetMoved (the server is asked for its offset before every try).
    No: TokenRefused (needs another token), LeaseGone, DigestMismatch (fetched anew once, by the caller),
    UploadVanished (needs another upload), ForeignPath, TransferRefused.
    """
    return isinstance(error, Unreachable | ChecksumRefused | OffsetMoved)


def refusal(response: httpx.Response) -> TransferError | None:
    """What an answer other than success means; None for 2xx."""
    status = response.status_code
    if status < 300:
        return None
    if status < 400 or status in (408, 423, 425, 429) or status >= 500:
        return Unreachable(f"it answered {status}", retry_after=_seconds(response.headers.get("retry-after")))
    code = _problem_code(response)
    if status == 409:
        return OffsetMoved() if "offset" in code else LeaseGone()
    known = {401: TokenRefused, 403: TokenRefused, 404: UploadVanished, 410: UploadVanished, 460: ChecksumRefused}
    return known[status]() if status in known else TransferRefused(status, code=code)


class Transfer:
    """Fetches and uploads on the enrolled server, and nowhere else. `wait` sleeps, `luck` is uniform in 0 to 1."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        server: str,
        cache: Cache,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._server = server
        self._cache = cache
        self._wait = wait
        self._luck = luck
        self._lanes = asyncio.Semaphore(WINDOWS_IN_FLIGHT)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # ── down ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def fetch(self, item: InputArtifact, *, token: DataToken, count: Count) -> Path:
        """The artifact's file, from the cache or the server, its size and sha256 checked.

        Raises DigestMismatch when it is wrong twice, and any TransferError that `is_retryable` denies.
        """
        url = on_server(self._server, item.url)
        async with self._turns.setdefault(item.sha256, asyncio.Lock()):
            cached = await asyncio.to_thread(self._cache.find, item.sha256, size=item.size)
            if cached is not None:
                count(item.size)
                return cached
            try:
                return await self._fetch_whole(item, url=url, token=token, count=count)
            except DigestMismatch:
                count(-item.size)
                return await self._fetch_whole(item, url=url, token=token, count=count)

    async def _fetch_whole(self, item: InputArtifact, *, url: str, token: DataToken, count: Count) -> Path:
        part = self._cache.part(item.sha256)
        begun = await asyncio.to_thread(_begun_bytes, part, item.size)
        count(begun)
        ahead: deque[asyncio.Task[bytes]] = deque()
        try:
            async with asyncio.TaskGroup() as group:
                for start in range(begun, item.size, WINDOW_BYTES):
                    end = min(start + WINDOW_BYTES, item.size)
                    ahead.append(group.create_task(self._window(item, url, (start, end), token=token, count=count)))
                    if len(ahead) == WINDOWS_IN_FLIGHT:
                        await asyncio.to_thread(_append, part, await ahead.popleft())
                while ahead:
                    await asyncio.to_thread(_append, part, await ahead.popleft())
        except* (TransferError, OSError) as failures:
            raise _first(failures) from None
        return await asyncio.to_thread(self._cache.adopt, item.sha256, size=item.size)

    async def _window(
        self, item: InputArtifact, url: str, span: tuple[int, int], *, token: DataToken, count: Count
    ) -> bytes:
        async def once(bearer: str) -> bytes:
            async with self._lanes:
                return await self._window_once(item, url, span, bearer=bearer, count=count)

        return await self._persist(once, token=token, tries=FETCH_TRIES)

    async def _window_once(
        self, item: InputArtifact, url: str, span: tuple[int, int], *, bearer: str, count: Count
    ) -> bytes:
        start, end = span
        headers = {
            **_bearer(bearer),
            "Range": f"bytes={start}-{end - 1}",
            "If-Range": f'"{item.sha256}"',
            "Accept-Encoding": "identity",
        }
        came = bytearray()
        try:
            async with self._client.stream("GET", url, headers=headers) as response:
                await _raise_unless_success(response)
                is_asked = response.headers.get("content-range", "") == f"bytes {start}-{end - 1}/{item.size}"
                if not (is_asked if response.status_code == 206 else (start, end) == (0, item.size)):
                    raise DigestMismatch(item.artifact)
                async for piece in response.aiter_raw():
                    came += piece
                    count(len(piece))
                    if len(came) > end - start:
                        raise DigestMismatch(item.artifact)
            if len(came) < end - start:
                raise Unreachable("the answer was cut off")
        except (TransferError, httpx.TransportError) as error:
            count(-len(came))
            raise _as_transfer_error(error) from error
        return bytes(came)

    # ── up ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def upload(
        self,
        parcel: Parcel,
        *,
        begun: str | None,
        note: Callable[[str | None], Awaitable[None]],
        token: DataToken,
        count: Count,
    ) -> str:
        """Bring a file to the server and return the id that the upload was given.

        `begun` is the path of an upload from before; it goes on at the server's offset. `note` is told of every
        new path, and of None when one is gone. Tries for as long as it takes; raises what `is_retryable` denies.
        """
        for _ in range(UPLOAD_RESTARTS):
            if begun is None:
                begun = await self._persist(partial(self._create, parcel), token=token)
                await note(begun)
            try:
                push = partial(self._push, parcel, begun, count)
                await self._persist(push, token=token)
                return urlsplit(begun).path.rstrip("/").rpartition("/")[2]
            except UploadVanished:
                begun = None
                await note(None)
        raise TransferRefused(410, code="upload_vanished")

    async def _create(self, parcel: Parcel, bearer: str) -> str:
        words = {**parcel.words, "sha256": parcel.sha256}
        headers = {
            **_bearer(bearer),
            "Tus-Resumable": "1.0.0",
            "Upload-Length": str(parcel.size),
            "Upload-Metadata": ",".join(f"{word} {_base64(text.encode())}" for word, text in words.items()),
        }
        response = await self._ask("POST", on_server(self._server, parcel.url), headers=headers)
        location = response.headers.get("location", "")
        on_server(self._server, location)
        if not location:
            raise TransferRefused(response.status_code, code="no_location")
        return str(location)

    async def _push(self, parcel: Parcel, location: str, count: Count, bearer: str) -> None:
        url = on_server(self._server, location)
        common = {**_bearer(bearer), "Tus-Resumable": "1.0.0"}
        head = await self._ask("HEAD", url, headers=common)
        offset = _offset(head)
        sent = offset
        count(sent)
        try:
            while offset < parcel.size:
                chunk = await asyncio.to_thread(_read_at, parcel.path, offset)
                headers = {
                    **common,
                    "Upload-Offset": str(offset),
                    "Upload-Checksum": f"sha256 {_base64(hashlib.sha256(chunk).digest())}",
                    "Content-Type": "application/offset+octet-stream",
                }
                offset = _offset(await self._ask("PATCH", url, headers=headers, content=chunk))
                if offset <= sent:
                    raise Unreachable("the server's offset does not move")
                count(offset - sent)
                sent = offset
        except TransferError:
            count(-sent)
            raise

    # ── both ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ask(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes | None = None
    ) -> httpx.Response:
        try:
            response = await self._client.request(method, url, headers=dict(headers), content=content)
        except httpx.TransportError as error:
            raise _as_transfer_error(error) from error
        failure = refusal(response)
        if failure is not None:
            raise failure
        return response

    async def _persist(
        self, attempt: Callable[[str], Awaitable[T]], *, token: DataToken, tries: int | None = None
    ) -> T:
        failures = refusals = 0
        while True:
            bearer = token.value
            try:
                return await attempt(bearer)
            except TokenRefused:
                refusals += 1
                if refusals >= TOKEN_TRIES:
                    raise
                await token.renewed(bearer)
            except TransferError as error:
                failures += 1
                if not is_retryable(error) or failures == tries:
                    raise
                await self._wait(delay_seconds(failures, error, luck=self._luck()))


def delay_seconds(failures: int, error: TransferError, *, luck: float) -> float:
    """How long to wait before the next try: full jitter over a growing span, or longer when the server says so."""
    grown = luck * min(MAX_DELAY_SECONDS, 0.5 * 2.0 ** min(failures, 10))
    asked = error.retry_after if isinstance(error, Unreachable) else None
    return max(grown, asked or 0.0)


def _as_transfer_error(error: Exception) -> TransferError:
    return error if isinstance(error, TransferError) else Unreachable(type(error).__name__)


async def _raise_unless_success(response: httpx.Response) -> None:
    if response.status_code >= 300:
        await response.aread()
    failure = refusal(response)
    if failure is not None:
        raise failure


def _first(failures: BaseExceptionGroup[TransferError | OSError]) -> TransferError | OSError:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


class _Problem(msgspec.Struct):
    code: str = ""


def _problem_code(response: httpx.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_Problem).code
    except (msgspec.DecodeError, UnicodeDecodeError, httpx.ResponseNotRead):
        return ""


def _seconds(text: str | None) -> float | None:
    return min(float(text), 600.0) if text is not None and text.isdecimal() else None


def _offset(response: httpx.Response) -> int:
    text = response.headers.get("upload-offset", "")
    if not text.isdecimal():
        raise Unreachable("the answer holds no Upload-Offset")
    return int(text)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _begun_bytes(part: Path, size: int) -> int:
    """How many bytes an earlier fetch left; more than there can be means that they are none of this file."""
    try:
        begun = part.stat().st_size
    except FileNotFoundError:
        return 0
    if begun > size:
        part.unlink()
        return 0
    return begun


def _append(part: Path, piece: bytes) -> None:
    with part.open("ab") as file:
        file.write(piece)


def _read_at(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(WINDOW_BYTES)
