"""The WebSocket itself, against a real server on this machine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from tests.worker_client.builders import IDENTITY, profile
from tests.worker_client.fakes import fake_server
from worker_client import websocket as link_module
from worker_client.actions import HangUp, Send
from worker_client.comeback import ComeBack
from worker_client.errors import ServerForbids
from worker_client.link import Link, Route
from worker_client.outgoing import Outgoing
from worker_client.protocol import messages as wire
from worker_client.session import Session


class Owner:
    """Lets a real session answer, and remembers what happened."""

    is_urgent = True

    def __init__(self, link: Link) -> None:
        self.link = link
        self.session = Session(profile())
        self.ends: list[int] = []
        self.ended = asyncio.Semaphore(0)
        self.errors: list[str] = []

    def opened(self) -> None:
        self.session.opened(at=0.0)

    def received(self, message) -> None:
        self._act(self.session.received(message, at=0.0))

    def garbled(self, error) -> None:
        self.errors.append(error.code)
        self._act(self.session.garbled(error, at=0.0))

    def unsendable(self, message) -> None:
        self._act(self.session.unsendable(message))

    def closed(self, *, code, reason):
        self.ends.append(code)
        self.ended.release()
        return self.session.closed(code=code, reason=reason)

    def _act(self, actions) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.link.send(action.message)
            elif isinstance(action, HangUp):
                self.link.hang_up(action.code, action.reason)


@asynccontextmanager
async def linked(url: str):
    """A link that runs, comes back without a pause, and is stopped at the end."""
    link = Link(Route(url, uses_proxy=False), luck=lambda: 0.0)
    owner = Owner(link)
    running = asyncio.create_task(link.run(owner))
    try:
        async with asyncio.timeout(10):
            yield owner, running
    finally:
        link.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_it_speaks_the_subprotocol_without_compression():
    async with fake_server() as server, linked(server.url):
        caller = await server.caller()

        assert caller._socket.subprotocol == "seg.worker.v1"
        assert caller._socket.protocol.extensions == []


async def test_a_challenge_is_answered_and_work_is_granted():
    async with fake_server() as server, linked(server.url):
        caller = await server.caller()

        hello = await caller.welcome()

        assert hello.worker_id == "w1"
        assert (await caller.hear(wire.Ready)).credits == 1


async def test_a_cut_line_is_made_again():
    async with fake_server() as server, linked(server.url) as (owner, _):
        first = await server.caller()
        await first.welcome()
        await first.drop()

        second = await server.caller()

        assert (await second.welcome()).worker_id == "w1"
        assert owner.ends == [1006]


@pytest.mark.parametrize("code", [1000, 1011, 4000, 4408])
async def test_an_ordinary_close_is_followed_by_another_connection(code):
    async with fake_server() as server, linked(server.url) as (owner, _):
        first = await server.caller()
        await first.welcome()
        await first.close(code)

        await server.caller()

        assert owner.ends == [code]


async def test_a_server_that_forbids_coming_back_is_obeyed():
    async with fake_server() as server, linked(server.url) as (_, running):
        caller = await server.caller()
        await caller.say(wire.Bye(code=4510, reason="revoked", reconnect=False))
        await caller.close(4510)

        with pytest.raises(ServerForbids, match="revoked"):
            await running


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404, 429, 500, 503])
async def test_no_answer_to_the_handshake_is_final(status):
    """Daphne says 403 to whatever it cannot serve, a captive portal says 200 or sends elsewhere."""
    refusals = [status] * 2

    def refuse(connection, request):
        if not refusals:
            return None
        return Response(refusals.pop(), "", Headers({"Location": "http://127.0.0.1:9/", "Content-Length": "0"}), b"")

    async with fake_server(process_request=refuse) as server, linked(server.url) as (owner, _):
        caller = await server.caller()

        assert (await caller.welcome()).worker_id == "w1"
        assert owner.ends == [1006, 1006]


async def test_a_server_that_is_not_there_yet_is_asked_again_and_missed_once_in_the_log(caplog):
    async with fake_server() as server:
        port = server.port
    async with linked(f"ws://127.0.0.1:{port}/ws/worker/") as (owner, running):
        for _ in range(3):
            await owner.ended.acquire()

        assert not running.done()
    assert sum(record.levelname == "WARNING" for record in caplog.records) == 1


async def test_an_unknown_message_is_answered_and_the_line_stays():
    async with fake_server() as server, linked(server.url):
        caller = await server.caller()
        await caller.welcome()

        await caller.say_raw('{"t":"job.teleport","id":44,"where":"Mars"}')

        error = await caller.hear(wire.Error)
        assert (error.code, error.re) == ("unknown_type", 44)
        await caller.say(wire.Ping(id=45, ts=1.0))
        assert (await caller.hear(wire.Pong)).ts == 1.0


@pytest.mark.parametrize("frame", ["not JSON", '{"t":"ping"}', b"\x00\x01", '{"t":"ping","ts":NaN}', "[" * 20_000])
async def test_a_frame_that_is_no_message_ends_with_a_goodbye_and_another_connection(frame):
    async with fake_server() as server, linked(server.url):
        caller = await server.caller()
        await caller.welcome()

        await caller.say_raw(frame)

        assert (await caller.hear(wire.Bye)).code == 4503
        assert await caller.wait_closed() == 4503
        await server.caller()


async def test_what_is_queued_before_hanging_up_is_sent_first():
    async with fake_server() as server, linked(server.url) as (owner, _):
        caller = await server.caller()
        await caller.welcome()

        owner.link.send(wire.Bye(code=1000, reason="the worker shuts down", reconnect=False))
        owner.link.stop()
        owner.link.hang_up(1000, "the worker shuts down")

        assert (await caller.hear(wire.Bye)).reason == "the worker shuts down"
        assert await caller.wait_closed() == 1000


async def test_stopping_gives_up_a_connection_that_is_being_made():
    """A worker that was told to end during the handshake stayed for ever: nobody was left to hang up."""
    reached = asyncio.Event()

    async def never_answer(reader, writer):
        reached.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        async with linked(f"ws://127.0.0.1:{port}/ws/worker/") as (owner, running):
            await reached.wait()

            owner.link.stop()

            await running


async def test_a_message_over_the_limit_is_not_sent_and_the_line_stays(caplog):
    """Daphne cuts the TCP connection on a large message, without a code."""
    async with fake_server() as server, linked(server.url) as (owner, _):
        caller = await server.caller()
        await caller.welcome()

        owner.link.send(wire.Error(code="x", detail="y" * 70_000))
        owner.link.send(wire.Ping(ts=2.0))

        assert (await caller.hear(wire.Ping)).ts == 2.0
    assert "too long" in caplog.text


async def test_a_newer_report_takes_the_place_of_one_that_still_waits():
    outgoing = Outgoing()
    first = wire.JobProgress(job="a", fence=1, pseq=1, stage="fetch", pct=1.0)
    other = wire.JobProgress(job="b", fence=1, pseq=1, stage="fetch", pct=1.0)
    preview = wire.JobPreview(job="a", fence=1, pseq=2, shape=(1, 1, 1), affine=IDENTITY, labels="")
    newest = wire.JobProgress(job="a", fence=1, pseq=3, stage="fetch", pct=9.0)

    for message in (first, other, preview, newest):
        outgoing.put(message)

    assert [await outgoing.get() for _ in range(3)] == [other, preview, newest]


async def test_messages_without_a_connection_are_dropped():
    link = Link(Route("ws://127.0.0.1:9/", uses_proxy=False))

    link.send(wire.Ping(ts=1.0))
    link.hang_up(1000, "")


async def test_a_line_on_which_nothing_leaves_any_more_is_cut(monkeypatch):
    """A half-open connection would otherwise hold the worker until TCP gives up, a quarter of an hour later."""
    monkeypatch.setattr(link_module, "SLOWEST_SEND_SECONDS", 0.05)

    class Stuck:
        transport = type("T", (), {"aborted": False, "abort": lambda self: setattr(self, "aborted", True)})()

        async def send(self, frame):
            await asyncio.Event().wait()

    await link_module._send(Stuck(), "frame")  # type: ignore[arg-type]

    assert Stuck.transport.aborted


def test_coming_back_is_the_default():
    assert Session(profile()).closed(code=1006, reason="") == ComeBack()


@pytest.mark.parametrize(("code", "is_quick"), [(4408, True), (1000, False)])
async def test_a_silent_server_gets_no_long_farewell(monkeypatch, code, is_quick):
    """Closing in order waits for the other side, and fifteen seconds of silence have passed already."""
    monkeypatch.setattr(link_module, "LAST_WORD_TO_A_SILENT_SERVER_SECONDS", 0.0)
    monkeypatch.setattr(link_module, "LAST_WORD_SECONDS", 3600.0)
    outgoing, aborted = Outgoing(), asyncio.Event()
    socket = SimpleNamespace(transport=SimpleNamespace(abort=aborted.set))
    outgoing.put(HangUp(code, "nothing was heard for too long"))

    cutting = asyncio.create_task(link_module._cut_late(socket, outgoing))  # type: ignore[arg-type]
    await asyncio.wait({cutting}, timeout=0.05)
    cutting.cancel()

    assert aborted.is_set() == is_quick


async def test_a_line_that_takes_nothing_ends_before_memory_does():
    outgoing = Outgoing()

    for number in range(1000):
        outgoing.put(wire.Error(code="x", detail=str(number)))

    assert await outgoing.get() == HangUp(4413, "too much waits to be said")
    assert len(outgoing._waiting) < 256


async def test_the_servers_own_limit_on_messages_is_kept(caplog):
    async with fake_server() as server, linked(server.url) as (owner, _):
        caller = await server.caller()
        await caller.welcome(limits=wire.Limits(msg=5_000))
        await caller.hear(wire.Ready)

        owner.link.send(wire.Error(code="x", detail="y" * 6_000))
        owner.link.send(wire.Ping(ts=2.0))

        assert (await caller.hear(wire.Ping)).ts == 2.0
    assert "too long" in caplog.text
