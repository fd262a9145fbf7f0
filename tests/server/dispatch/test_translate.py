"""The wire's words in the rules' words."""

import msgspec
import numpy as np
import pytest

from inference.contract import Grid, PackedVolume, Sequence, Stage
from server.core.events import Failed, Faltered, Finished, Progressed, Started
from server.core.reconcile import Hold, Ruling
from server.core.scheduler import Model
from server.dispatch import translate
from server.dispatch.selectors import Input, Offer
from tests.core.lives import NOON
from tests.server.dispatch.fakes import MODEL, Machine
from worker_client.protocol import messages as m
from worker_client.protocol.codec import MAX_FRAME_BYTES, decode_from_server, encode

AT = {"job": "j", "fence": 2}
SAID = {"at": NOON, "fence": 2, "worker_id": "w"}


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (m.JobAccept(**AT), Started(**SAID)),
        (
            m.JobDecline(**AT, reason="busy", retry_after=7.0),
            Faltered(**SAID, code="busy", is_declined=True, skip_seconds=7.0),
        ),
        (
            m.JobDecline(**AT, reason="vram", retry_after=1e9),
            Faltered(**SAID, code="vram", is_declined=True, skip_seconds=600.0),
        ),
        (
            m.JobProgress(**AT, pseq=1, stage="inference", pct=25.0, eta=4.0),
            Progressed(**SAID, stage=Stage.INFERENCE, fraction=0.25, eta_seconds=4.0),
        ),
        (m.JobRelease(**AT, reason="shutdown"), Faltered(**SAID, code="shutdown")),
        (m.JobResult(**AT, epoch="e", result_id="r", artifacts=()), Finished(**SAID, result_id="r")),
        (
            m.JobFailed(**AT, epoch="e", code="oom", retryable=True, detail="x"),
            Faltered(**SAID, code="oom", detail="x"),
        ),
        (m.JobFailed(**AT, epoch="e", code="oom", retryable=False), Failed(**SAID, code="oom")),
        (m.JobFailed(**AT, epoch="e", code="input_invalid", retryable=True), Failed(**SAID, code="input_invalid")),
    ],
)
def test_a_report_is_an_event(message, event):
    assert translate.to_event(message, worker_id="w", at=NOON) == event


def hello(**changes) -> m.Hello:
    return Machine().hello("nonce", "w", **changes)


def test_an_arrival_lists_what_is_held():
    arrival = translate.to_arrival(
        hello(epoch="now", running=(m.Running(**AT),), outbox=(m.Kept(job="k", fence=1, kind="result", epoch="now"),)),
        epoch="now",
    )

    assert (arrival.running, arrival.outbox, arrival.void) == ((Hold("j", 2),), (Hold("k", 1),), ())
    assert arrival.models == (Model("compact", "1.0", "a" * 64),)


def test_what_was_held_before_the_database_was_restored_is_void():
    arrival = translate.to_arrival(
        hello(
            epoch="before",
            running=(m.Running(**AT),),
            outbox=(
                m.Kept(job="k", fence=1, kind="result", epoch="before"),
                m.Kept(job="l", fence=1, kind="result", epoch="now"),
            ),
        ),
        epoch="now",
    )

    assert (arrival.running, arrival.outbox) == ((), (Hold("l", 1),))
    assert arrival.void == (Hold("j", 2), Hold("k", 1))


def test_an_offer_fits_a_frame_and_names_only_paths_of_this_server():
    grid = Grid(shape=(240, 240, 155), affine=np.diag([1.0, 1.0, 1.0, 1.0]) / 3)
    affine = tuple(float(x) for x in grid.affine.ravel())
    packed = PackedVolume(size=1, sha256="b" * 64, encoding="zstd", dtype="int16", shape=grid.shape, affine=affine)
    offer = Offer(
        job_id="j",
        fence=2,
        attempt=1,
        model=Model("compact", "1.0", "a" * 64),
        inputs=tuple(Input(role=role, artifact_id=f"art-{role}", packed=packed) for role in Sequence),
        grid=grid,
    )

    frame = encode(translate.to_offer(offer, epoch="e", token="t" * 200))

    assert len(frame) < MAX_FRAME_BYTES / 8
    message = decode_from_server(frame)
    assert [one.role for one in message.inputs] == ["T1", "T1CE", "T2", "FLAIR"]
    assert {one.url for one in message.inputs} == {f"/api/worker/artifacts/art-{role}" for role in Sequence}
    assert message.output.upload_url == "/api/worker/uploads/"
    assert message.output.grid.affine == affine
    assert message.model == MODEL


def test_the_verdicts_of_a_welcome_can_be_read_by_the_worker():
    verdicts = [(Hold(f"j{n}", 1), ruling) for n, ruling in enumerate(Ruling)]

    welcome = decode_from_server(encode(translate.to_welcome(session=1, epoch="e", verdicts=verdicts, re=1)))

    assert [one.verdict for one in welcome.resume] == ["keep", "revoke", "send_result", "already_done"]


def test_a_preview_loses_its_fence():
    preview = m.JobPreview(**AT, pseq=1, shape=(1, 1, 1), affine=tuple(np.eye(4).ravel().tolist()), labels="eJw=")

    assert "fence" not in translate.to_preview_news(preview)
    assert msgspec.json.encode(translate.to_preview_news(preview))
