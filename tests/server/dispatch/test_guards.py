"""What must not count: words of a session that is over, of a worker that was revoked; and pokes that never came."""

import pytest

from server.core.job import State
from server.dispatch import deliveries, enrolment, reception, reports, session, sessions, standing, wakeups
from server.dispatch.enrolment import set_state
from server.dispatch.models import Worker
from server.dispatch.sessions import SessionOver, WorkerRevoked
from server.jobs import services
from tests.server.dispatch.fakes import Machine, Talk
from tests.server.dispatch.scenes import a_job, a_worker, an_arrival, leased, overdue, reread, running, session_of
from tests.server.dispatch.talks import at_work, in_db, settled, taken
from worker_client.protocol import messages as m

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lost_pokes(monkeypatch):
    """The channel layer loses everything, and nobody waits long before looking for it."""

    async def lose(channel_name, message):
        return None

    monkeypatch.setattr(wakeups, "send", lose)
    monkeypatch.setattr(session, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.01)


async def test_a_revoked_worker_is_sent_away_when_every_poke_is_lost(machine, enrolled, lost_pokes):
    talk = await at_work(machine, enrolled)

    await in_db(set_state)(enrolled, Worker.State.REVOKED)

    assert (await talk.heard_bye()).code == 4510


async def test_an_offer_whose_poke_is_lost_is_made(machine, enrolled, lost_pokes):
    talk = await at_work(machine, enrolled)

    job = await in_db(a_job)()

    offer = await talk.hear()
    assert offer.job == job.pk
    await talk.hang_up()


async def test_a_cancel_whose_poke_is_lost_arrives(machine, enrolled, queued, lost_pokes):
    talk = await at_work(machine, enrolled)
    await in_db(leased)(queued, enrolled)
    offer = await talk.hear()
    await talk.say(m.JobAccept(job=offer.job, fence=offer.fence))
    await settled(talk)

    await in_db(services.cancel)(queued.pk)

    assert isinstance(await talk.hear(), m.JobCancel)
    await talk.hang_up()


async def test_a_superseded_session_goes_when_its_poke_is_lost(machine, enrolled, lost_pokes):
    old = await at_work(machine, enrolled)
    new = await Talk(machine).open()

    await new.sign_in(enrolled.pk)

    assert (await old.heard_bye()).code == 4409
    await new.hang_up()


async def test_draining_is_told_and_taken_back(machine, enrolled, lost_pokes):
    talk = await at_work(machine, enrolled)

    await in_db(enrolment.drain)(enrolled, seconds=60.0)
    begun = await talk.hear()
    await in_db(enrolment.undrain)(enrolled)
    ended = await talk.hear()

    assert (50.0 < begun.deadline <= 60.0, begun.is_over) == (True, False)
    assert (ended.deadline, ended.is_over) == (None, True)
    await talk.hang_up()


async def test_a_worker_that_talks_and_does_not_listen_is_too_slow(machine, enrolled, monkeypatch):
    monkeypatch.setattr(session, "SLOW_SECONDS", 0.1)
    monkeypatch.setattr(session, "LOOK_SECONDS", 0.05)
    talk = await Talk(machine).open()
    await talk.sign_in(enrolled.pk)

    while (heard := await talk.socket.receive_output(timeout=5))["type"] != "websocket.close":
        await talk.say(m.Error(code="nothing"))

    assert heard["code"] == 4413


async def test_a_worker_drains_itself_and_takes_that_back(machine, enrolled):
    talk = await at_work(machine, enrolled)
    found = []

    for wish in (m.Drain(deadline=60.0), m.Drain(is_over=True)):
        await talk.say(wish)
        await settled(talk)
        found.append((await in_db(session_of)(enrolled)).is_draining)

    assert found == [True, False]
    await talk.hang_up()


