"""Rows of the fault catalogue that are about rules and time, on the real services and a fake clock."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Max

from server.jobs.models import Job, JobEvent
from tests.server.dispatch.fakes import Machine
from tests.server.histories.conftest import Stage
from tests.server.histories.lab import Lab
from tests.server.histories.world import World

QUEUED = 24
STORM = 24


def at_work(world: World, number: int = 0) -> Lab:
    """A worker that is connected and asks for work."""
    world.come_back(number)
    return world.labs[number]


def wait(world: World, *, seconds: float) -> None:
    """Time passes, and everything flows."""
    world.pass_time(seconds, is_flowing=True)


def test_an_input_that_kills_every_worker_fails_after_three_attempts_and_others_proceed(stage: Stage) -> None:
    world = stage.new_world()
    world.click(0)
    world.click(1)
    poison, fine = world.accepted
    for number in (0, 1):
        at_work(world, number)
    for _ in range(40):
        for number, lab in enumerate(world.labs):
            killers = [key for key in lab.computing if key.job == poison]
            for key in killers:
                lab.child_dies(key)
            if lab.computing:
                world.finish(number)
                world.upload(number)
            world.upload(number)
        wait(world, seconds=2.0)
    jobs = {row.pk: row for row in Job.objects.all()}
    verdict = world.verdict()
    world.close()

    assert (jobs[poison].state, jobs[poison].attempt, jobs[poison].error_code) == ("failed", 3, "attempts_exhausted")
    assert len(jobs[poison].causes) == 3
    assert jobs[fine].state == "succeeded"
    assert verdict.violations == ()


def test_a_queue_that_waited_for_its_only_worker_is_served_in_order(stage: Stage) -> None:
    """All workers are gone, the queue grows, one comes back: first come, first served, and nobody starves."""
    world = stage.new_world()
    world.click(0)
    first, event = Job.objects.get(), JobEvent.objects.get()
    for number in range(1, QUEUED):
        first.pk, first.dedupe_key = f"job-{number:03d}", f"another-{number}"
        first.created_at += timedelta(seconds=1)
        first.save(force_insert=True)
        JobEvent.objects.create(job=first, seq=1, kind=event.kind, payload=event.payload)
    at_work(world)
    served: list[str] = []
    for _ in range(QUEUED + 3):
        wait(world, seconds=2.0)
        served += [key.job for key in world.labs[0].computing]
        world.finish(0)
        world.flow(0)
        world.upload(0)
        world.flow(0)
    states = set(Job.objects.values_list("state", flat=True))
    in_order = list(Job.objects.order_by("created_at", "pk").values_list("pk", flat=True))
    world.close()

    assert states == {"succeeded"}
    assert served == in_order


def test_a_clock_that_is_set_by_an_hour_takes_no_lease_away(stage: Stage) -> None:
    for hours in (-1, 1):
        world = stage.new_world()
        world.click(0)
        at_work(world)
        wait(world, seconds=6.0)
        world.set_clock(3600.0 * hours)
        wait(world, seconds=12.0)
        row = Job.objects.get()
        world.heal()
        verdict = world.verdict()
        world.close()

        assert (row.state, row.fence) == ("running", 1)
        assert verdict.violations == ()


def test_a_storm_of_workers_that_come_back_at_once_loses_nothing(stage: Stage) -> None:
    """A server dies under many workers; all of them are there again after one look, with one session each."""
    stage.machines, machines = [Machine() for _ in range(STORM)], stage.machines
    world = stage.new_world()
    stage.machines = machines
    world.click(0)
    for number in range(STORM):
        at_work(world, number)
    world.look()
    world.crash_server()
    for number in range(STORM):
        world.flow(number)
    world.start_server()
    for number in range(STORM):
        at_work(world, number)
    sessions = [lab.session.is_signed_in for lab in world.labs]
    world.heal()
    fences = Job.objects.aggregate(most=Max("fence"))
    verdict = world.verdict()
    world.close()

    assert sessions == [True] * STORM
    assert fences == {"most": 1}
    assert verdict.violations == ()
