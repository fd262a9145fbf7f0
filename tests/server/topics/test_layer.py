"""The layer of several processes on a real Redis that restarts, freezes and goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from server.config import backends
from server.topics import layer as module
from server.topics.layer import LayerAway, RedisLayer
from tests.system.services import Redis, redis_server

SECONDS = 10.0
POKE = {"type": "topic.poke", "topic": "job:x", "seq": 1}

Process = Callable[[], RedisLayer]


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(shared_redis: Redis) -> Iterator[Redis]:
    """Answering, before and after the test."""
    yield shared_redis
    if shared_redis.process is None:
        shared_redis.start()


@pytest.fixture
async def process(redis: Redis) -> AsyncIterator[Process]:
    """Makes the layer of one more process, with the shipped settings."""
    async with AsyncExitStack() as stack:

        def make() -> RedisLayer:
            made = RedisLayer(**backends.layer(redis.url, key="k" * 50)["CONFIG"])
            stack.push_async_callback(made.flush)
            return made

        yield make


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.1)


async def arrives(layer: RedisLayer, channel: str) -> Any:
    async with asyncio.timeout(SECONDS):
        return await layer.receive(channel)


async def comes_through(sender: RedisLayer, layer: RedisLayer, channel: str) -> bool:
    """Whether a message gets from one process to another, sooner or later."""
    hearing = asyncio.create_task(arrives(layer, channel))
    while not hearing.done():
        with suppress(LayerAway):
            await sender.group_send("job.x", POKE)
        await asyncio.wait({hearing}, timeout=0.05)
    return bool(await hearing == POKE)


async def test_a_group_reaches_the_sockets_of_every_process(process: Process) -> None:
    here, there = process(), process()
    channels = [await here.new_channel(), await there.new_channel()]
    await here.group_add("job.x", channels[0])
    await there.group_add("job.x", channels[1])

    await here.group_send("job.x", POKE)

    assert await arrives(here, channels[0]) == await arrives(there, channels[1]) == POKE


async def test_who_has_left_a_group_hears_no_more_of_it(process: Process) -> None:
    here, there = process(), process()
    channel = await there.new_channel()
    await there.group_add("job.x", channel)
    await there.group_discard("job.x", channel)

    await here.group_send("job.x", POKE)
    await here.send(channel, {"type": "worker.poke"})

    assert await arrives(there, channel) == {"type": "worker.poke"}


async def test_subscriptions_outlive_a_restart_of_redis(process: Process, redis: Redis) -> None:
    here, there = process(), process()
    channel = await there.new_channel()
    await there.group_add("job.x", channel)

    await asyncio.to_thread(redis.restart)

    assert await comes_through(here, there, channel)


async def test_a_socket_opens_while_redis_is_away_and_hears_once_it_is_back(process: Process, redis: Redis) -> None:
    """channels_redis raises here, so that nobody could connect until Redis is back."""
    here, there = process(), process()
    await asyncio.to_thread(redis.stop)

    channel = await there.new_channel()
    await there.group_add("job.x", channel)
    await asyncio.to_thread(redis.start)

    assert await comes_through(here, there, channel)


async def test_the_sockets_of_the_same_process_are_reached_without_redis(process: Process, redis: Redis) -> None:
    here = process()
    channel = await here.new_channel()
    await here.group_add("job.x", channel)
    await asyncio.to_thread(redis.stop)

    await here.send(channel, {"type": "worker.poke"})
    with pytest.raises(LayerAway):
        await here.group_send("job.x", POKE)

    assert [await arrives(here, channel), await arrives(here, channel)] == [{"type": "worker.poke"}, POKE]


async def test_a_frozen_redis_holds_up_one_message_and_not_those_behind_it(
    process: Process, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share a lock: fifty messages would wait fifty times, and the dispatcher with them."""
    monkeypatch.setattr(module, "PAUSE_SECONDS", 60.0)
    here = process()
    await here.ping()

    with redis.frozen():
        async with asyncio.timeout(SECONDS):
            lost = await asyncio.gather(*(here.group_send("job.x", POKE) for _ in range(50)), return_exceptions=True)

    assert {type(one) for one in lost} == {LayerAway}


async def test_redis_is_asked_again_after_a_freeze(process: Process, redis: Redis) -> None:
    here, there = process(), process()
    channel = await there.new_channel()
    await there.group_add("job.x", channel)

    with redis.frozen(), pytest.raises(LayerAway):
        await here.ping()

    assert await comes_through(here, there, channel)


async def test_forgetting_everything_costs_no_subscription(process: Process, redis: Redis) -> None:
    here, there = process(), process()
    channel = await there.new_channel()
    await there.group_add("job.x", channel)

    await asyncio.to_thread(redis.flush)

    assert await comes_through(here, there, channel)


async def test_a_connection_that_idles_longer_than_redis_clients_wait_lives(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With redis-py's own time-outs every idle consumer died after five seconds (channels_redis#422)."""
    monkeypatch.undo()
    here, there = process(), process()
    channel = await there.new_channel()
    hearing = asyncio.create_task(there.receive(channel))

    done, _ = await asyncio.wait({hearing}, timeout=12.0)
    await here.send(channel, POKE)

    assert not done
    async with asyncio.timeout(SECONDS):
        assert await hearing == POKE
