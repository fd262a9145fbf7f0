"""Random histories of the real sessions, services and rules, in memory and on a fake clock, judged by the checker.

A history is sixty steps: clicks, cancels, frames that arrive, are lost, doubled or overtake each other, connections
that one side only believes in, crashes of either side before or after any commit, failing calls, full disks, lost
pokes. Then everything is healed, and whatever was accepted has to end. HISTORIES=n looks at more of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from server.core import machine
from server.core.reconcile import Hold, Ruling, Settled
from server.dispatch import deliveries, housekeeping, sessions
from server.dispatch.deliveries import Outcome
from server.imaging.models import Upload
from server.jobs.models import Job
from tests.server.histories.conftest import Stage
from tests.server.histories.lab import Lab
from tests.server.histories.steps import wander
from tests.system.faults.checker import Verdict

HISTORIES = int(os.environ.get("HISTORIES", "30"))
STEPS = 60
ENOUGH = 80
"""A rule that is missing shows in far fewer histories than this."""


def lived(stage: Stage, seed: int, *, favours: Collection[str] = ()) -> Verdict:
    """One history and what it came to."""
    world = stage.new_world()
    random.seed(seed)  # the product draws its pauses from there
    try:
        wander(world, random.Random(seed), steps=STEPS, favours=favours)
        world.heal()
        return world.verdict()
    finally:
        world.close()


def test_whatever_happens_in_between_nothing_is_lost_doubled_or_stale(stage: Stage) -> None:
    for seed in range(HISTORIES):
        verdict = lived(stage, seed)

        assert verdict.is_clean, f"history {seed}: {verdict.violations[:5]}"


def test_the_histories_are_worth_something(stage: Stage) -> None:
    """Results, failures, cancels, second attempts and faults all happen in them."""
    verdicts, states, fences = [], set(), set()
    for seed in range(8):
        world = stage.new_world()
        wander(world, random.Random(seed), steps=STEPS)
        world.heal()
        verdicts.append(world.verdict())
        states |= set(Job.objects.values_list("state", flat=True))
        fences |= set(Job.objects.values_list("fence", flat=True))
        world.close()

    assert sum(verdict.jobs for verdict in verdicts) > 8
    assert sum(verdict.faults for verdict in verdicts) > 24
    assert states >= {"succeeded", "cancelled"}
    assert fences >= {1, 2}


# ── what happens when a rule is missing ─────────────────────────────────────────────────────────────────────────


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    """Whoever speaks of a job is believed."""
    settle = deliveries.settle

    def settle_for_anybody(delivery: Any) -> Outcome:
        row = Job.objects.get(pk=delivery.hold.job_id)
        Upload.objects.filter(pk=delivery.artifact_id).update(fence=row.fence)
        return settle(replace(delivery, worker_id=row.worker_id, hold=Hold(row.pk, row.fence)))

    patch.setattr(machine, "_is_of_newest_fence", lambda job, event: True)
    patch.setattr(deliveries, "settle", settle_for_anybody)
    patch.setattr("server.dispatch.dataplane.open_attempt", lambda claim: Job.objects.get(pk=claim.job))
    patch.setattr(sessions, "reconcile", _believed)


def _no_outbox(patch: pytest.MonkeyPatch) -> None:
    """A result is in the worker's memory only."""
    patch.setattr(Lab, "read_outbox", lambda self: self.outbox.clear() or ())


def _no_reconcile(patch: pytest.MonkeyPatch) -> None:
    """What a worker holds is not compared, and nothing ever runs out."""
    patch.setattr(sessions, "reconcile", _believed)
    patch.setattr(housekeeping, "expire", lambda: None)


def _leases_by_connection(patch: pytest.MonkeyPatch) -> None:
    """A heartbeat renews everything that the worker was ever given."""
    renew = sessions.jobs.renew

    def renew_all(*, worker_id: str, holds: Any, until: Any) -> set[str]:
        held = dict(Job.objects.filter(worker_id=worker_id).values_list("pk", "fence"))
        renew(worker_id=worker_id, holds=held, until=until)
        return set()

    idle = sessions.beat
    patch.setattr(sessions.jobs, "renew", renew_all)
    patch.setattr("server.dispatch.session.translate.to_holds", lambda held: (Hold("any", 1),))
    patch.setattr(sessions, "beat", lambda *args, **kwargs: _renewing(idle, renew_all, *args, **kwargs))


def _renewing(beat: Callable[..., Any], renew_all: Callable[..., Any], worker_id: str, *args: Any, **said: Any) -> Any:
    found = beat(worker_id, *args, **{**said, "holds": ()})
    until = sessions.jobs.now() + sessions.timedelta(seconds=sessions.settings.POLICY.lease_seconds)
    renew_all(worker_id=worker_id, holds={}, until=until)
    return found


def _believed(jobs: Any, *, running: Any, outbox: Any, **_: Any) -> Settled:
    verdicts = [(hold, Ruling.KEEP) for hold in running] + [(hold, Ruling.SEND_RESULT) for hold in outbox]
    return Settled(tuple(verdicts), ())


@pytest.mark.parametrize(
    ("remove", "kind", "favours"),
    [
        (_no_fence, "stale", ("go away",)),
        (_no_outbox, "lost", ("crash worker", "finish")),
        (_no_reconcile, "lost", ("cut", "crash worker")),
        (_leases_by_connection, "lost", ("forget silently", "finish")),
    ],
    ids=["fence", "outbox", "reconcile and expiry", "leases of jobs"],
)
def test_without_a_rule_the_histories_find_what_it_was_for(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    remove: Callable[[pytest.MonkeyPatch], None],
    kind: str,
    favours: tuple[str, ...],
) -> None:
    """The histories lean to the faults that the rule is for, so that few of them are needed."""
    remove(monkeypatch)

    found = next((seed for seed in range(ENOUGH) if lived(stage, seed, favours=favours).count(kind)), None)

    assert found is not None