async def test_a_living_worker_keeps_its_place_when_the_probe_is_lost(machine, enrolled, monkeypatch, lost_pokes):
    """The rows show its heartbeats; without them a copied key could take over whenever the channel layer is away."""
    talk = await at_work(machine, enrolled)
    monkeypatch.setattr(reception, "PROBE_SECONDS", 1.0)
    copy = Machine(key=machine.key, boot_id="boot-2")
    thief = await Talk(copy).open()
    challenge = await thief.hear()

    await thief.say(copy.hello(challenge.nonce, enrolled.pk))
    await talk.say(m.Heartbeat(session=1))
    assert isinstance(await talk.hear(), m.HeartbeatOk)

    assert (await thief.heard_bye()).code == 4511
    await talk.hang_up()


async def test_a_frame_of_a_revoked_worker_ends_the_conversation(machine, enrolled, queued, monkeypatch):
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)
    await in_db(Worker.objects.filter(pk=enrolled.pk).update)(state=Worker.State.REVOKED)

    await talk.say(m.JobRelease(job=offer.job, fence=1, reason="shutdown"))

    assert (await talk.heard_bye()).code == 4510
    assert (await in_db(reread)(queued)).state == "running"


@pytest.mark.parametrize(
    "message",
    [
        m.JobDecline(job="{job}", fence=1, reason="busy"),
        m.JobRelease(job="{job}", fence=1, reason="shutdown"),
        m.JobFailed(job="{job}", fence=1, epoch="", code="internal", retryable=True),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_late_frame_of_an_old_session_changes_nothing(message):
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    sessions.take_seat(an_arrival(worker, running=(hold,)), node="node", channel_name="channel.new")
    said = type(message)(**{**{name: getattr(message, name) for name in message.__struct_fields__}, "job": job.pk})

    with pytest.raises(SessionOver):
        reports._record(said, worker_id=worker.pk, session=1)

    assert reread(job).state == State.RUNNING


def test_an_acceptance_of_an_old_session_changes_nothing():
    job, worker = a_job(), a_worker()
    hold = leased(job, worker)
    sessions.take_seat(an_arrival(worker, running=()), node="node", channel_name="channel.new")

    with pytest.raises(SessionOver):
        reports._accept(m.JobAccept(job=job.pk, fence=hold.fence), worker_id=worker.pk, session=1)


def test_an_acceptance_that_is_late_counts_while_nobody_else_has_the_job():
    job, worker = a_job(), a_worker()
    hold = leased(job, worker)
    overdue(job)
    services.record(job.pk, expired(job, hold))

    reports._accept(m.JobAccept(job=job.pk, fence=hold.fence), worker_id=worker.pk, session=1)

    assert (reread(job).state, reread(job).fence, reread(job).attempt) == ("running", 1, 1)


def expired(job, hold):
    from server.core.events import LeaseExpired

    return LeaseExpired(at=services.now(), fence=hold.fence)


def test_a_revoked_worker_gets_no_lease_back_by_a_heartbeat():
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    set_state(worker, Worker.State.REVOKED)

    beat = sessions.beat(worker.pk, session_of(worker).session, holds=(hold,), pulse=sessions.Pulse(load=0.0, gpu=None))

    assert (beat.lost, beat.state) == ((hold,), "revoked")
    assert reread(job).state == State.QUEUED


def test_a_revoked_worker_gets_no_fresh_token():
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    set_state(worker, Worker.State.REVOKED)

    with pytest.raises(WorkerRevoked):
        reports._fresh_token(m.TokenRefresh(job=job.pk, fence=hold.fence), worker_id=worker.pk, session=1)


def test_a_result_of_a_worker_that_is_revoked_while_its_mask_is_proven_is_not_stored(monkeypatch):
    job, worker = a_job(), a_worker()
    hold = running(job, worker)
    delivery = deliveries.Delivery(
        worker_id=worker.pk, hold=hold, result_id="r", artifact_id="up", packed=None, model=None, metrics={}
    )
    kept = []
    monkeypatch.setattr(deliveries.imaging, "store_mask", lambda **stored: kept.append(stored))
    monkeypatch.setattr(deliveries.results, "discard", lambda proven: None)
    monkeypatch.setattr(deliveries.tus, "terminate", lambda upload: None)
    set_state(worker, Worker.State.REVOKED)

    outcome = deliveries._stored(delivery, None, None)

    assert (outcome, kept) == (deliveries.Outcome.STALE, [])
    assert reread(job).state == State.QUEUED
