"""Browsers as the campaign needs them: one that follows jobs by WebSocket, one by long-poll. They write down what
they see and correct nothing: what a page would have to repair is for the checker to find.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.system.faults.checker import FINAL, SUCCEEDED
from tests.system.faults.history import Recorder, view_of

OPEN_SECONDS = 5.0
PING_SECONDS = 4.0
SILENCE_SECONDS = 10.0
LONG_POLL_SECONDS = 8.0
REQUEST_SECONDS = 20.0
PAUSE_SECONDS = (0.1, 0.8)
JOBS = "/api/mri/segmentation/jobs"


class Unreachable(Exception):
    """The server did not answer with what was asked for; it may do so later."""


@dataclass
class Desk:
    """One browser's machine: where it connects, who is signed in, and where what it sees is written down.

    `url` is the way there (a proxy), `origin` the page's; `cookie` is a session, `token` the same user's API token.
    """

    name: str
    url: str
    origin: str
    cookie: str
    token: str
    recorder: Recorder
    luck: random.Random

    def client(self) -> httpx.AsyncClient:
        """An HTTP client of its own."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=REQUEST_SECONDS)

    async def pause(self) -> None:
        """A moment, before trying again."""
        await asyncio.sleep(self.luck.uniform(*PAUSE_SECONDS))


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> httpx.Response:
    """A 200 of the server's own, not of a captive portal. Raises Unreachable."""
    try:
        answer = await client.get(path, params=params)
    except httpx.HTTPError as error:
        raise Unreachable(type(error).__name__) from error
    if answer.status_code != 200 or answer.headers["content-type"].startswith("text/html"):
        raise Unreachable(str(answer.status_code))
    return answer


async def patiently_get(desk: Desk, client: httpx.AsyncClient, path: str) -> httpx.Response:
    """A 200, however often it must be asked for."""
    while True:
        try:
            return await get(client, path)
        except Unreachable:
            await desk.pause()


