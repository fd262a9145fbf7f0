"""Six viewers over layers that lose, double, shuffle, forget and go away: none misses a step (I3)."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from frontend_bridge import reading
from frontend_bridge.consumers import SegmentationConsumer
from frontend_bridge.ports import Rhythm
from server.topics.services import append
from tests.frontend_bridge.sockets import PATH, in_thread
from tests.frontend_bridge.viewers import Viewer
from tests.server.shelf import a_study, a_user
from tests.system.services import Redis, redis_server

pytestmark = pytest.mark.django_db(transaction=True)

VIEWERS = 6
CHANGES = 40
SECONDS = 20.0
CONNECTIONS = 100
QUICK = Rhythm(position_seconds=0.2, group_seconds=600.0)


class Adversary(InMemoryChannelLayer):
    """Loses a third of what is sent to groups, doubles a fifth, and hands the rest over in any order. Seeded."""

    def __init__(self) -> None:
        super().__init__()
        self.luck = random.Random(20261122)
        self.held: list[tuple[str, dict[str, Any]]] = []
        self.lost = self.sent = 0

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.sent += 1
        if self.luck.random() < 0.3:
            self.lost += 1
            return
        self.held += [(group, message)] * (2 if self.luck.random() < 0.2 else 1)
        self.luck.shuffle(self.held)
        while len(self.held) > 3:
            await super().group_send(*self.held.pop())


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SWEEP_SECONDS", 0.1)


def redis_layer(kind: str, url: str, **options: Any) -> Any:
    from channels_redis.core import RedisChannelLayer
    from channels_redis.pubsub import RedisPubSubChannelLayer

    hosts = [{"address": url, "socket_timeout": 15}]
    return {"core": RedisChannelLayer, "pubsub": RedisPubSubChannelLayer}[kind](hosts=hosts, **options)


def socket_of(browser: Client) -> WebsocketCommunicator:
    """A signed-in socket that looks at its position five times a second."""
    socket = WebsocketCommunicator(SegmentationConsumer.as_asgi(rhythm=QUICK), PATH)
    socket.scope |= {"user": User.objects.get(), "session": browser.session, "client": ["10.0.0.1", 1]}
    return socket


async def watch(viewer: Viewer, browser: Client, *, until: int) -> None:
    """Follow to the change `until`, over as many connections as it takes."""
    for _ in range(CONNECTIONS):
        if viewer.seq >= until:
            return
        socket = await in_thread(socket_of)(browser)
        accepted, _ = await socket.connect(timeout=SECONDS)
        assert accepted
        await socket.send_to(text_data=json.dumps(viewer.asks()))
        while viewer.seq < until:
            output = await socket.receive_output(timeout=SECONDS)
            if output["type"] == "websocket.close":
                break
            viewer.hears(json.loads(output["text"]))
        else:
            await socket.disconnect()


async def follow_all(browser: Client, topic: str, *, beside: Any = None) -> list[Viewer]:
    """Every viewer follows while the log grows; `beside` happens in the middle."""
    viewers = [Viewer(topic) for _ in range(VIEWERS)]
    async with asyncio.TaskGroup() as tasks:
        for viewer in viewers:
            tasks.create_task(watch(viewer, browser, until=CHANGES))
        for change in range(CHANGES):
            await in_thread(append)(topic, kind="series.added", payload={"series": f"S{change}"})
            if beside is not None and change == CHANGES // 2:
                await beside()
    return viewers


def use(layer: Any) -> Any:
    """This layer for everybody in this test."""
    channel_layers.set("default", layer)
    return layer


@pytest.fixture(autouse=True)
async def _as_before() -> AsyncIterator[None]:
    before = channel_layers.backends.get("default")
    yield
    used = channel_layers.backends.get("default")
    if hasattr(used, "flush") and used is not before:
        await used.flush()
    if before is not None:
        channel_layers.set("default", before)
    else:
        channel_layers.backends.pop("default", None)


@pytest.fixture
def doctor() -> Client:
    """A doctor who is signed in."""
    browser = Client()
    browser.force_login(a_user("doctor"))
    return browser


@pytest.fixture
def topic(doctor: Client) -> str:
    return f"study:{a_study(User.objects.get()).pk}"


async def test_a_layer_that_loses_doubles_and_shuffles_hides_nothing(quick, doctor, topic):
    layer = use(Adversary())

    viewers = await follow_all(doctor, topic)

    assert layer.lost > CHANGES / 10
    assert [viewer.seq for viewer in viewers] == [CHANGES] * VIEWERS


@pytest.mark.parametrize(
    ("kind", "options"),
    [("core", {}), ("core", {"group_expiry": 1}), ("core", {"capacity": 1}), ("pubsub", {})],
    ids=["core", "core that forgets members", "core with room for one", "pubsub"],
)
async def test_on_redis_nothing_is_missed_either(quick, doctor, topic, redis, kind, options):
    use(redis_layer(kind, redis.url, **options))

    viewers = await follow_all(doctor, topic)

    assert [viewer.seq for viewer in viewers] == [CHANGES] * VIEWERS


@pytest.mark.parametrize("kind", ["core", "pubsub"])
async def test_a_redis_that_is_started_anew_hides_nothing(quick, doctor, topic, redis, kind):
    """The core layer loses every consumer of the process with it, so they part with a word and come back."""
    use(redis_layer(kind, redis.url))

    viewers = await follow_all(doctor, topic, beside=in_thread(redis.restart))

    assert [viewer.seq for viewer in viewers] == [CHANGES] * VIEWERS


async def test_a_redis_that_is_away_makes_changes_late_and_fails_nothing(quick, doctor, topic, redis):
    use(redis_layer("pubsub", redis.url))

    async def goes() -> None:
        await in_thread(redis.stop)()

    viewers = await follow_all(doctor, topic, beside=goes)
    await in_thread(redis.start)()

    assert [viewer.seq for viewer in viewers] == [CHANGES] * VIEWERS
