"""The product on a fake clock, with its threads, its channel layer and its mask prover replaced by values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone

from server.dispatch import beats, clock, deliveries, standing, wakeups
from server.dispatch.deliveries import Outcome
from server.imaging import results, tus
from server.jobs import services
from server.topics import pokes
from tests.server.dispatch.fakes import Machine
from tests.server.histories import cloud
from tests.server.histories.virtual import VirtualLoop
from tests.server.histories.world import World
from tests.server.shelf import a_study, a_user, four_series


class Stage:
    """Makes worlds, one after another."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.user = a_user("historian")
        self.series = four_series(a_study(self.user, uid="1.2.826.1"))
        self.machines = [Machine(), Machine()]
        self.world: World | None = None

    def new_world(self) -> World:
        """A world in which nothing has happened."""
        self.loop.set_by = 0.0
        self.world = World(self.loop, user=self.user, series=self.series, machines=self.machines, forget=_forget)
        return self.world

    async def send(self, channel_name: str, message: dict[str, Any]) -> None:
        """The channel layer of the present world."""
        if self.world is not None:
            await self.world.cloud.send(channel_name, message)


@pytest.fixture
def stage(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Everything replaced that waits, or that is not a rule."""
    loop = VirtualLoop()
    times = SimpleNamespace(monotonic=loop.monotonic, time=lambda: loop.wall().timestamp())
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    monkeypatch.setattr(timezone, "now", loop.wall)
    monkeypatch.setattr(services, "now", loop.wall)
    for name, value in (("in_thread", cloud.in_thread), ("aside", _aside(loop)), ("time", times)):
        _put(monkeypatch, name, value)
    made = Stage(loop)
    monkeypatch.setattr(wakeups, "send", made.send)
    monkeypatch.setattr(clock.pool, "mend", lambda: None)
    monkeypatch.setattr(pokes, "_send", _say_nothing)
    monkeypatch.setattr(deliveries, "_settle_holding_on", _settle_now)
    monkeypatch.setattr(results, "prove", _prove)
    monkeypatch.setattr(results, "discard", lambda proven: None)
    monkeypatch.setattr(tus, "terminate", lambda upload: upload.delete())
    yield made
    loop.close()


def _put(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """Replace a name wherever dispatch and its neighbours have imported it."""
    for module_name, module in list(sys.modules.items()):
        is_ours = module_name.startswith(("server.dispatch.", "server.topics.", "server.jobs."))
        if is_ours and name in vars(module) and module_name != "server.dispatch.threads":
            monkeypatch.setattr(module, name, value)


def _aside(loop: VirtualLoop) -> Callable[..., None]:
    def aside(send: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        loop.create_task(send(*args, **kwargs))

    return aside


def _forget() -> None:
    """A process that begins remembers nothing of the one before it."""
    standing.standings.__init__()  # type: ignore[misc]
    beats.gathering.__init__()  # type: ignore[misc]
    deliveries.deliveries.__init__()  # type: ignore[misc]
    wakeups.doors.__init__()  # type: ignore[misc]


async def _say_nothing(topic: str, message: dict[str, Any]) -> None:
    """Pages read the log themselves here."""


async def _settle_now(delivery: deliveries.Delivery) -> Outcome:
    outcome: Outcome = await cloud.in_thread(deliveries.settle, delivery)
    return outcome


def _prove(**said: Any) -> results.ProvenFiles:
    """Proven as it came: the digest is the uploaded file's, so that it shows whose it is."""
    sha256 = said["upload"].sha256
    return results.ProvenFiles(
        series_id=said["reference"].pk,
        folder=f"masks/{sha256[:16]}",
        has_seg=False,
        sha256=sha256,
        size=said["upload"].length,
        volumes_ml={"WT": 1.0, "TC": 1.0, "ET": 1.0},
    )
