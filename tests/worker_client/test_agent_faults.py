"""A whole worker when keys change, disks fill up, processes die and the machine sleeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.worker_client.builders import KEY
from tests.worker_client.fakes import MASK, FakeBox
from tests.worker_client.lab import a_lab, full_offer, held
from worker_client.answers import Key
from worker_client.home import Home, IdentityFile
from worker_client.naps import Naps
from worker_client.outbox import Outbox
from worker_client.protocol import messages as wire


async def test_a_new_key_is_on_the_disk_before_the_server_hears_of_it_and_adopted_after_its_word(tmp_path):
    home = Home(tmp_path)
    tmp_path.chmod(0o700)
    identity = IdentityFile(worker_id="w1", name="lab", server="http://127.0.0.1:1", epoch="e")
    home.remember(identity, key=Ed25519PrivateKey.generate())
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(wire.RotateKeyWanted())
        rotate = await caller.hear(wire.RotateKey)
        kept = home.identity().next_key
        await caller.say(wire.RotateKeyOk(public_key=rotate.public_key))
        while await asyncio.to_thread(lambda: home.identity().next_key is not None):  # noqa: ASYNC110  # the disk wakes nobody
            await asyncio.sleep(0.002)

    assert kept is not None
    assert lab.agent.session.keys.current.public_key == rotate.public_key


async def test_a_disk_that_cannot_take_a_new_key_leaves_the_old_one(tmp_path, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Home, "make_next_key", full)
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(wire.RotateKeyWanted())
        await caller.say(full_offer())
        result = await caller.hear(wire.JobResult)

    assert result.job == KEY.job
    assert "could not be stored" in caplog.text


async def test_a_disk_that_cannot_note_an_upload_does_not_cost_the_mask(tmp_path, monkeypatch):
    """The computed result was given up because a note for the next start did not fit on the disk."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Outbox, "note_upload", full)
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobResult)

    assert bytes(lab.plane.uploads["up-1"]) == MASK
    assert held(tmp_path) == ["01JOB.1"]


async def test_a_child_that_was_killed_is_warmed_before_the_next_job(tmp_path):
    box = FakeBox()
    box.gate.clear()
    async with a_lab(tmp_path, box=box) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await asyncio.to_thread(box.begun.wait, 5)
        box.alive = False
        await caller.say(wire.JobCancel(job=KEY.job, fence=1))
        await caller.hear(wire.JobCancelled)
        box.cancelled.clear()
        box.gate.set()

        await caller.say(full_offer(Key("01NEXT", 1)))
        result = await caller.hear(wire.JobResult)

    assert result.job == "01NEXT"
    assert box.starts == 2


async def test_a_worker_asked_to_drain_finishes_its_job_and_stays(tmp_path):
    box = FakeBox()
    box.gate.clear()
    async with a_lab(tmp_path, box=box) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobPreview)

        await caller.say(wire.Drain())
        box.gate.set()
        await caller.hear(wire.JobResult)
        await caller.say(wire.ResultOk(job=KEY.job, fence=1))
        await caller.say(wire.Drain(is_over=True))
        ready = await caller.hear_open()

        assert ready.credits == 1
        assert not lab.running.done()


def test_a_nap_is_what_the_clock_did_not_count():
    uncounted = iter([100.0, 100.0, 160.0, 160.0])
    naps = Naps(lambda: next(uncounted))

    assert [naps.since_last() for _ in range(3)] == [0.0, 60.0, 0.0]


def test_nothing_but_keys_certificates_and_logs_looks_at_the_wall_clock():
    """A clock that jumps by an hour must move no deadline: everything else runs by the monotonic one."""
    source = Path(__file__).parents[2] / "worker_client"

    readers = {path.name for path in source.rglob("*.py") if "time.time()" in path.read_text(encoding="utf-8")}

    assert readers == {"compose.py", "doctor.py"}
