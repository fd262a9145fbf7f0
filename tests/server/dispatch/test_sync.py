"""The worker's conversation over HTTPS: the same words, and nothing lost when an answer is."""

import asyncio
import json

import pytest

from server.dispatch import links as links_module
from server.dispatch import session, wakeups
from server.dispatch.enrolment import set_state
from server.dispatch.models import Worker
from server.topics import sockets
from server.topics.sockets import farewell_to_all
from tests.server.dispatch.polls import Poll, post
from tests.server.dispatch.scenes import a_job, reread, session_of
from tests.server.dispatch.talks import assign, in_db
from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def few_pings(monkeypatch):
    """One at the beginning, and none between two requests however busy the machine is."""
    monkeypatch.setattr(session, "PING_SECONDS", 3600.0)


async def signed_in(machine, worker, **hello) -> Poll:
    poll = Poll(machine)
    await poll.sign_in(worker.pk, **hello)
    poll.say(m.Ready(credits=1))
    await poll.settled()
    return poll


async def waits(poll: Poll) -> None:
    """A request of the link is being answered."""
    while links_module.links.find(poll.link)._waiting == 0:  # noqa: ASYNC110  (a turn of the loop, not a pause)
        await asyncio.sleep(0)


async def test_a_job_runs_over_the_fall_back(machine, enrolled, queued):
    poll = await signed_in(machine, enrolled)
    await assign()

    offer = await poll.hear()
    poll.say(m.JobAccept(re=offer.id, job=offer.job, fence=offer.fence))
    poll.say(m.JobProgress(job=offer.job, fence=1, pseq=1, stage="inference", pct=50.0))
    poll.say(m.Heartbeat(session=1, jobs=(m.Held(job=offer.job, fence=1),)))
    beat = await poll.hear()
    row = await in_db(reread)(queued)
    poll.say(m.JobFailed(job=offer.job, fence=1, epoch=offer.epoch, code="input_invalid", retryable=False))
    answer = await poll.hear()

    assert (offer.job, beat.lost) == (queued.pk, ())
    assert (row.state, row.stage) == ("running", "inference")
    assert isinstance(answer, m.ResultOk)
    assert (await in_db(session_of)(enrolled)).transport == "https"
    await poll.leave()


async def test_an_offer_ends_the_waiting_at_once(machine, enrolled):
    poll = await signed_in(machine, enrolled)
    waiting = asyncio.create_task(poll.hear())
    await asyncio.sleep(0)

    job = await in_db(a_job)()
    await assign()

    assert (await asyncio.wait_for(waiting, timeout=5)).job == job.pk
    await poll.leave()


async def test_an_answer_that_was_lost_is_given_again(machine, enrolled):
    poll = Poll(machine)
    challenge = await poll.hear()
    poll.say(machine.hello(challenge.nonce, enrolled.pk))
    before = poll.ack
    lost = await poll.exchange()
    poll.ack = before
    poll._heard.clear()

    again = await poll.exchange()

    assert lost[0]["t"] == "welcome"
    assert again[: len(lost)] == lost
    await poll.leave()


async def test_a_request_that_comes_twice_counts_once(machine, enrolled):
    poll = await signed_in(machine, enrolled)
    poll.say(m.Ping(ts=7.0))
    request = {"session": poll.link, "ack": poll.ack, "frames": list(poll._unsaid)}

    first = (await post(request)).json()["frames"]
    again = (await post(request)).json()["frames"]

    assert [frame["t"] for frame in first] == ["pong"]
    assert again == first
    poll.took(first)
    poll._unsaid.clear()
    await poll.leave()


async def test_a_newer_request_takes_the_place_of_the_one_that_waits(machine, enrolled):
    poll = await signed_in(machine, enrolled)
    body = {"session": poll.link, "ack": poll.ack, "frames": []}

    async with asyncio.timeout(10):
        older = asyncio.create_task(post(body))
        await waits(poll)
        newer = asyncio.create_task(post(body))
        empty = (await older).json()
        await in_db(set_state)(enrolled, Worker.State.REVOKED)
        bye = (await newer).json()

    assert empty["frames"] == []
    assert [(frame["t"], frame["code"]) for frame in bye["frames"]] == [("bye", 4510)]


async def test_a_poll_ends_when_its_time_is_up(machine, enrolled, settings):
    poll = await signed_in(machine, enrolled)
    settings.LIMITS = type(settings.LIMITS)(long_poll_seconds=0.01)

    assert await poll.exchange() == []
    await poll.leave()


