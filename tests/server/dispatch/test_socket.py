"""The worker's WebSocket: the work, coming back, going away; with a worker that has a key and no GPU."""

import asyncio

import pytest

from server.dispatch import clock, session, wakeups
from server.dispatch.deliveries import Outcome, deliveries
from server.dispatch.enrolment import set_state
from server.dispatch.models import Worker
from server.jobs import selectors, services
from server.topics.sockets import farewell_to_all
from tests.server.dispatch.fakes import MODEL, Talk
from tests.server.dispatch.scenes import a_job, reread, session_of
from tests.server.dispatch.talks import assign, at_work, in_db, settled, taken
from worker_client.protocol import messages as m

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_click_becomes_an_offer_without_anybody_asking(machine, enrolled):
    """The whole way inside one process: commit, bell, claim, poke, frame."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(clock.run(stop=stop, on_server_job=lambda: None))
        talk = await at_work(machine, enrolled)

        clicked = await in_db(a_job)()
        offer = await talk.hear()
        stop.set()

    assert (offer.job, offer.fence, offer.attempt, offer.model) == (clicked.pk, 1, 1, MODEL)
    assert [one.role for one in offer.inputs] == ["T1", "T1CE", "T2", "FLAIR"]
    clock.assert_ticking()
    await talk.hang_up()


async def test_a_job_runs_and_its_progress_is_passed_on(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)

    for percent in (0.0, 50.0):
        await talk.say(m.JobProgress(job=offer.job, fence=1, pseq=1, stage="inference", pct=percent, eta=3.0))
    await talk.say(m.Heartbeat(id=8, session=1, jobs=(m.Held(job=offer.job, fence=1),)))
    answer = await talk.hear()

    row = await in_db(reread)(queued)
    events = await in_db(selectors.events_since)(queued.pk, 0)
    assert (answer.re, answer.lost) == (8, ())
    assert (row.state, row.stage, row.progress, row.eta_seconds) == ("running", "inference", 0.5, 3.0)
    assert [event.kind for event in events] == ["queued", "leased", "started", "stage"]
    await talk.hang_up()


async def test_an_offer_is_said_once(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    await assign()
    offer = await talk.hear()

    await wakeups.send((await in_db(session_of)(enrolled)).channel_name, wakeups.POKE)
    await settled(talk)

    assert offer.job == queued.pk
    await talk.hang_up()


async def test_an_offer_does_not_wait_for_a_heartbeat_that_waits_for_others(machine, enrolled, queued, monkeypatch):
    """Every fifth second a click took a quarter of a second longer."""
    talk = await at_work(machine, enrolled)
    others = asyncio.Event()

    async def heard(beat):
        await others.wait()

    monkeypatch.setattr(session.gathering, "heard", heard)
    await talk.say(m.Heartbeat(session=1))
    await assign()

    assert isinstance(await talk.hear(), m.JobOffer)
    await talk.hang_up()


async def test_a_declined_offer_is_queued_again(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    await assign()
    offer = await talk.hear()

    await talk.say(m.JobDecline(re=offer.id, job=offer.job, fence=1, reason="busy", retry_after=30.0))
    await settled(talk)
    await assign()

    assert ((await in_db(reread)(queued)).state, (await in_db(reread)(queued)).attempt) == ("queued", 0)
    await talk.hang_up()


async def test_an_acceptance_that_came_too_late_is_told_to_stop(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    await assign()
    offer = await talk.hear()
    await in_db(services.cancel)(queued.pk)

    await talk.say(m.JobAccept(re=offer.id, job=offer.job, fence=1))

    assert isinstance(await talk.hear(), m.JobCancel)
    await talk.hang_up()


async def test_a_cancel_reaches_the_worker_and_is_said_until_it_is_confirmed(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)

    await in_db(services.cancel)(queued.pk)
    first = await talk.hear()
    await talk.say(m.Heartbeat(session=1, jobs=(m.Held(job=offer.job, fence=1),)))
    beat, again = await talk.hear(), await talk.hear()
    await talk.say(m.JobCancelled(job=offer.job, fence=1))
    await talk.say(m.Heartbeat(session=1))

    assert (first.job, first.fence, again.job) == (queued.pk, 1, queued.pk)
    assert beat.lost == (m.Held(job=queued.pk, fence=1),)
    assert isinstance(await talk.hear(), m.HeartbeatOk)
    await settled(talk)
    await talk.hang_up()


async def test_a_failure_is_stored_and_then_acknowledged_also_when_it_comes_twice(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)
    failed = m.JobFailed(job=offer.job, fence=1, epoch=offer.epoch, code="input_invalid", retryable=False)

    await talk.say(failed)
    first = await talk.hear()
    await talk.say(failed)
    second = await talk.hear()

    assert isinstance(first, m.ResultOk)
    assert isinstance(second, m.ResultOk)
    assert (await in_db(reread)(queued)).error_code == "input_invalid"
    await talk.hang_up()


async def test_a_job_given_back_is_queued_at_once(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)

    await talk.say(m.JobRelease(job=offer.job, fence=1, reason="shutdown"))
    await settled(talk)

    assert (await in_db(reread)(queued)).state == "queued"
    await talk.hang_up()


def a_result(offer: m.JobOffer, *, epoch: str | None = None) -> m.JobResult:
    artifact = m.ResultArtifact(
        role="mask", artifact="up", size=1, sha256="b" * 64, encoding="zstd", dtype="uint8", grid=offer.output.grid
    )
    return m.JobResult(
        id=7,
        job=offer.job,
        fence=offer.fence,
        epoch=offer.epoch if epoch is None else epoch,
        result_id="r",
        artifacts=(artifact,),
        metrics=m.Metrics(model=MODEL),
    )


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [(Outcome.SETTLED, m.ResultOk), (Outcome.STALE, m.ResultStale), (Outcome.UPLOAD_MISSING, m.Error)],
)
async def test_a_result_is_acknowledged_as_it_was_settled(machine, enrolled, queued, monkeypatch, outcome, kind):
    async def settle(delivery):
        return outcome

    monkeypatch.setattr(deliveries, "settle", settle)
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)

    await talk.say(a_result(offer))

    answer = await talk.hear()
    assert (type(answer), answer.re) == (kind, 7)
    await talk.hang_up()


async def test_heartbeats_are_answered_while_a_mask_is_proven(machine, enrolled, queued, monkeypatch):
    proven = asyncio.Event()

    async def settle(delivery):
        await proven.wait()
        return Outcome.SETTLED

    monkeypatch.setattr(deliveries, "settle", settle)
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)

    await talk.say(a_result(offer))
    await talk.say(m.Heartbeat(session=1))
    beat = await talk.hear()
    proven.set()

    assert isinstance(beat, m.HeartbeatOk)
    assert isinstance(await talk.hear(), m.ResultOk)
    await talk.hang_up()


async def test_a_result_of_another_life_of_the_database_is_stale(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)

    await talk.say(a_result(offer, epoch="before"))

    assert isinstance(await talk.hear(), m.ResultStale)
    assert (await in_db(reread)(queued)).state == "running"
    await talk.hang_up()


async def test_a_result_that_could_not_be_stored_is_asked_for_again(machine, enrolled, queued, monkeypatch):
    async def settle(delivery):
        raise OSError("the disk is full")

    monkeypatch.setattr(deliveries, "settle", settle)
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)

    await talk.say(a_result(offer))

    error = await talk.hear()
    assert (error.code, error.temporary, error.re) == ("try_again", True, 7)
    await talk.hang_up()


async def test_a_new_data_token_is_for_whoever_still_holds_the_attempt(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)

    await talk.say(m.TokenRefresh(job=offer.job, fence=1))
    fresh = await talk.hear()
    await talk.say(m.TokenRefresh(job=offer.job, fence=9))

    assert isinstance(fresh, m.TokenRefreshOk)
    assert isinstance(await talk.hear(), m.ResultStale)
    await talk.hang_up()


async def test_a_worker_that_comes_back_goes_on_and_is_not_offered_its_own_job(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    offer = await taken(talk)
    await talk.hang_up()

    again = await Talk(machine).open()
    welcome = await again.sign_in(enrolled.pk, running=(m.Running(job=offer.job, fence=1),), epoch=offer.epoch)
    await again.say(m.JobProgress(job=offer.job, fence=1, pseq=1, stage="inference", pct=10.0))
    await settled(again)

    assert [(one.job, one.verdict) for one in welcome.resume] == [(queued.pk, "keep")]
    assert (await in_db(reread)(queued)).stage == "inference"
    await again.hang_up()


async def test_an_offer_that_was_cut_off_comes_again_with_a_new_fence(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    await assign()
    await talk.hear()
    await talk.hang_up()

    again = await at_work(machine, enrolled)
    offer = await taken(again)

    assert (offer.job, offer.fence, offer.attempt) == (queued.pk, 2, 1)
    await again.hang_up()


async def test_a_cut_is_noticed(machine, enrolled):
    talk = await at_work(machine, enrolled)

    await talk.hang_up()

    assert (await in_db(session_of)(enrolled)).closed_at is not None


async def test_a_worker_that_says_goodbye_is_let_go(machine, enrolled):
    talk = await at_work(machine, enrolled)

    await talk.say(m.Bye(code=1000, reason="the worker shuts down", reconnect=False))

    assert (await talk.socket.receive_output(timeout=5))["type"] == "websocket.close"
    assert (await in_db(session_of)(enrolled)).closed_at is not None


async def test_revoking_a_worker_closes_its_socket(machine, enrolled):
    talk = await at_work(machine, enrolled)

    await in_db(set_state)(enrolled, Worker.State.REVOKED)

    assert (await talk.heard_bye()).code == 4510


async def test_a_server_that_goes_away_says_when_to_come_back(machine, enrolled, queued):
    talk = await at_work(machine, enrolled)
    await taken(talk)

    told = await farewell_to_all(within_seconds=5.0)

    bye = await talk.heard_bye()
    row = await in_db(reread)(queued)
    assert (told >= 1, bye.code, bye.reconnect, bye.jitter_s > 0) == (True, 4000, True, True)
    assert row.state == "running"


async def test_the_round_trip_reaches_the_table(machine, enrolled):
    talk = await at_work(machine, enrolled)

    await talk.say(m.Heartbeat(session=1, load=0.5))
    await talk.hear()

    row = await in_db(session_of)(enrolled)
    assert (row.load, row.rtt_ms is not None) == (0.5, True)
    await talk.hang_up()
