"""The conversation over HTTPS, and how a worker comes to it and away from it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from tests.worker_client.builders import KEY, an_offer
from tests.worker_client.data_plane import answer, cut
from tests.worker_client.fakes import fake_server
from tests.worker_client.sync_desk import SyncDesk
from tests.worker_client.test_link import Owner
from worker_client import fallback
from worker_client.errors import ServerForbids
from worker_client.link import Link, Route
from worker_client.protocol import messages as wire
from worker_client.ways import Ways

BLOCKED = "ws://127.0.0.1:9/ws/worker/"
BEFORE = [1006, 1006]
"""A WebSocket that could not be opened, and another one after the server had answered over HTTPS."""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(fallback, "PAUSE_SECONDS", 0.0)


@asynccontextmanager
async def behind_a_proxy(desk: SyncDesk, *, url: str = BLOCKED, patience: float = 0.0, look_again: float = 300.0):
    """A link that runs in a network where HTTPS reaches `desk`, and a WebSocket reaches `url`."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(desk)) as client:
        link = Link(
            Route(url, uses_proxy=False),
            client=client,
            patience_seconds=patience,
            look_again_seconds=look_again,
            luck=lambda: 0.0,
        )
        owner = Owner(link)
        running = asyncio.create_task(link.run(owner))
        try:
            async with asyncio.timeout(10):
                yield owner, running
        finally:
            link.stop()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


# ── coming to it ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_where_no_websocket_gets_through_the_worker_signs_in_over_https():
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, _):
        caller = await desk.caller()

        hello = await caller.welcome()
        ready = await caller.hear(wire.Ready)

        assert (hello.worker_id, ready.credits) == ("w1", 1)
        assert owner.link.way == "https"


async def test_a_server_that_is_away_altogether_is_no_reason_to_change_the_way():
    desk = SyncDesk()
    desk.faults.append(cut)

    async def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(away)) as client:
        link = Link(Route(BLOCKED, uses_proxy=False), client=client, patience_seconds=0.0, luck=lambda: 0.0)
        owner = Owner(link)
        running = asyncio.create_task(link.run(owner))
        for _ in range(4):
            await owner.ended.acquire()
        link.stop()
        await running

    assert link.way == "websocket"
    assert not link._ways.is_blocked


def test_a_minute_of_failures_asks_for_proof_and_proof_and_one_more_failure_settle_it():
    ways = Ways()
    ways.socket_failed(began_at=10.0, has_proof=False)

    early, late = ways.needs_proof(at=69.9), ways.needs_proof(at=70.0)
    pause = ways.longest_pause(at=40.0)
    ways.socket_failed(began_at=70.0, has_proof=True)

    assert (early, late, pause) == (False, True, 30.0)
    assert ways.is_blocked


def test_a_websocket_that_carries_a_word_starts_the_minute_anew():
    ways = Ways()
    ways.socket_failed(began_at=0.0, has_proof=False)

    ways.socket_spoke()

    assert not ways.needs_proof(at=1000.0)


def test_a_websocket_found_again_must_last_before_the_way_counts_as_open():
    """Some proxies let every WebSocket live for half a minute: the worker would be away for another one each time."""
    ways = Ways(is_blocked=True)

    ways.socket_ended(signed_in_seconds=30.0)
    after_a_short_one = ways.is_blocked
    ways.socket_ended(signed_in_seconds=60.0)

    assert after_a_short_one
    assert not ways.is_blocked


# ── the conversation ────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_offer_arrives_while_a_request_waits_and_is_answered_at_once():
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, _):
        caller = await desk.caller()
        await caller.welcome()
        await caller.hear(wire.Ready)

        caller.say(an_offer())
        accept = await caller.hear(wire.JobAccept)

        assert (accept.job, accept.fence) == KEY
        assert len(owner.session.jobs) == 1


async def test_what_the_worker_has_to_say_does_not_wait_for_the_request_that_waits():
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, _):
        caller = await desk.caller()
        await caller.welcome()
        await caller.hear(wire.Ready)
        while desk.open_requests == 0:  # noqa: ASYNC110  # a few turns of the loop
            await asyncio.sleep(0)

        owner.link.send(wire.Ping(id=90, ts=2.0))

        assert (await caller.hear(wire.Ping)).ts == 2.0
        assert desk.most_open_requests == 2


async def test_a_lost_answer_loses_nothing_and_nothing_is_heard_twice():
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, _):
        caller = await desk.caller()
        await caller.welcome()
        await caller.hear(wire.Ready)
        desk.lost = 2

        caller.say(an_offer())
        accept = await caller.hear(wire.JobAccept)
        caller.say(wire.Ping(ts=4.0))
        pong = await caller.hear(wire.Pong)

        assert accept.job == KEY.job
        assert pong.ts == 4.0
        assert caller.taken == sorted(set(caller.taken))
        assert owner.ends == BEFORE


@pytest.mark.parametrize("fault", [cut, answer(502), answer(429), answer(302, location="http://portal.example/")])
async def test_a_request_that_fails_goes_again_with_what_it_held(fault):
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, _):
        caller = await desk.caller()
        await caller.welcome()
        await caller.hear(wire.Ready)
        desk.faults.extend([fault] * 3)

        owner.link.send(wire.Ping(id=90, ts=7.0))
        ping = await caller.hear(wire.Ping)

        assert ping.ts == 7.0
        assert len(desk.links) == 1


@pytest.mark.parametrize("fault", [answer(403), answer(404), answer(401), answer(413)])
async def test_a_refusal_ends_the_link_and_another_is_begun(fault):
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, _):
        caller = await desk.caller()
        await caller.welcome()
        await caller.hear(wire.Ready)
        desk.faults.append(fault)
        caller.say(wire.Ping(ts=1.0))

        again = await desk.caller()

        assert (await again.welcome()).worker_id == "w1"
        assert owner.ends == [*BEFORE, 1006]