@pytest.mark.parametrize("name", ["unknown", "x" * 10_000])
async def test_a_link_that_is_not_known_is_told_to_start_anew(name):
    answer = await post({"session": name, "frames": []})

    (bye,) = answer.json()["frames"]
    said = decode_from_server(json.dumps(bye))
    assert (answer.status_code, said.code, said.reconnect) == (200, 4000, True)


async def test_a_link_that_falls_silent_dies_and_its_last_word_can_be_collected(machine, enrolled, settings):
    settings.POLICY = type(settings.POLICY)(silence_seconds=0.05)
    poll = Poll(machine)
    await poll.sign_in(enrolled.pk)

    while not isinstance(bye := await poll.hear(), m.Bye):
        pass

    assert bye.code == 4408
    assert (await in_db(session_of)(enrolled)).closed_at is not None


async def test_a_link_is_forgotten_some_time_after_its_end(machine, enrolled, monkeypatch):
    poll = await signed_in(machine, enrolled)
    await poll.leave()
    monkeypatch.setattr(links_module, "KEPT_SECONDS", -1.0)

    assert links_module.links.find(poll.link) is None


async def test_a_worker_that_does_not_collect_is_too_slow(machine, enrolled, monkeypatch):
    monkeypatch.setattr(links_module, "MOST_UNCONFIRMED", 8)
    poll = await signed_in(machine, enrolled)
    frames = [{"t": "ping", "id": 100 + number, "ts": 1.0} for number in range(10)]

    await post({"session": poll.link, "ack": poll.ack, "frames": frames})

    while not isinstance(bye := await poll.hear(), m.Bye):
        pass
    assert (bye.code, bye.reconnect) == (4413, True)


@pytest.mark.parametrize("headers", [{"Origin": "http://testserver"}, {"Cookie": "sessionid=x"}])
async def test_a_browser_has_no_business_here(headers):
    answer = await post({"session": None, "frames": []}, **headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "not_a_browser_endpoint")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("no json", 400, "bad_sync"),
        ("[]", 400, "bad_sync"),
        (b'{"session": "\xff"}', 400, "bad_sync"),
        ('{"session": 7}', 400, "bad_sync"),
        ('{"frames": {}}', 400, "bad_sync"),
        ('{"frames": [' + "[" * 20_000, 400, "bad_sync"),
        ('{"ack": NaN}', 400, "bad_sync"),
        ({"frames": [{}] * 65}, 413, "sync_too_large"),
        ({"frames": ["x" * 1024 * 1024]}, 413, "sync_too_large"),
    ],
    ids=["text", "array", "no utf-8", "number", "object", "deep", "nan", "many frames", "large"],
)
async def test_a_body_that_is_no_sync_request_is_refused(body, status, code):
    answer = await post(body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_an_address_may_have_only_so_many_links_that_have_not_signed_in(machine, enrolled, settings):
    settings.LIMITS = type(settings.LIMITS)(unknown_sockets_per_address=1)
    poll = await signed_in(machine, enrolled)
    stranger = Poll(machine)
    await stranger.exchange()

    refused = await post({"session": None, "frames": []})

    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (429, "too_many_links", "10")
    stranger.say(m.Bye(code=1000, reason="done"))
    await stranger.exchange()
    assert sockets.lobby.count("127.0.0.1") == 0
    await poll.leave()


async def test_a_server_that_goes_away_says_so_to_whoever_polls(machine, enrolled):
    poll = await signed_in(machine, enrolled)
    waiting = asyncio.create_task(poll.hear())
    await waits(poll)

    await farewell_to_all(within_seconds=5.0)

    bye = await waiting
    assert (bye.code, bye.reconnect) == (4000, True)


async def test_a_socket_and_a_link_of_the_same_worker_supersede_each_other(machine, enrolled):
    poll = await signed_in(machine, enrolled)
    newer = Poll(machine)

    welcome = await newer.sign_in(enrolled.pk)

    assert welcome.session == 2
    assert (await poll.hear()).code == 4409
    await newer.leave()


async def test_an_unknown_note_breaks_no_link(machine, enrolled):
    poll = await signed_in(machine, enrolled)

    await wakeups.send((await in_db(session_of)(enrolled)).channel_name, {"type": "something.new"})

    await poll.settled()
    await poll.leave()


async def test_a_frame_that_cannot_be_read_ends_the_conversation(machine, enrolled):
    poll = await signed_in(machine, enrolled)

    answer = await post({"session": poll.link, "ack": poll.ack, "frames": [json.loads('{"t":"ready","credits":-1}')]})

    assert [(frame["t"], frame["code"]) for frame in answer.json()["frames"]] == [("bye", 4503)]
