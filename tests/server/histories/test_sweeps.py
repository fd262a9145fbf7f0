"""One fault at every place where it can strike: each message, each commit, each stage of a job."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from server.dispatch.enrolment import set_state
from server.dispatch.models import Worker
from server.dispatch.reports import Reports
from server.jobs.models import Job
from tests.server.histories.cloud import Moment
from tests.server.histories.conftest import Stage
from tests.server.histories.world import World
from tests.system.faults.checker import Verdict
from worker_client.protocol import messages as m

MESSAGES = 24
"""More than there are frames in a job's life here, sign-in and one heartbeat included."""
IS_WHOLE = "HISTORIES" in os.environ
"""`make histories` looks at every place; every test run at each third one, beginning elsewhere for each fault."""

Fault = Callable[[World], None]
_turns = count()


class Script:
    """A job's life in the smallest steps, and a fault before one of them."""

    def __init__(self, world: World, *, strikes_at: int, fault: Fault) -> None:
        self.world = world
        self.strikes_at = strikes_at
        self.fault = fault
        self.steps = 0

    def play(self) -> Verdict:
        """Click, sign in, compute, upload, deliver; then heal."""
        world = self.world
        world.click(0)
        world.connect(0)
        self._deliver()
        world.look()
        self._deliver()
        world.pass_time(6.0, is_flowing=False)
        self._deliver()
        world.finish(0)
        self._deliver()
        world.upload(0)
        self._deliver()
        world.heal()
        return world.verdict()

    def _deliver(self) -> None:
        """Frame by frame, until nothing is under way."""
        world = self.world
        while (wire := world.labs[0].wire) is not None and (wire.to_worker or wire.to_server):
            before = len(wire.to_worker) + len(wire.to_server)
            self._step(lambda wire=wire: world.to_server(0) if wire.to_server else world.to_worker(0))
            if not world.cloud.is_up:
                world.flow(0)
                return
            if before == 0:
                return

    def _step(self, go_on: Callable[[], None]) -> None:
        self.steps += 1
        if self.steps == self.strikes_at:
            self.fault(self.world)
        go_on()


def _swept(stage: Stage, places: int, fault: Fault) -> list[tuple[int, Verdict, int]]:
    """The verdict for each place at which the fault may strike, with the attempts that the job took."""
    found = []
    first = 1 if IS_WHOLE else 1 + next(_turns) % 3
    for place in range(first, places + 1, 1 if IS_WHOLE else 3):
        world = stage.new_world()
        try:
            verdict = Script(world, strikes_at=place, fault=fault).play()
            found.append((place, verdict, Job.objects.get().attempt))
        finally:
            world.close()
    return found


def _bad(found: list[tuple[int, Verdict, int]]) -> list[object]:
    return [(place, verdict.violations) for place, verdict, _ in found if not verdict.is_clean]


CUTS: dict[str, Fault] = {
    "both sides see it": lambda world: world.cut(0, server_knows=True, worker_knows=True),
    "the server does not": lambda world: world.cut(0, server_knows=False, worker_knows=True),
    "the worker does not": lambda world: world.cut(0, server_knows=True, worker_knows=False),
    "neither does": lambda world: world.cut(0, server_knows=False, worker_knows=False),
}


@pytest.mark.parametrize("fault", CUTS.values(), ids=CUTS)
def test_a_cut_at_any_message_loses_nothing(stage: Stage, fault: Fault) -> None:
    assert _bad(_swept(stage, MESSAGES, fault)) == []


def test_a_cut_that_both_sides_see_costs_no_attempt(stage: Stage) -> None:
    found = _swept(stage, MESSAGES, CUTS["both sides see it"])

    assert {attempt for _, _, attempt in found} == {1}


def test_a_worker_that_dies_at_any_message_loses_nothing(stage: Stage) -> None:
    assert _bad(_swept(stage, MESSAGES, lambda world: world.crash_worker(0))) == []


@pytest.mark.parametrize("is_up", [True, False], ids=["to the server", "to the worker"])
@pytest.mark.parametrize("what", [World.lose_frame, World.double_frame, World.swap_frames])
def test_frames_lost_doubled_or_out_of_order_at_any_place_change_nothing(
    stage: Stage, what: Callable[..., None], is_up: bool
) -> None:
    assert _bad(_swept(stage, MESSAGES, lambda world: what(world, 0, is_up=is_up))) == []


def test_a_cancel_at_any_message_ends_the_job_one_way(stage: Stage) -> None:
    assert _bad(_swept(stage, MESSAGES, lambda world: world.cancel(0))) == []


def test_a_worker_revoked_at_any_message_loses_the_job_to_another(stage: Stage) -> None:
    def revoke(world: World) -> None:
        set_state(Worker.objects.get(pk=world.labs[0].worker_id), Worker.State.REVOKED)
        world.labs[0].is_out = True
        world.connect(1)

    assert _bad(_swept(stage, MESSAGES, revoke)) == []


@pytest.mark.parametrize("moment", ["before", "after", "fail"])
def test_a_server_that_dies_or_fails_at_any_call_loses_nothing(stage: Stage, moment: Moment) -> None:
    """Between UPDATE and COMMIT, between COMMIT and acknowledgement: a duplicate is answered, and told to nobody."""
    bad = [
        (calls, _bad(_swept(stage, MESSAGES, lambda world, calls=calls: world.arm(calls, moment))))
        for calls in (range(4) if IS_WHOLE else range(0, 4, 3))
    ]

    assert [one for one in bad if one[1]] == []


def _sooner_or_later(stage: Stage) -> Verdict | None:
    """The first verdict that is not clean when the server dies in the middle of serving a late message."""
    for place in range(MESSAGES, 4, -1):
        for calls in range(4):
            world = stage.new_world()
            try:
                verdict = Script(world, strikes_at=place, fault=lambda w, calls=calls: w.arm(calls, "before")).play()
            finally:
                world.close()
            if not verdict.is_clean:
                return verdict
    return None


def test_an_acknowledgement_before_the_commit_would_be_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule taken away: the worker hears `ok` first, and then the result is stored."""
    settle = Reports._settle

    async def settle_late(self: Reports, message: Any) -> None:
        await self.line.say(m.ResultOk(job=message.job, fence=message.fence, result_id=message.result_id))
        await settle(self, message)

    monkeypatch.setattr(Reports, "_settle", settle_late)

    found = _sooner_or_later(stage)

    assert found is not None
    assert found.count("lost") == 1
