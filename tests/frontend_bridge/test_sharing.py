"""Equal questions are read once, and no answer is older than its question."""

import asyncio

import pytest

from frontend_bridge.sharing import SharedReads


class Log:
    """Something that grows, and is read slowly."""

    def __init__(self) -> None:
        self.seq = 0
        self.reads = 0
        self.go_on = asyncio.Event()
        self.breaks = False

    async def read(self) -> int:
        self.reads += 1
        if self.breaks:
            raise ConnectionError
        seq = self.seq
        await self.go_on.wait()
        return seq


async def test_five_hundred_who_ask_at_once_share_two_reads():
    shared, log = SharedReads(), Log()

    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(shared.ask("topic", log.read)) for _ in range(500)]
        await asyncio.sleep(0)
        log.go_on.set()

    assert {task.result() for task in asking} == {0}
    assert log.reads == 2


async def test_who_asks_after_a_change_gets_it_though_somebody_reads_already():
    """That read began before the change, so its answer would hide it until the next position check."""
    shared, log = SharedReads(), Log()

    async with asyncio.TaskGroup() as tasks:
        early = tasks.create_task(shared.ask("topic", log.read))
        await asyncio.sleep(0)
        log.seq = 1
        late = tasks.create_task(shared.ask("topic", log.read))
        await asyncio.sleep(0)
        log.go_on.set()

    assert (early.result(), late.result()) == (0, 1)


async def test_a_failure_is_nobody_elses_answer():
    shared, log = SharedReads(), Log()
    log.breaks = True
    with pytest.raises(ConnectionError):
        await shared.ask("topic", log.read)
    log.breaks = False
    log.go_on.set()

    assert await shared.ask("topic", log.read) == 0


async def test_different_questions_do_not_wait_for_each_other():
    shared, slow, quick = SharedReads(), Log(), Log()
    quick.go_on.set()

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(shared.ask("slow", slow.read))
        answer = await shared.ask("quick", quick.read)
        is_waiting = not waiting.done()
        slow.go_on.set()

    assert (answer, is_waiting) == (0, True)
