"""What the doctor finds, and what it leaves alone."""

from __future__ import annotations

import asyncio
import io

import httpx
import pytest
from rich.console import Console

from tests.worker_client.desk import a_desk, enrolled
from tests.worker_client.fakes import fake_server
from tests.worker_client.sync_desk import SyncDesk
from worker_client import doctor
from worker_client.config import WorkerConfig
from worker_client.doctor import Finding, can_work, check_clock, show
from worker_client.link import Route
from worker_client.outbox import Outbox
from worker_client.protocol import messages as wire


def findings(found: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in found}


async def test_the_doctor_finds_a_worker_that_could_work(tmp_path, monkeypatch):
    async with fake_server() as server:
        home = enrolled(tmp_path / "w", f"http://127.0.0.1:{server.port}")
        monkeypatch.setattr(doctor, "check_server", lambda _: [Finding("server", "ok", "")])
        asked = asyncio.create_task(doctor.examine(WorkerConfig(home=home.path, device="cpu")))
        caller = await server.caller()
        hello = await caller.welcome()
        bye = await caller.hear(wire.Bye)
        found = await asked

    assert hello.running == ()
    assert bye.reason == "only looking"
    assert findings(found)["sign-in"] == "ok"
    assert can_work(found)


async def test_the_doctor_says_that_the_server_does_not_know_the_worker(tmp_path, monkeypatch):
    async with fake_server() as server:
        home = enrolled(tmp_path / "w", f"http://127.0.0.1:{server.port}")
        monkeypatch.setattr(doctor, "check_server", lambda _: [Finding("server", "ok", "")])
        asked = asyncio.create_task(doctor.examine(WorkerConfig(home=home.path, device="cpu")))
        caller = await server.caller()
        await caller.say(wire.Bye(code=4501, reason="unknown worker", reconnect=False))
        await caller.close(4501)
        found = await asked

    (sign_in,) = [finding for finding in found if finding.name == "sign-in"]
    assert sign_in.verdict == "bad"
    assert "unknown worker" in sign_in.sentence


async def test_the_doctor_does_not_disturb_a_running_worker(tmp_path, monkeypatch):
    home = enrolled(tmp_path / "w", "http://127.0.0.1:1")
    monkeypatch.setattr(doctor, "check_server", lambda _: [Finding("server", "ok", "")])

    with home.locked():
        found = await doctor.examine(WorkerConfig(home=home.path, device="cpu"))

    assert findings(found)["sign-in"] == "note"


async def test_the_doctor_finds_a_server_that_is_not_there(tmp_path):
    home = enrolled(tmp_path / "w", "http://127.0.0.1:1")

    found = await doctor.examine(WorkerConfig(home=home.path, device="cpu"))

    assert findings(found)["server"] == "bad"
    assert "sign-in" not in findings(found)


async def test_the_doctor_finds_that_nobody_enrolled(tmp_path):
    found = await doctor.examine(WorkerConfig(home=tmp_path / "none", device="cpu"))

    assert findings(found)["enrolment"] == "bad"


def test_something_else_than_the_server_is_noticed(tmp_path):
    with a_desk() as desk:
        desk.status = 404
        found = doctor.check_server(enrolled(tmp_path / "w", desk.url).identity())

    assert findings(found) == {"server": "bad"}


@pytest.mark.parametrize(
    ("now", "verdict", "word"), [(100.0, "ok", "agrees"), (190.0, "note", "ahead"), (0.0, "note", "behind")]
)
def test_a_wrong_clock_is_worth_a_note(now, verdict, word):
    finding = check_clock(server_time=100.0, now=now)

    assert finding.verdict == verdict
    assert word in finding.sentence


@pytest.mark.parametrize("console", [None, Console(file=io.StringIO())])
def test_the_exit_code_is_zero_only_if_it_could_work(console, capsys):
    good, bad = Finding("DNS", "ok", "fine"), Finding("server", "bad", "does not answer")

    assert show([good], console=console) == 0
    assert show([good, bad], console=console) == 1


async def test_a_worker_behind_a_proxy_that_stops_websockets_could_work(tmp_path, monkeypatch):
    desk = SyncDesk()
    monkeypatch.setattr(doctor, "check_server", lambda _: [Finding("server", "ok", "")])
    monkeypatch.setattr(
        doctor, "transfer_client", lambda *_, **__: httpx.AsyncClient(transport=httpx.MockTransport(desk))
    )
    home = enrolled(tmp_path / "w", "http://127.0.0.1:9")
    asked = asyncio.create_task(doctor.examine(WorkerConfig(home=home.path, device="cpu")))
    caller = await desk.caller()
    await caller.welcome()
    bye = await caller.hear(wire.Bye)
    found = await asked

    assert bye.reason == "only looking"
    assert (findings(found)["WebSocket"], findings(found)["sign-in"]) == ("note", "ok")
    assert can_work(found)


async def test_a_server_without_the_fall_back_is_worth_a_note(monkeypatch):
    async def missing(request):
        return httpx.Response(404)

    async with httpx.AsyncClient(transport=httpx.MockTransport(missing)) as client:
        (finding,) = await doctor.check_fallback(Route("ws://127.0.0.1:9/ws/worker/"), client=client)

    assert finding.verdict == "note"
    assert "404" in finding.sentence


@pytest.mark.parametrize(("days", "verdict"), [(3.0, "ok"), (200.0, "note")])
def test_a_key_that_was_never_replaced_is_worth_a_note(tmp_path, days, verdict):
    identity = enrolled(tmp_path / "w", "http://127.0.0.1:9").identity()

    assert doctor.check_key(identity, now=identity.made_at + days * 86400.0).verdict == verdict


def test_a_key_that_waits_for_the_server_is_worth_a_note(tmp_path):
    home = enrolled(tmp_path / "w", "http://127.0.0.1:9")
    home.make_next_key()

    assert "a newer one waits" in doctor.check_key(home.identity(), now=0.0).sentence


def test_answers_that_were_set_aside_are_worth_a_note(tmp_path):
    home = enrolled(tmp_path / "w", "http://127.0.0.1:9")
    before = doctor.check_outbox(home)
    (home.outbox / "01JOB.1").mkdir()
    Outbox(home.outbox).open()

    after = doctor.check_outbox(home)

    assert (before.verdict, after.verdict) == ("ok", "note")
    assert "1 are damaged" in after.sentence
