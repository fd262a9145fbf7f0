"""Thousands of histories of one viewer over a layer that loses, doubles, delays and invents pokes (I3)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from frontend_bridge.ports import Rhythm
from tests.frontend_bridge.fakes import JOB, FakeLibrary, Socket
from tests.frontend_bridge.viewers import Viewer

STEP = st.one_of(
    st.tuples(st.just("change"), st.integers(1, 7)),
    st.tuples(st.just("poke"), st.integers(0, 60)),
    st.tuples(st.just("serve"), st.just(0)),
    st.tuples(st.just("time"), st.sampled_from([1, 9, 301, 601])),
    st.tuples(st.just("stall"), st.just(0)),
    st.tuples(st.just("read"), st.just(0)),
    st.tuples(st.just("drop"), st.just(0)),
    st.tuples(st.just("restore"), st.just(0)),
    st.tuples(st.just("trim"), st.integers(0, 3)),
    st.tuples(st.just("layer"), st.booleans()),
)
RHYTHM = Rhythm(page=3, replay=12)


class World:
    """One job's log, one viewer, and the connection it has at the moment."""

    def __init__(self) -> None:
        self.library = FakeLibrary()
        self.viewer = Viewer(JOB)
        self.lives = 1

    async def connects(self) -> None:
        self.socket = await Socket(self.library, rhythm=RHYTHM).__aenter__()
        self.socket.conversation.take_frame(json.dumps(self.viewer.asks()))
        await self.serves()

    async def drops(self) -> None:
        """What was on its way is lost with the connection."""
        await self.socket.__aexit__()
        self.socket.wire.got.clear()

    async def serves(self) -> None:
        for frame in await self.socket.served():
            if isinstance(frame, dict):
                self.viewer.hears(frame)

    async def does(self, step: str, value: Any) -> None:
        await getattr(self, f"_{step}")(value)

    async def _change(self, count: int) -> None:
        for _ in range(count):
            self.library.add(epoch=self.library.epoch, progress=len(self.library.log) / 1000)

    async def _poke(self, seq: int) -> None:
        self.socket.conversation.take_poke(JOB, seq)

    async def _serve(self, _: int) -> None:
        await self.serves()

    async def _time(self, seconds: int) -> None:
        self.socket.clock.now += seconds
        self.socket.conversation.take_poke("nobody", 0)
        await self.serves()

    async def _stall(self, _: int) -> None:
        self.socket.wire.takes.clear()

    async def _read(self, _: int) -> None:
        self.socket.wire.takes.set()
        await self.serves()

    async def _drop(self, _: int) -> None:
        await self.drops()
        await self.connects()

    async def _restore(self, _: int) -> None:
        """From a backup: another epoch, fewer events."""
        self.lives += 1
        self.library.epoch = f"e{self.lives}"
        del self.library.log[max(1, len(self.library.log) // 2) :]

    async def _trim(self, kept: int) -> None:
        self.library.trimmed = max(self.library.trimmed, len(self.library.log) - kept)

    async def _layer(self, is_away: bool) -> None:
        self.socket.wire.is_layer_away = is_away

    async def heals(self) -> None:
        """No more faults; two position checks later nothing may be missing."""
        self.socket.wire.is_layer_away = False
        self.socket.wire.takes.set()
        await self.serves()
        for _ in range(2):
            await self._time(9)
        for _ in range(20):
            await self.serves()


async def live(steps: list[tuple[str, Any]]) -> World:
    world = World()
    await world.connects()
    for step, value in steps:
        await world.does(step, value)
    await world.heals()
    await world.drops()
    return world


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_a_viewer_misses_nothing_sees_nothing_twice_and_ends_where_a_fresh_one_begins(steps):
    world = asyncio.run(live(steps))

    fresh = world.library.log[-1]
    assert (world.viewer.epoch, world.viewer.seq) == (world.library.epoch, len(world.library.log))
    assert len(set(world.viewer.told)) == len(world.viewer.told)
    assert world.viewer.snapshot is not None
    assert world.viewer.snapshot["progress"] == fresh["progress"]
