"""The browser's socket on the real server: what the transport refuses, and a viewer that stops reading."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.system.stack import Stack

pytestmark = pytest.mark.system

MIB = 1024 * 1024
EVENTS, EVENT_BYTES = 500, 100_000
# A study of nobody's patient, and a burst of fat events in its log.
MAKE_STUDY = """
from django.contrib.auth.models import User
from server.imaging.models import Study
print(Study.objects.create(owner=User.objects.get(username="doctor"), uid="1.2.3", source="nifti").pk)
"""
BURST = """
from django.db import transaction
from server.topics.services import append
with transaction.atomic():
    for _ in range({events}):
        append("study:{study}", kind="series.added", payload={{"series": "x" * {size}}})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server of its own and no worker."""
    with Stack(tmp_path_factory.mktemp("sockets") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def doctor(server: Stack) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@asynccontextmanager
async def signed_in(server: Stack, doctor: httpx.Client, **options: Any) -> AsyncIterator[ClientConnection]:
    """A socket that came by a ticket, as an embedded viewer's."""
    url = server.url.replace("http", "ws") + "/ws/segmentation/"
    ticket = (await asyncio.to_thread(doctor.post, "/api/ws-ticket/")).raise_for_status().json()["ticket"]
    async with connect(url, compression=None, max_size=None, close_timeout=1, **options) as socket:
        await socket.send(json.dumps({"t": "auth", "ticket": ticket}))
        yield socket


async def is_served(socket: ClientConnection) -> bool:
    """Whether a ping is answered; a socket that was silent for a while is asked itself first."""
    await socket.send('{"t":"ping"}')
    answer = json.loads(await socket.recv())
    while answer["t"] == "ping":
        answer = json.loads(await socket.recv())
    return bool(answer["t"] == "pong")


async def ends_by(socket: ClientConnection, frame: Any) -> None:
    """Send it, and wait for the end of the socket."""
    await socket.send(frame, text=isinstance(frame, str) or len(frame) < MIB)
    while True:
        await socket.recv()


@pytest.mark.parametrize(
    "frame",
    ["x" * 300 * 1024, "x" * 2 * MIB, b"\xff\xfe", b"\xc3\x28", b"x" * 2 * MIB],
    ids=["300 KiB", "2 MiB", "not UTF-8", "half a character", "2 MiB of bytes"],
)
async def test_what_the_transport_refuses_ends_that_socket_and_no_other(
    server: Stack, doctor: httpx.Client, frame: Any
):
    async with signed_in(server, doctor) as neighbour, signed_in(server, doctor) as socket:
        with pytest.raises(ConnectionClosed):
            await ends_by(socket, frame)

        assert await is_served(neighbour)


async def test_a_viewer_that_stops_reading_costs_the_server_little_memory(server: Stack, doctor: httpx.Client):
    """Fifty megabytes of events for one who takes none: without back-pressure all of it would lie in the server."""
    study = await asyncio.to_thread(server.manage, "shell", "--verbosity", "0", "-c", MAKE_STUDY)
    process = psutil.Process(server.processes["server"].pid)
    async with (
        signed_in(server, doctor) as neighbour,
        signed_in(server, doctor, max_queue=1, ping_interval=None) as slow,
    ):
        await slow.send(json.dumps({"t": "sub", "topic": f"study:{study}"}))
        assert json.loads(await slow.recv())["t"] == "sub.ok"
        before = process.memory_info().rss
        burst = BURST.format(study=study, events=EVENTS, size=EVENT_BYTES)
        await asyncio.to_thread(server.manage, "shell", "--verbosity", "0", "-c", burst)

        first = json.loads(await slow.recv())  # found by the position check: the burst came from another process
        for _ in range(20):
            assert await is_served(neighbour)
            await asyncio.sleep(0.1)
        grown = process.memory_info().rss - before
        told = [first["seq"]]
        while told[-1] < EVENTS:
            told.append(json.loads(await slow.recv())["seq"])

    assert grown < EVENTS * EVENT_BYTES / 2
    assert told == list(range(1, EVENTS + 1)), "and once it reads again, it has everything"
