"""A whole worker on this machine: real session, link, outbox and transfers; a fake analysis and a fake server."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from inference.errors import ChildDied, DeviceUnavailable, InputInvalid
from tests.worker_client.builders import IDENTITY, KEY, an_input, an_offer
from tests.worker_client.data_plane import DataPlane, answer
from tests.worker_client.fakes import MASK, FakeBox
from tests.worker_client.lab import ROLES, a_lab, full_offer, held, scans, wait_until_gone
from worker_client import agent as agent_module
from worker_client.answers import Key
from worker_client.errors import ServerForbids
from worker_client.outbox import Outbox
from worker_client.protocol import messages as wire


async def test_from_offer_to_acknowledged_result(tmp_path):
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())

        accept = await caller.hear(wire.JobAccept)
        result = await caller.hear(wire.JobResult)
        kept = held(tmp_path)
        await caller.say(wire.ResultOk(job=KEY.job, fence=1, result_id=result.result_id))
        await wait_until_gone(tmp_path)

    assert (accept.job, accept.fence) == KEY
    assert bytes(lab.plane.uploads["up-1"]) == MASK
    assert lab.plane.words["up-1"] == {
        "job": KEY.job,
        "fence": "1",
        "role": "mask",
        "sha256": hashlib.sha256(MASK).hexdigest(),
    }
    assert kept == ["01JOB.1"]
    (mask,) = result.artifacts
    assert (mask.artifact, mask.size, mask.encoding) == ("up-1", len(MASK), "zstd")
    assert result.metrics.volumes_ml == {"WT": 1.25}
    assert list((tmp_path / "work").iterdir()) == []


async def test_the_analysis_gets_the_files_and_the_grid_that_the_offer_names(tmp_path):
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobResult)

        (order,) = lab.box.orders
        read = {item.role.value: item.path.read_bytes() for item in order.inputs}

    assert read == dict(zip(ROLES, scans().values(), strict=True))
    assert order.grid.shape == (4, 5, 6)
    assert tuple(order.grid.affine.ravel()) == IDENTITY
    assert order.model is not None
    assert order.model.sha256 == "a" * 64


async def test_stages_and_a_preview_are_told_on_the_way(tmp_path):
    box = FakeBox()
    box.gate.clear()
    async with a_lab(tmp_path, box=box) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())

        preview = await caller.hear(wire.JobPreview)
        progress = await caller.hear(wire.JobProgress)

    assert preview.shape == (2, 2, 2)
    assert (progress.stage, progress.pct, progress.eta) == ("preprocess", 50.0, 4.0)


async def test_the_analysis_process_is_warm_before_the_first_job(tmp_path):
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobResult)

    assert lab.box.starts == 1
    assert lab.box.is_closed


async def test_a_worker_whose_analysis_cannot_start_asks_for_no_work_and_tries_again(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(agent_module, "WARM_AGAIN_SECONDS", 0.0)
    box = FakeBox(start_error=DeviceUnavailable("There is no device 'cuda:0' on this machine."))
    async with a_lab(tmp_path, box=box) as lab:
        caller = await lab.server.caller()
        await caller.welcome()

        ready = await caller.hear(wire.Ready)
        for _ in range(2):
            await asyncio.to_thread(box.tries.acquire, timeout=5)
        box.start_error = None
        reopened = await caller.hear_open()

    assert (ready.credits, reopened.credits) == (0, 1)
    assert "There is no device" in caplog.text


async def test_a_cut_line_does_not_disturb_the_analysis(tmp_path):
    box = FakeBox()
    box.gate.clear()
    async with a_lab(tmp_path, box=box) as lab:
        first = await lab.caller()
        await first.say(full_offer())
        await asyncio.to_thread(box.begun.wait, 5)
        await first.drop()

        second = await lab.server.caller()
        hello = await second.welcome(wire.Verdict(job=KEY.job, fence=1, verdict="keep"))
        box.gate.set()
        result = await second.hear(wire.JobResult)

    assert [(one.job, one.fence) for one in hello.running] == [KEY]
    assert result.fence == 1
    assert len(box.orders) == 1


async def test_a_result_that_nobody_acknowledged_is_delivered_by_the_next_process(tmp_path):
    """kill -9 after the mask was computed: no work is done twice."""
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobResult)

    async with a_lab(tmp_path, box=FakeBox(), plane=lab.plane) as again:
        caller = await again.server.caller()
        hello = await caller.welcome(wire.Verdict(job=KEY.job, fence=1, verdict="send_result"))
        asked = await caller.hear(wire.TokenRefresh)
        await caller.say(wire.TokenRefreshOk(job=KEY.job, fence=1, data_token="token-1"))
        result = await caller.hear(wire.JobResult)

    assert [(kept.job, kept.fence, kept.kind) for kept in hello.outbox] == [(*KEY, "result")]
    assert (asked.job, asked.fence) == KEY
    assert result.result_id == "result-1"
    assert again.box.orders == []
    assert list(lab.plane.uploads) == ["up-1"]


async def test_an_upload_that_was_cut_off_goes_on_at_the_servers_offset_in_the_next_process(tmp_path):
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobResult)
    lab.plane.uploads["up-1"] = bytearray(MASK[:5])

    async with a_lab(tmp_path, plane=lab.plane) as again:
        caller = await again.server.caller()
        await caller.welcome(wire.Verdict(job=KEY.job, fence=1, verdict="send_result"))
        await caller.say(wire.TokenRefreshOk(job=KEY.job, fence=1, data_token="token-1"))
        await caller.hear(wire.JobResult)

    assert bytes(lab.plane.uploads["up-1"]) == MASK
    assert len(lab.plane.asked("POST")) == 1


async def test_a_cancel_stops_the_analysis_and_is_confirmed(tmp_path):
    box = FakeBox()
    box.gate.clear()
    async with a_lab(tmp_path, box=box) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await asyncio.to_thread(box.begun.wait, 5)

        await caller.say(wire.JobCancel(job=KEY.job, fence=1, grace_s=0.1))
        cancelled = await caller.hear(wire.JobCancelled)
        ready = await caller.hear(wire.Ready)

    assert (cancelled.job, cancelled.fence) == KEY
    assert ready.credits == 1
    assert held(tmp_path) == []


async def test_a_cancel_while_fetching_needs_no_analysis(tmp_path):
    plane = DataPlane(artifacts=scans())
    plane.faults.extend([answer(503)] * 100_000)
    async with a_lab(tmp_path, plane=plane) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobAccept)

        await caller.say(wire.JobCancel(job=KEY.job, fence=1))
        await caller.hear(wire.JobCancelled)

    assert lab.box.orders == []


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (InputInvalid("constant", "All its voxels are the same.", subject="T1"), "input_invalid", False),
        (ChildDied("The analysis process was ended by signal 9."), "internal", True),
        (MemoryError(), "oom", True),
        (RuntimeError("/home/someone/secret"), "internal", True),
    ],
)
async def test_what_went_wrong_is_told_in_a_safe_sentence(tmp_path, error, code, retryable):
    async with a_lab(tmp_path, box=FakeBox(error=error)) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())

        failed = await caller.hear(wire.JobFailed)
        kept = held(tmp_path)
        await caller.say(wire.ResultOk(job=KEY.job, fence=1))
        await wait_until_gone(tmp_path)

    assert (failed.code, failed.retryable) == (code, retryable)
    assert "secret" not in failed.detail
    assert kept == ["01JOB.1"]


async def test_the_next_job_is_done_after_one_that_failed(tmp_path):
    box = FakeBox(error=ChildDied("It died."))
    async with a_lab(tmp_path, box=box) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobFailed)
        box.error = None

        await caller.say(full_offer(Key("01NEXT", 1)))
        result = await caller.hear(wire.JobResult)

    assert result.job == "01NEXT"


async def test_an_input_outside_the_server_is_refused(tmp_path):
    foreign = an_input("T1")
    foreign = type(foreign)(**{n: getattr(foreign, n) for n in foreign.__struct_fields__} | {"url": "http://evil/x"})
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(an_offer(inputs=(foreign,)))

        failed = await caller.hear(wire.JobFailed)

    assert (failed.code, failed.retryable) == ("input_invalid", False)
    assert lab.plane.requests == []


async def test_a_mask_that_the_server_never_takes_becomes_a_failure(tmp_path):
    plane = DataPlane(artifacts=scans())
    async with a_lab(tmp_path, plane=plane) as lab:
        caller = await lab.caller()
        lab.box.gate.clear()
        await caller.say(full_offer())
        await asyncio.to_thread(lab.box.begun.wait, 5)
        plane.faults.append(answer(413, code="too_large"))
        lab.box.gate.set()

        failed = await caller.hear(wire.JobFailed)

    assert (failed.code, failed.retryable) == ("internal", True)


async def test_a_full_disk_is_a_failure_that_may_be_tried_elsewhere(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Outbox, "store", full)
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())

        failed = await caller.hear(wire.JobFailed)

    assert failed.retryable
    assert "No space left" in failed.detail


async def test_an_idle_worker_ends_at_once_when_it_drains(tmp_path):
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()

        lab.agent.drain()

        assert (await caller.hear(wire.Bye)).code == 1000
        await lab.running
    assert lab.box.is_closed


async def test_a_worker_that_ends_while_its_analysis_is_starting_ends_that_too(tmp_path):
    """The child was started by a thread after everything had been closed, and the process waited for it."""
    box = FakeBox(is_slow_to_start=True)
    async with a_lab(tmp_path, box=box) as lab:
        await asyncio.to_thread(box.tries.acquire, timeout=5)

        lab.agent.drain()
        await lab.running

    assert box.is_closed
    assert lab.agent._runner._threads == 0


async def test_a_worker_finishes_its_job_before_it_ends(tmp_path):
    box = FakeBox()
    box.gate.clear()
    async with a_lab(tmp_path, box=box) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobPreview)

        lab.agent.drain()
        box.gate.set()
        await caller.hear(wire.JobResult)
        await caller.say(wire.ResultOk(job=KEY.job, fence=1))
        await caller.hear(wire.Bye)
        await lab.running

    assert held(tmp_path) == []


async def test_a_job_that_would_take_too_long_is_given_back(tmp_path):
    box = FakeBox()
    box.gate.clear()
    async with a_lab(tmp_path, box=box, drain_seconds=1.0) as lab:
        caller = await lab.caller()
        await caller.say(full_offer())
        await caller.hear(wire.JobPreview)

        lab.agent.drain()

        assert (await caller.hear(wire.JobRelease)).reason == "shutdown"
        await caller.hear(wire.Bye)
        await lab.running


async def test_a_worker_can_be_told_to_end_before_it_has_connected(tmp_path):
    async with a_lab(tmp_path) as lab:
        lab.agent.drain()

        await lab.running


async def test_a_revoked_worker_ends_with_the_servers_words(tmp_path):
    async with a_lab(tmp_path) as lab:
        caller = await lab.caller()
        await caller.say(wire.Bye(code=4510, reason="revoked", reconnect=False))
        await caller.close(4510)

        with pytest.raises(ServerForbids, match="revoked"):
            await lab.running

    assert lab.box.is_closed
