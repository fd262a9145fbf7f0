"""Waiting for a job is being woken, not asking again and again."""

import asyncio

from server.jobs.outbox import topic_of
from server.jobs.waiting import wait_for
from server.topics import pokes


async def test_what_is_there_already_is_answered_at_once():
    async def look() -> str:
        return "there"

    assert await wait_for("job", look, seconds=30.0) == "there"


async def test_a_poke_makes_it_look_again():
    seen = []
    looked = asyncio.Event()

    async def look() -> str | None:
        looked.set()
        return seen[0] if seen else None

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(wait_for("job", look, seconds=30.0))
        await looked.wait()
        seen.append("ended")
        await pokes.anews(topic_of("job"), kind="progress", body={})
        await pokes.apoke(topic_of("job"), seq=2)

    assert waiting.result() == "ended"


async def test_the_time_being_over_is_no_answer():
    async def look() -> None:
        return None

    assert await wait_for("job", look, seconds=0.0) is None
