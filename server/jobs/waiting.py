"""Waiting for a change of a job without asking the database over and over.

The group is joined before the job is read, so a change in between is noticed; a slow look now and then covers a
poke that was lost.

Flow: 9 browser
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from channels.layers import get_channel_layer

from server.jobs.outbox import topic_of
from server.topics.pokes import group_of

LOOK_AGAIN_SECONDS = 5.0

T = TypeVar("T")
Poked = Callable[[float], Awaitable[None]]


async def wait_for(job_id: str, look: Callable[[], Awaitable[T | None]], *, seconds: float) -> T | None:
    """What `look` finds, at once or after a change within `seconds`; None when the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    async with _listening(job_id) as poked:
        while True:
            found = await look()
            left = deadline - loop.time()
            if found is not None or left <= 0:
                return found
            await poked(min(left, LOOK_AGAIN_SECONDS))


@asynccontextmanager
async def _listening(job_id: str) -> AsyncIterator[Poked]:
    layer: Any = get_channel_layer()
    channel, group = await layer.new_channel("waiting"), group_of(topic_of(job_id))
    await layer.group_add(group, channel)

    async def poked(seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while (await layer.receive(channel))["type"] != "topic.poke":
                    pass
        except TimeoutError:
            return

    try:
        yield poked
    finally:
        await layer.group_discard(group, channel)
