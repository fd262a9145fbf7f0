"""A whole worker against a server that a test plays: everything real but the analysis and the other end."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.worker_client.builders import KEY, an_input, an_offer, profile
from tests.worker_client.data_plane import DataPlane
from tests.worker_client.fakes import Caller, FakeBox, FakeServer, fake_server
from worker_client.agent import Agent
from worker_client.answers import Key
from worker_client.cache import Cache
from worker_client.home import Home
from worker_client.link import Link, Route
from worker_client.outbox import Outbox
from worker_client.profile import Load
from worker_client.protocol import messages as wire
from worker_client.runner import Runner
from worker_client.session import Session
from worker_client.transfer import Transfer

ROLES = ("T1", "T1CE", "T2", "FLAIR")


def scans() -> dict[str, bytes]:
    return {f"artifact-{role}": role.encode() * 50 for role in ROLES}


def full_offer(key: Key = KEY, **changes: object) -> wire.JobOffer:
    inputs = tuple(
        an_input(role, sha256=hashlib.sha256(scan).hexdigest(), size=len(scan))
        for role, scan in zip(ROLES, scans().values(), strict=True)
    )
    return an_offer(key, inputs=inputs, **changes)


@dataclass
class Lab:
    """A worker at work, and the ends of it that a test can hold."""

    agent: Agent
    server: FakeServer
    plane: DataPlane
    box: FakeBox
    home: Path
    running: asyncio.Task[None]

    async def caller(self) -> Caller:
        """The worker's connection, signed in, and asking for work."""
        caller = await self.server.caller()
        await caller.welcome()
        await caller.hear_open()
        return caller


@asynccontextmanager
async def a_lab(home: Path, *, box: FakeBox | None = None, plane: DataPlane | None = None, drain_seconds: float = 5.0):
    """Start a worker against a server that a test plays; end it whatever happened."""
    box, plane = box or FakeBox(), plane or DataPlane(artifacts=scans())
    for folder in ("cache", "work", "outbox"):
        (home / folder).mkdir(exist_ok=True)
    async with fake_server() as server, httpx.AsyncClient(transport=httpx.MockTransport(plane)) as client:
        agent = make_agent(home, server=server, client=client, box=box, drain_seconds=drain_seconds)
        running = asyncio.create_task(agent.run())
        try:
            async with asyncio.timeout(10):
                yield Lab(agent, server, plane, box, home, running)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def make_agent(
    home: Path, *, server: FakeServer, client: httpx.AsyncClient, box: FakeBox, drain_seconds: float
) -> Agent:
    async def no_pause(seconds: float) -> None:
        await asyncio.sleep(0)

    cache = Cache(home / "cache", cap_bytes=1 << 20)
    transfer = Transfer(client, server="http://server.localhost", cache=cache, wait=no_pause)
    outbox = Outbox(home / "outbox")
    runner = Runner((box,), transfer=transfer, cache=cache, work=home / "work", new_id=lambda: "result-1")
    return Agent(
        session=Session(profile(), answers=outbox.open(), is_warm=False),
        link=Link(Route(server.url, uses_proxy=False), luck=lambda: 0.0),
        runner=runner,
        transfer=transfer,
        home=Home(home),
        measure=lambda: Load(share=0.25),
        drain_seconds=drain_seconds,
    )


def held(home: Path) -> list[str]:
    return sorted(entry.name for entry in (home / "outbox").iterdir() if not entry.name.startswith("."))


async def wait_until_gone(home: Path) -> None:
    while await asyncio.to_thread(lambda: any((home / "outbox").iterdir())):  # noqa: ASYNC110  # the disk wakes nobody
        await asyncio.sleep(0.002)