@dataclass
class Followed:
    """Where a browser stands in a job's log."""

    epoch: str | None = None
    seq: int | None = None
    state: str = ""
    has_mask: bool = False
    subscription: int = 0
    seen: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to see."""
        return self.state in FINAL and (self.has_mask or self.state != SUCCEEDED)


class SocketViewer:
    """A page with one WebSocket that follows any number of jobs, and comes back whenever it is cut."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.followed: dict[str, Followed] = {}
        self.connections = 0
        self._socket: ClientConnection | None = None
        self._subscriptions = 0
        self._mask_of: dict[str, Any] | None = None
        self._mask = b""
        self._heard = asyncio.Event()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            with contextlib.suppress(OSError, WebSocketException, EOFError, TimeoutError):
                await self._once()
            await self.desk.pause()

    async def follow(self, job_id: str) -> Followed:
        """Follow a job from now on."""
        followed = self.followed.setdefault(job_id, Followed())
        if self._socket is not None:
            with contextlib.suppress(WebSocketException):
                await self._subscribe(self._socket, job_id, followed)
        return followed

    async def start_over(self) -> None:
        """Let go of the present connection."""
        if self._socket is not None:
            await self._socket.close()

    async def _once(self) -> None:
        url = self.desk.url.replace("http", "ws", 1) + "/ws/segmentation/"
        cookie = {"Cookie": f"sessionid={self.desk.cookie}"}
        async with connect(
            url,
            origin=self.desk.origin,  # type: ignore[arg-type]
            additional_headers=cookie,
            compression=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=1,
            ping_interval=None,
            max_size=2**22,
        ) as socket:
            self.connections += 1
            self._mask_of = None
            pings = asyncio.create_task(self._ping(socket))
            self._socket = socket
            try:
                for job_id, followed in list(self.followed.items()):
                    if not followed.is_over:
                        await self._subscribe(socket, job_id, followed)
                await self._listen(socket)
            finally:
                self._socket = None
                pings.cancel()

    async def _subscribe(self, socket: ClientConnection, job_id: str, followed: Followed) -> None:
        self._subscriptions += 1
        followed.subscription = self._subscriptions
        wish = {"t": "sub", "topic": f"job:{job_id}", "id": followed.subscription}
        if followed.seq is not None:
            wish |= {"epoch": followed.epoch, "seq": followed.seq}
        await socket.send(json.dumps(wish))

    async def _ping(self, socket: ClientConnection) -> None:
        """A page sees no protocol pings: it asks by itself, and goes when nobody answers."""
        with contextlib.suppress(WebSocketException):
            while True:
                await asyncio.sleep(PING_SECONDS)
                self._heard.clear()
                await socket.send('{"t": "ping"}')
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await self._heard.wait()
                except TimeoutError:
                    socket.transport.abort()
                    return

    async def _listen(self, socket: ClientConnection) -> None:
        async for frame in socket:
            self._heard.set()
            if isinstance(frame, bytes):
                self._mask += frame
            else:
                await self._take(socket, json.loads(frame))

    async def _take(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        kind = frame["t"]
        if kind == "mask.begin":
            self._mask_of, self._mask = frame, b""
        elif kind == "mask.end":
            self._end_mask(frame)
        elif kind in {"sub.ok", "event"}:
            job_id = frame["topic"].removeprefix("job:")
            followed = self.followed[job_id]
            if frame.get("id") == followed.subscription:
                (self._opened if kind == "sub.ok" else self._changed)(job_id, followed, frame)
            if followed.is_over:
                await socket.send(json.dumps({"t": "unsub", "topic": frame["topic"]}))
        elif kind == "error":
            self.desk.recorder.note("refused", who=self.desk.name, what="frame", code=frame.get("code"))

    def _opened(self, job_id: str, followed: Followed, frame: dict[str, Any]) -> None:
        view = view_of(frame["snapshot"])
        is_recovered = bool(frame["recovered"])
        self.desk.recorder.note(
            "opened",
            who=self.desk.name,
            job=job_id,
            recovered=is_recovered,
            asked=followed.seq,
            **{**view, "epoch": frame["epoch"], "seq": frame["seq"]},
        )
        followed.epoch, followed.seq = frame["epoch"], frame["seq"]
        if not is_recovered:
            followed.state = view["state"]
        followed.seen.set()

    def _changed(self, job_id: str, followed: Followed, frame: dict[str, Any]) -> None:
        view = view_of(frame["job"])
        self.desk.recorder.note("event", who=self.desk.name, job=job_id, **{**view, "seq": frame["seq"]})
        followed.epoch, followed.seq, followed.state = view["epoch"], frame["seq"], view["state"]
        followed.seen.set()

    def _end_mask(self, frame: dict[str, Any]) -> None:
        begun, self._mask_of = self._mask_of, None
        if begun is None or begun["job"] != frame["job"]:
            return
        self.note_mask(frame["job"], self._mask, via="pushed")

    def note_mask(self, job_id: str, content: bytes, *, via: str) -> None:
        """The bytes of a job's mask are here."""
        digest = hashlib.sha256(content).hexdigest()
        self.desk.recorder.note("mask", who=self.desk.name, job=job_id, sha256=digest, via=via)
        self.followed[job_id].has_mask = True
        self.followed[job_id].seen.set()


async def poll(desk: Desk, client: httpx.AsyncClient, job_id: str) -> str:
    """Follow a job by long-poll to its end, fetch what it made, and answer its last state."""
    seq, epoch, state = 0, None, ""
    while state not in FINAL:
        try:
            path = f"{JOBS}/{job_id}/events"
            answer = (await get(client, path, since=seq, wait=LONG_POLL_SECONDS)).json()
        except Unreachable:
            await desk.pause()
            continue
        if answer["epoch"] != epoch:
            epoch = answer["epoch"]
            desk.recorder.note("opened", who=desk.name, job=job_id, epoch=epoch, seq=seq, recovered=True, asked=seq)
        for event in answer["events"]:
            view = view_of(event["job"])
            desk.recorder.note("event", who=desk.name, job=job_id, **{**view, "seq": event["seq"]})
            seq, state = event["seq"], view["state"]
    if state == SUCCEEDED:
        await fetch_mask(desk, client, job_id)
    return state


async def fetch_mask(desk: Desk, client: httpx.AsyncClient, job_id: str) -> bytes:
    """The mask by its URL."""
    content = (await patiently_get(desk, client, f"{JOBS}/{job_id}/mask.nii.gz")).content
    digest = hashlib.sha256(content).hexdigest()
    desk.recorder.note("mask", who=desk.name, job=job_id, sha256=digest, via="fetched")
    return content


async def read(desk: Desk, client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """The job's snapshot now. Raises Unreachable."""
    snapshot: dict[str, Any] = (await get(client, f"{JOBS}/{job_id}/")).json()
    desk.recorder.note("snapshot", who=desk.name, job=job_id, **view_of(snapshot))
    return snapshot