async def test_a_portal_that_answers_every_request_with_a_page_is_no_conversation():
    desk = SyncDesk()
    desk.faults.extend([lambda _: httpx.Response(200, text="<html>Accept the terms</html>")] * 3)
    async with behind_a_proxy(desk):
        caller = await desk.caller()

        assert (await caller.welcome()).worker_id == "w1"


async def test_a_server_that_does_not_know_the_link_is_met_anew():
    """The server was restarted, or the request reached another one: hello says what is held."""
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, _):
        caller = await desk.caller()
        await caller.welcome()
        caller.say(an_offer())
        await caller.hear(wire.JobAccept)
        desk.links.clear()
        caller.say(wire.Ping(ts=1.0))

        again = await desk.caller()
        hello = await again.welcome(wire.Verdict(job=KEY.job, fence=1, verdict="keep"))

        assert [(one.job, one.fence) for one in hello.running] == [KEY]
        assert owner.ends == [*BEFORE, 4000]


async def test_a_cancel_gets_through_while_progress_is_told():
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, _):
        caller = await desk.caller()
        await caller.welcome()
        caller.say(an_offer())
        await caller.hear(wire.JobAccept)
        for step in range(50):
            owner.link.send(wire.JobProgress(id=100 + step, job=KEY.job, fence=1, pseq=step, stage="fetch", pct=1.0))

        caller.say(wire.JobCancel(job=KEY.job, fence=1))
        while owner.session.jobs[0].stopping is None:  # noqa: ASYNC110  # a few turns of the loop
            await asyncio.sleep(0)

        assert desk.most_open_requests <= 2


async def test_the_last_words_are_said_before_the_end():
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, running):
        caller = await desk.caller()
        await caller.welcome()
        await caller.hear(wire.Ready)

        owner.link.send(wire.Bye(id=90, code=1000, reason="the worker shuts down", reconnect=False))
        owner.link.hang_up(1000, "the worker shuts down")
        owner.link.stop()

        assert (await caller.hear(wire.Bye)).code == 1000
        await running


async def test_a_server_that_forbids_coming_back_is_obeyed_over_https_too():
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (_, running):
        caller = await desk.caller()
        caller.say(wire.Bye(code=4510, reason="revoked", reconnect=False))

        with pytest.raises(ServerForbids, match="revoked"):
            await running


async def test_an_unknown_message_is_answered_and_the_link_stays():
    desk = SyncDesk()
    async with behind_a_proxy(desk):
        caller = await desk.caller()
        await caller.welcome()

        caller.say_raw('{"t":"job.teleport","id":3,"where":"Mars"}')

        error = await caller.hear(wire.Error)
        assert (error.code, error.re) == ("unknown_type", 3)
        caller.say(wire.Ping(ts=1.0))
        assert (await caller.hear(wire.Pong)).ts == 1.0


async def test_a_message_over_the_limit_is_told_to_its_owner_and_the_rest_goes_on(caplog):
    desk = SyncDesk()
    async with behind_a_proxy(desk) as (owner, _):
        caller = await desk.caller()
        await caller.welcome()

        owner.link.send(wire.Error(id=80, code="x", detail="y" * 70_000))
        owner.link.send(wire.Ping(id=81, ts=2.0))

        assert (await caller.hear(wire.Ping)).ts == 2.0
    assert "too long" in caplog.text


# ── away from it ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_websocket_that_gets_through_again_takes_over_and_no_job_is_lost():
    doors = {"is_open": False}

    def guard(connection, request):
        return None if doors["is_open"] else Response(403, "", Headers({"Content-Length": "0"}), b"")

    desk = SyncDesk()
    async with (
        fake_server(process_request=guard) as server,
        behind_a_proxy(desk, url=server.url, look_again=0.02) as (owner, _),
    ):
        caller = await desk.caller()
        await caller.welcome()
        caller.say(an_offer())
        await caller.hear(wire.JobAccept)
        doors["is_open"] = True

        by_socket = await server.caller()
        hello = await by_socket.welcome(wire.Verdict(job=KEY.job, fence=1, verdict="keep"))
        await by_socket.say(wire.Ping(ts=3.0))
        pong = await by_socket.hear(wire.Pong)

        assert [(one.job, one.fence) for one in hello.running] == [KEY]
        assert pong.ts == 3.0
        assert (owner.link.way, len(owner.session.jobs)) == ("websocket", 1)


async def test_a_websocket_that_opens_and_stays_silent_is_not_taken_for_one_that_works(monkeypatch):
    monkeypatch.setattr("worker_client.websocket.FIRST_WORD_SECONDS", 0.01)
    desk = SyncDesk()
    async with (
        fake_server() as server,
        behind_a_proxy(desk, url=server.url, patience=0.0, look_again=0.01) as (owner, _),
    ):
        owner.link._ways.is_blocked = True
        silent = await server.caller()
        await silent.drop()
        caller = await desk.caller()
        await caller.welcome()

        for _ in range(3):
            await server.caller()
        caller.say(wire.Ping(ts=5.0))

        assert (await caller.hear(wire.Pong)).ts == 5.0
        assert owner.link.way == "https"


async def test_stopping_ends_the_search_for_a_websocket():
    desk = SyncDesk()
    async with behind_a_proxy(desk, look_again=0.01) as (owner, running):
        await (await desk.caller()).welcome()

        owner.link.send(wire.Bye(id=90, code=1000, reason="the worker shuts down", reconnect=False))
        owner.link.hang_up(1000, "")
        owner.link.stop()
        await running

        assert owner.link._search is None
