"""Browser sockets on the real application: opened as a page opens them, and read as a page reads them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from server.config.asgi import application

ORIGIN = "http://testserver"
PATH = "/ws/segmentation/"
in_thread = sync_to_async


def headers_of(user: User | None, origin: str | None) -> list[tuple[bytes, bytes]]:
    """What a page's handshake carries."""
    headers = [(b"host", b"testserver")]
    if origin:
        headers.append((b"origin", origin.encode()))
    if user is not None:
        browser = Client()
        browser.force_login(user)
        headers.append((b"cookie", f"sessionid={browser.cookies['sessionid'].value}".encode()))
    return headers


@asynccontextmanager
async def connected(
    user: User | None = None,
    *,
    origin: str | None = ORIGIN,
    subprotocols: Sequence[str] = (),
    address: str = "10.0.0.7",
) -> AsyncIterator[WebsocketCommunicator]:
    """An accepted socket. Without a user it brings no cookie."""
    headers = await in_thread(headers_of)(user, origin)
    socket = WebsocketCommunicator(application, PATH, headers=headers, subprotocols=list(subprotocols))
    socket.scope["client"] = [address, 4711]
    accepted, _ = await socket.connect(timeout=5)
    assert accepted
    try:
        yield socket
    finally:
        await socket.disconnect()


async def heard(socket: WebsocketCommunicator, until: str | None) -> list[Any]:
    """Everything up to the first frame of a type, or one frame of any; binary frames as bytes."""
    frames: list[Any] = []
    while True:
        output = await socket.receive_output(timeout=5)
        if output["type"] == "websocket.close":
            frames.append({"t": "close", "code": output["code"]})
        else:
            frames.append(output["bytes"] if output.get("bytes") is not None else json.loads(output["text"]))
        if until is None or (isinstance(frames[-1], dict) and frames[-1]["t"] == until):
            return frames


async def says(socket: WebsocketCommunicator, **frame: Any) -> None:
    """Send one frame."""
    await socket.send_to(text_data=json.dumps(frame))


async def follow(socket: WebsocketCommunicator, topic: str, **known: Any) -> dict[str, Any]:
    """Subscribe; the sub.ok."""
    await socket.send_to(text_data=json.dumps({"t": "sub", "topic": topic, **known}))
    return (await heard(socket, "sub.ok"))[-1]
