"""Bytes over HTTP: inputs down by ranges, the mask up by tus-like offsets; both go on where they stopped.

Flow: 6 run, 8 mask
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from weakref import WeakValueDictionary

import httpx

from worker_client.address import on_server, origin_of
from worker_client.cache import Cache
from worker_client.errors import (
    DigestMismatch,
    Intercepted,
    TransferError,
    TransferRefused,
    Unreachable,
    UploadVanished,
)
from worker_client.patience import DataToken, Patience, refusal
from worker_client.protocol.messages import InputArtifact

logger = logging.getLogger(__name__)

WINDOW_BYTES = 4 << 20
WINDOWS_IN_FLIGHT = 2
FETCH_TRIES = 24
"""Without a single byte more: three to four minutes."""
UPLOAD_RESTARTS = 3
FIRST_CHUNK_BYTES = 256 << 10
LEAST_CHUNK_BYTES = 64 << 10
QUICK_SECONDS = 2.0
SLOW_SECONDS = 6.0

Count = Callable[[int], None]
"""Told how many more bytes went through; a negative number when some have to go again."""


@dataclass(frozen=True)
class Parcel:
    """A file to bring up: its facts, the path on the server that takes it, and the words that go with it."""

    path: Path
    size: int
    sha256: str
    url: str
    words: Mapping[str, str] = field(default_factory=dict)


class Transfer:
    """Fetches and uploads on the enrolled server. `wait` sleeps, `luck` is uniform in 0 to 1.

    A download alone may be sent on, and only to the storage that the server named at sign-in (`trust_storage`).
    """

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
        self._persist = Patience(wait=wait, luck=luck)
        self._lanes = asyncio.Semaphore(WINDOWS_IN_FLIGHT)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._storage_origin = ""

    def trust_storage(self, origin: str) -> None:
        """The one other place that a download may come from; empty: none. Behind a https server it is https too."""
        spelled = origin_of(origin)
        is_as_safe = spelled.startswith("https:") or not self._server.startswith("https:")
        self._storage_origin = spelled if is_as_safe else ""
        if origin and not self._storage_origin:
            logger.warning("The server named a storage that is not safe to use; no download will be sent on")

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
            tally = _Tally(count)
            try:
                return await self._fetch_whole(item, url=url, token=token, count=tally)
            except DigestMismatch:
                tally.undo()
                return await self._fetch_whole(item, url=url, token=token, count=tally)

    async def _fetch_whole(self, item: InputArtifact, *, url: str, token: DataToken, count: Count) -> Path:
        part = self._cache.part(item.sha256)
        begun = await asyncio.to_thread(_begun_bytes, part, item.size)
        count(begun)
        await asyncio.to_thread(self._cache.make_room, item.size - begun)
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
        came = bytearray()

        async def once(bearer: str) -> None:
            async with self._lanes:
                await self._window_once(item, url, span, came, bearer=bearer, count=count)

        await self._persist(once, token=token, tries=FETCH_TRIES, mark=lambda: len(came))
        return bytes(came)

    async def _window_once(
        self, item: InputArtifact, url: str, span: tuple[int, int], came: bytearray, *, bearer: str, count: Count
    ) -> None:
        """Go on with a window where it was cut off."""
        start, end = span[0] + len(came), span[1]
        try:
            async with self._get(item, url, span=(start, end), bearer=bearer) as response:
                is_asked = response.headers.get("content-range", "") == f"bytes {start}-{end - 1}/{item.size}"
                if not (is_asked if response.status_code == 206 else (start, end) == (0, item.size)):
                    raise DigestMismatch(item.artifact)
                async for piece in response.aiter_raw():
                    came += piece
                    count(len(piece))
                    if len(came) > span[1] - span[0]:
                        raise DigestMismatch(item.artifact)
        except httpx.TransportError as error:
            raise Unreachable(type(error).__name__) from error
        if len(came) < span[1] - span[0]:
            raise Unreachable("the answer was cut off")

    @asynccontextmanager
    async def _get(
        self, item: InputArtifact, url: str, *, span: tuple[int, int], bearer: str
    ) -> AsyncIterator[httpx.Response]:
        """The server's answer for a part of an artifact, or that of its storage."""
        wanted = {"Range": f"bytes={span[0]}-{span[1] - 1}", "Accept-Encoding": "identity"}
        own = {**wanted, **_bearer(bearer), "If-Range": f'"{item.sha256}"'}
        if self._storage_origin:  # without it the server sends the bytes itself
            own["Accept-Storage"] = self._storage_origin
        async with self._client.stream("GET", url, headers=own) as response:
            elsewhere = self._sent_on(response)
            if elsewhere is None:
                await _raise_unless_success(response)
                if response.status_code == httpx.codes.OK and "etag" not in response.headers:
                    raise Intercepted(response.status_code)
                yield response
                return
        # The link is the permission: the worker's own token stays here, and what comes is checked like any other.
        async with self._client.stream("GET", elsewhere, headers=wanted) as response:
            if response.status_code not in (200, 206):
                raise Unreachable(f"its storage answered {response.status_code}")
            yield response

    def _sent_on(self, response: httpx.Response) -> str | None:
        if not response.has_redirect_location or not self._storage_origin:
            return None
        there = urljoin(str(response.url), response.headers["location"])
        return there if origin_of(there) == self._storage_origin else None

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
            raise Intercepted(response.status_code)
        return str(location)

    async def _push(self, parcel: Parcel, location: str, count: Count, bearer: str) -> None:
        url = on_server(self._server, location)
        common = {**_bearer(bearer), "Tus-Resumable": "1.0.0"}
        head = await self._ask("HEAD", url, headers=common)
        offset = _offset(head)
        sent, pace = offset, Pace()
        count(sent)
        try:
            while offset < parcel.size:
                chunk = await asyncio.to_thread(_read_at, parcel.path, offset, pace.chunk_bytes)
                headers = {
                    **common,
                    "Upload-Offset": str(offset),
                    "Upload-Checksum": f"sha256 {_base64(hashlib.sha256(chunk).digest())}",
                    "Content-Type": "application/offset+octet-stream",
                }
                began_at = asyncio.get_running_loop().time()
                offset = _offset(await self._ask("PATCH", url, headers=headers, content=chunk))
                pace.took(asyncio.get_running_loop().time() - began_at)
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


class Pace:
    """How much goes into one chunk: a slow line gets small ones, so that none of them outlasts a proxy's patience."""

    def __init__(self) -> None:
        self.chunk_bytes = FIRST_CHUNK_BYTES

    def took(self, seconds: float) -> None:
        """The last chunk took this long."""
        if seconds < QUICK_SECONDS:
            self.chunk_bytes = min(WINDOW_BYTES, 2 * self.chunk_bytes)
        elif seconds > SLOW_SECONDS:
            self.chunk_bytes = max(LEAST_CHUNK_BYTES, self.chunk_bytes // 2)


class _Tally:
    """Counts on, and can take all of it back."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._sum = 0

    def __call__(self, more: int) -> None:
        self._sum += more
        self._count(more)

    def undo(self) -> None:
        self(-self._sum)


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


def _read_at(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
