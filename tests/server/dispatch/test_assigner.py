"""Who gets which row, and what the waiting are told."""

from datetime import timedelta

import pytest
from django.utils import timezone

from server.core.events import Started
from server.core.job import State
from server.dispatch import candidates, housekeeping, selectors, services, survey, wakeups
from server.dispatch.models import Worker, WorkerSession
from server.jobs.models import JobEvent
from tests.server.dispatch.scenes import QUIET, a_job, a_worker, leased, one_round, overdue, reread, running, session_of

pytestmark = pytest.mark.django_db


def test_a_queued_job_is_leased_to_a_worker_with_room_and_its_socket_is_to_be_poked():
    job, worker = a_job(), a_worker()

    found = one_round()

    row = reread(job)
    assert (row.state, row.fence, row.worker_id, row.worker_name) == ("leased", 1, worker.pk, "lab-1")
    assert row.run_model == {"name": "compact", "version": "1.0", "sha256": "a" * 64}
    assert found.pokes == ("channel.lab-1",)


def test_a_worker_gets_no_second_offer_before_it_answered_the_first():
    first, second, worker = a_job(uid="1"), a_job(uid="2"), a_worker()

    one_round()
    one_round()

    assert (reread(first).state, reread(second).state) == ("leased", "queued")
    assert reread(second).waiting_reason == "all_busy"
    assert session_of(worker).credits == 1


def test_taking_an_offer_uses_a_credit_until_the_worker_says_otherwise():
    job, worker = a_job(), a_worker(credits=2)
    hold = leased(job, worker)
    event = Started(at=timezone.now(), fence=hold.fence, worker_id=worker.pk)

    services.accept(job.pk, event, session=session_of(worker).session)

    assert session_of(worker).credits == 1
    assert session_of(worker).warm_sha256 == "a" * 64
    assert [one.seen.free for one in candidates.present(timezone.now())] == [1]


@pytest.mark.parametrize("state", [Worker.State.SUSPENDED, Worker.State.PENDING, Worker.State.REVOKED])
def test_only_an_active_worker_is_asked(state):
    job, worker = a_job(), a_worker()
    Worker.objects.filter(pk=worker.pk).update(state=state)

    one_round()

    assert (reread(job).state, reread(job).waiting_reason) == ("queued", "no_worker")


def test_a_worker_whose_session_ran_out_is_not_asked():
    job = a_job()
    a_worker()
    WorkerSession.objects.update(lease_until=timezone.now())

    one_round()

    assert reread(job).state == "queued"


def test_a_route_is_served_by_its_own_workers():
    lab, server = a_job(uid="1"), a_job(uid="2", use_local=False)
    a_worker("own", route="server", credits=5)

    found = one_round()

    assert (reread(lab).state, reread(server).state) == ("queued", "leased")
    assert found.wants_server


def test_a_job_for_the_servers_own_worker_calls_for_it():
    a_job(use_local=False)

    assert one_round().wants_server
    assert not one_round().pokes


def test_a_waiting_job_says_why_and_says_it_once():
    job = a_job(model="huge")

    one_round()
    a_worker()
    one_round()
    one_round()

    said = JobEvent.objects.filter(job=job).values_list("kind", "payload__waiting_reason")
    assert list(said) == [("queued", "no_worker"), ("waiting", "model_missing")]


def test_the_waiting_learn_their_places():
    first, second = a_job(uid="1"), a_job(uid="2")

    assert survey.look_around().places == {first.pk: (1, None), second.pk: (2, None)}


def test_a_draining_worker_is_not_asked():
    job, worker = a_job(), a_worker()
    services.note_ready(worker.pk, session_of(worker).session, credits=1, pulse=QUIET, is_draining=True)

    one_round()

    assert reread(job).state == "queued"


def test_a_job_that_meets_a_free_worker_is_leased_by_the_commit_that_queues_it():
    worker = a_worker()

    job = a_job()

    assert (job.state, job.worker_id, job.fence) == ("leased", worker.pk, 1)
    said = JobEvent.objects.filter(job=job).values_list("kind", "payload__state", "payload__waiting_reason")
    assert list(said) == [("queued", "queued", None), ("leased", "leased", None)]


def test_nobody_jumps_the_queue():
    waiting = a_job(uid="1")
    a_worker()

    late = a_job(uid="2")

    assert (reread(waiting).state, late.state) == ("queued", "queued")
    one_round()
    assert (reread(waiting).state, reread(late).state) == ("leased", "queued")


def test_the_socket_is_poked_once_the_lease_is_committed(monkeypatch, django_capture_on_commit_callbacks):
    pokes = []
    monkeypatch.setattr(wakeups, "aside", lambda send, channel, message: pokes.append((channel, message["type"])))
    a_worker()

    with django_capture_on_commit_callbacks(execute=True):
        a_job()

    assert pokes == [("channel.lab-1", "worker.offers")]


def test_an_unanswered_offer_goes_to_somebody_else():
    job, silent = a_job(), a_worker("silent")
    leased(job, silent)
    overdue(job)

    housekeeping.expire()
    other = a_worker("other")
    one_round()

    assert (reread(job).worker_id, reread(job).fence, reread(job).attempt) == (other.pk, 2, 0)


def test_a_lone_worker_gets_a_job_again_that_it_failed():
    job, worker = a_job(), a_worker()
    running(job, worker)
    overdue(job)

    housekeeping.expire()
    one_round()

    assert (reread(job).state, reread(job).worker_id, reread(job).fence) == ("leased", worker.pk, 2)


def test_a_lease_that_lasts_is_left_alone():
    job, worker = a_job(), a_worker()
    running(job, worker)

    housekeeping.expire()

    assert reread(job).state == State.RUNNING


def test_a_starting_server_gives_leases_time_and_closes_what_a_dead_one_left_open():
    job, worker = a_job(), a_worker()
    running(job, worker)
    overdue(job, seconds=100)

    housekeeping.on_start(node="another", is_alone=True)

    assert reread(job).lease_until > timezone.now() + timedelta(seconds=9)
    assert session_of(worker).closed_at is not None


def test_a_session_that_nobody_renewed_is_closed():
    worker = a_worker()
    WorkerSession.objects.update(lease_until=timezone.now())

    housekeeping.expire()

    assert session_of(worker).closed_at is not None


def test_the_table_of_workers_shows_who_does_what():
    job, worker = a_job(), a_worker()
    running(job, worker)
    gone = Worker.objects.create(name="gone", public_key="x", state=Worker.State.REVOKED)

    (line,) = selectors.worker_snapshots()

    assert (line["id"], line["name"], line["connected"], line["slots"]) == (worker.pk, "lab-1", True, 1)
    assert line["jobs"] == [{"job": job.pk, "stage": None, "progress": 0.0}]
    assert line["models"] == ["compact 1.0"]
    assert gone.pk not in str(line)
    assert selectors.connected_workers() == {"lab": 1, "server": 0}
