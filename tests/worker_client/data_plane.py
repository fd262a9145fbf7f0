"""A server's data plane in memory: artifacts by range, uploads by offset, and faults on request."""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

Fault = Callable[[httpx.Request], httpx.Response | None]


@dataclass
class DataPlane:
    """Answers like the server. `faults` are tried first, one a request: an answer, an exception, or None to pass."""

    artifacts: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {"token-1"})
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.faults:
            answer = self.faults.popleft()(request)
            if answer is not None:
                return answer
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return httpx.Response(401, json={"code": "token_refused"})
        name = urlsplit(str(request.url)).path.rstrip("/").rpartition("/")[2]
        if request.method == "GET":
            return self._artifact(request, name)
        if request.method == "POST":
            return self._create(request)
        if name not in self.uploads:
            return httpx.Response(404, json={"code": "upload_not_found"})
        return self._patch(request, name) if request.method == "PATCH" else self._head(name)

    def asked(self, method: str) -> list[httpx.Request]:
        return [request for request in self.requests if request.method == method]

    def _artifact(self, request: httpx.Request, name: str) -> httpx.Response:
        if name not in self.artifacts:
            return httpx.Response(404, json={"code": "artifact_not_found"})
        whole = self.artifacts[name]
        tag = f'"{hashlib.sha256(whole).hexdigest()}"'
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        if request.headers["if-range"] != tag:
            return httpx.Response(200, content=streamed(whole), headers={"etag": tag})
        piece = whole[int(first) : int(last) + 1]
        span = f"bytes {first}-{int(first) + len(piece) - 1}/{len(whole)}"
        return httpx.Response(206, content=streamed(piece), headers={"etag": tag, "content-range": span})

    def _create(self, request: httpx.Request) -> httpx.Response:
        name = f"up-{len(self.uploads) + 1}"
        self.uploads[name] = bytearray()
        pairs = (pair.split(" ") for pair in request.headers["upload-metadata"].split(","))
        self.words[name] = {key: base64.b64decode(text).decode() for key, text in pairs}
        return httpx.Response(201, headers={"location": f"/api/worker/uploads/{name}"})

    def _head(self, name: str) -> httpx.Response:
        return httpx.Response(200, headers={"upload-offset": str(len(self.uploads[name]))})

    def _patch(self, request: httpx.Request, name: str) -> httpx.Response:
        held = self.uploads[name]
        if int(request.headers["upload-offset"]) != len(held):
            return httpx.Response(409, json={"code": "offset_mismatch"})
        digest = base64.b64encode(hashlib.sha256(request.content).digest()).decode()
        if request.headers["upload-checksum"] != f"sha256 {digest}":
            return httpx.Response(460, json={"code": "checksum_mismatch"})
        held += request.content
        return httpx.Response(204, headers={"upload-offset": str(len(held))})


async def streamed(body: bytes) -> AsyncIterator[bytes]:
    """A body that comes in pieces, as from a socket."""
    for start in range(0, len(body), 40):
        yield body[start : start + 40]


def answer(status: int, *, code: str = "", **headers: str) -> Fault:
    """A fault: this answer instead of the right one."""
    return lambda request: httpx.Response(status, json={"code": code}, headers=headers)


def cut(request: httpx.Request) -> httpx.Response:
    """A fault: the connection breaks before anything comes."""
    raise httpx.ReadError("connection reset", request=request)


def damage(request: httpx.Request) -> httpx.Response | None:
    """A fault: the body of a chunk changes on its way."""
    request._content = b"\0" + request.content[1:]
    return None


def nothing(request: httpx.Request) -> None:
    """No fault for this request."""
