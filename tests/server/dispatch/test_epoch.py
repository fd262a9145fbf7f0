"""A backup was restored: what was given out since then is given out again, and must not be taken for the same."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from server.core.reconcile import Hold, Ruling
from server.dispatch import sessions, translate
from server.jobs import selectors as jobs
from server.jobs.epoch import current_epoch
from server.topics import selectors as topics
from server.topics import services
from tests.server.dispatch.fakes import Machine
from tests.server.dispatch.scenes import a_job, a_worker, leased, reread
from worker_client.protocol import messages as m

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forgotten():
    """Every test reads the epoch of its own database."""
    current_epoch.cache_clear()
    yield
    current_epoch.cache_clear()


def new_epoch(*options: str) -> str:
    out = StringIO()
    call_command("new_epoch", *options, stdout=out)
    return out.getvalue().strip()


def test_the_command_prints_the_new_name_alone() -> None:
    before = current_epoch()

    printed = new_epoch()

    assert printed == current_epoch() != before


def test_viewers_of_jobs_and_of_topics_are_told_to_load_anew() -> None:
    job = a_job()
    services.append("workers", kind="worker.connected", payload={})
    before = jobs.position_and_snapshot(job.pk), topics.position("workers")

    new_epoch()
    after = jobs.position_and_snapshot(job.pk), topics.position("workers")

    assert (before[0][0], before[1][0]) != (after[0][0], after[1][0])
    assert before[0][0] != after[0][0]
    assert before[1][0] != after[1][0]
    assert (before[0][1], before[1][1]) == (after[0][1], after[1][1])


def test_a_result_of_the_old_life_is_not_asked_for_though_its_fence_was_given_out_again() -> None:
    worker, job = Machine().enrolled(), a_job()
    hold = leased(job, worker)
    old = current_epoch()
    kept = m.Kept(job=job.pk, fence=hold.fence, kind="result", epoch=old)
    new_epoch()

    hello = m.Hello(
        worker_id=worker.pk,
        boot_id="boot-2",
        sig="",
        slots=1,
        epoch=old,
        outbox=(kept,),
        software=m.Software(version="0.1.0", python="3.11"),
        caps=m.Capabilities(device="cpu"),
    )
    arrival = translate.to_arrival(hello, epoch=current_epoch())
    seat = sessions.take_seat(arrival, node="node", channel_name="channel")

    assert seat.verdicts == ((Hold(job.pk, hold.fence), Ruling.REVOKE),)
    assert reread(job).state == "queued"


def test_it_is_refused_while_a_worker_is_connected_unless_one_insists() -> None:
    a_worker()
    before = current_epoch()

    with pytest.raises(CommandError, match="Stop every server"):
        new_epoch()

    assert current_epoch() == before
    assert new_epoch("--force") != before
