"""A machine that should not be there: strange frames, a copied key, somebody else's job. Nothing may come of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from uuid import uuid4

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from worker_client.home import Home
from worker_client.protocol.identity import SUBPROTOCOL, challenge_text

SECONDS = 6.0
GARBAGE = (
    "",
    "{",
    "[" * 20_000,
    '{"t": "hello"}',
    '{"t": "hb", "session": NaN}',
    '{"t": "job.result", "job": "x", "fence": 1}',
    '{"t": "nothing.known", "id": 7}',
    json.dumps({"t": "ready", "credits": 10**9}),
)
UNWELCOME = frozenset({401, 403, 404})


async def speak_garbage(url: str, *, frame: str) -> None:
    """Say something senseless on both sockets, without having signed in."""
    socket_url = url.replace("http", "ws", 1)
    for path, protocols in (("/ws/worker/", [Subprotocol(SUBPROTOCOL)]), ("/ws/segmentation/", None)):
        with contextlib.suppress(OSError, WebSocketException, EOFError, TimeoutError):
            async with asyncio.timeout(SECONDS):
                async with connect(socket_url + path, subprotocols=protocols, close_timeout=1) as socket:
                    await socket.send(frame)
                    await socket.recv()


async def come_as_copy(url: str, home: Path) -> str:
    """Sign in with a worker's own key on another machine, and answer what the server says: `welcome` or a code."""
    identity = Home(home).identity()
    boot_id = uuid4().hex
    try:
        async with asyncio.timeout(2 * SECONDS):
            target = url.replace("http", "ws", 1) + "/ws/worker/"
            async with connect(target, subprotocols=[Subprotocol(SUBPROTOCOL)], close_timeout=1) as socket:
                challenge = json.loads(await socket.recv())
                text = challenge_text(
                    nonce=challenge["nonce"], host=identity.host, worker_id=identity.worker_id, boot_id=boot_id
                )
                hello = {
                    "t": "hello",
                    "id": 1,
                    "worker_id": identity.worker_id,
                    "boot_id": boot_id,
                    "sig": identity.sign(text),
                    "software": {"version": "0"},
                    "caps": {"device": "a copy"},
                }
                await socket.send(json.dumps(hello))
                while True:
                    answer = json.loads(await socket.recv())
                    if answer["t"] in {"welcome", "bye"}:
                        return str(answer.get("code", answer["t"]))
    except (OSError, WebSocketException, EOFError, TimeoutError) as error:
        return type(error).__name__


async def pry(client: httpx.AsyncClient, job_id: str) -> str | None:
    """Ask for another user's job in every way by HTTP; answer what was told, which must be nothing."""
    base = f"/api/mri/segmentation/jobs/{job_id}"
    for path in (f"{base}/", f"{base}/events", f"{base}/mask.nii.gz", f"{base}/report.json"):
        with contextlib.suppress(httpx.HTTPError):
            answer = await client.get(path)
            if answer.status_code < 500 and answer.status_code not in UNWELCOME:
                return f"{path} answered {answer.status_code}"
    return None
