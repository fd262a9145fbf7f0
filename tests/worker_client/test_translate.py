"""Wire values to the analysis's values and back."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import numpy as np
import pytest

from inference.contract import Grid, ModelRef, Outcome, PackedVolume, Preview, Region, Stage
from inference.errors import Cancelled, ChildDied, InputInvalid, ModelMissing, OutOfMemory
from tests.worker_client.builders import GRID, IDENTITY, KEY, MODEL, an_offer
from worker_client.errors import DigestMismatch, ForeignPath
from worker_client.protocol.codec import MAX_FRAME_BYTES, encode
from worker_client.translate import failure_of, grid_of, order_of, preview_of, result_of


def test_an_offer_becomes_an_order_with_every_file_in_its_place():
    offer = an_offer()

    order = order_of(offer, files={"b" * 64: Path("/cache/b")}, output=Path("/work/mask"))

    assert order.id == "01JOB.1"
    assert [item.role.value for item in order.inputs] == ["T1", "T1CE", "T2", "FLAIR"]
    assert order.inputs[0].packed.raw_bytes == 4 * 5 * 6 * 2
    assert order.model == ModelRef(MODEL.name, MODEL.version, MODEL.sha256)


def test_the_affine_keeps_its_rows():
    spec = type(GRID)(shape=(2, 2, 2), affine=tuple(float(n) for n in range(16)))

    assert grid_of(spec).affine[0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_an_outcome_becomes_a_result_that_names_model_volumes_and_times():
    mask = PackedVolume(size=9, sha256="c" * 64, encoding="gzip", dtype="uint8", shape=(4, 5, 6), affine=IDENTITY)
    outcome = Outcome(
        mask=mask,
        model=ModelRef(MODEL.name, MODEL.version, MODEL.sha256),
        volumes_ml={Region.WT: 12.34567},
        stage_seconds={Stage.INFERENCE: 1.23456},
        warnings=("thick slices",),
    )

    result = result_of(an_offer(), outcome, result_id="r", device="cuda:0")

    assert (result.encoding, result.size, result.grid) == ("gzip", 9, GRID)
    assert result.metrics.volumes_ml == {"WT": 12.3457}
    assert result.metrics.stage_seconds == {"inference": 1.235}
    assert result.metrics.model == MODEL
    assert result.epoch == "epoch-1"


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (InputInvalid("empty", "It is empty."), "input_invalid", False),
        (ModelMissing("x"), "model_error", False),
        (OutOfMemory("Too large."), "oom", True),
        (ChildDied("It died."), "internal", True),
        (Cancelled(), "internal", False),
        (ForeignPath("http://evil/x"), "input_invalid", False),
        (DigestMismatch("a"), "internal", True),
        (MemoryError(), "oom", True),
        (OSError(28, "No space left on device"), "internal", True),
        (KeyError("anything"), "internal", True),
    ],
)
def test_every_error_has_a_code_of_the_wire_and_says_whether_another_try_may_help(error, code, retryable):
    failure = failure_of(an_offer(), error)

    assert (failure.code, failure.retryable) == (code, retryable)
    assert encode(failure.as_message())


@pytest.mark.parametrize(
    "error", [OSError(2, "No such file", "/home/patient"), ValueError("Doe, John"), ForeignPath("x")]
)
def test_no_path_or_name_gets_into_the_sentence(error):
    detail = failure_of(an_offer(), error).detail

    assert "/home" not in detail
    assert "Doe" not in detail


def test_a_small_preview_travels_as_it_is():
    labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)

    preview = preview_of(KEY, Preview(labels=labels, grid=Grid((2, 3, 4), np.diag([2.0, 2.0, 2.0, 1.0]))))

    voxels = np.frombuffer(zlib.decompress(base64.b64decode(preview.labels)), np.uint8).reshape(preview.shape)
    assert np.array_equal(voxels, labels)
    assert preview.affine[0] == 2.0


def test_a_preview_too_large_for_a_frame_is_thinned_and_stays_in_place():
    noise = np.random.default_rng(1).integers(0, 4, (96, 96, 96)).astype(np.uint8)
    affine = np.array([[1.0, 0, 0, -10], [0, 1, 0, -20], [0, 0, 3, -30], [0, 0, 0, 1]])

    preview = preview_of(KEY, Preview(labels=noise, grid=Grid((96, 96, 96), affine)))

    step = round(preview.affine[0])
    voxels = np.frombuffer(zlib.decompress(base64.b64decode(preview.labels)), np.uint8).reshape(preview.shape)
    assert len(encode(preview)) < MAX_FRAME_BYTES
    assert len(preview.labels) <= 48 * 1024
    assert np.array_equal(voxels, noise[::step, ::step, ::step])
    assert (preview.affine[3], preview.affine[7], preview.affine[11]) == (-10.0, -20.0, -30.0)
    assert preview.affine[10] == 3.0 * step
