"""Wire values to the analysis's values and back. Pure.

Flow: 6 run
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np

from inference.contract import Alignment, Grid, InputFile, ModelRef, Order, Outcome, PackedVolume, Preview, Sequence
from inference.errors import InferenceError
from worker_client.answers import Failure, Key, Result
from worker_client.errors import ForeignPath, TransferError
from worker_client.protocol.messages import (
    AlignedPart,
    BrainPart,
    Encoding,
    GridSpec,
    InputArtifact,
    JobOffer,
    JobPreview,
    Metrics,
    ModelName,
)

MAX_PREVIEW_TEXT_BYTES = 48 * 1024
MAX_DETAIL = 500


def key_of(offer: JobOffer) -> Key:
    """The attempt that an offer is for."""
    return Key(offer.job, offer.fence)


def grid_of(spec: GridSpec) -> Grid:
    """A grid as the analysis knows it."""
    return Grid(shape=spec.shape, affine=np.asarray(spec.affine, dtype=np.float64).reshape(4, 4))


def packed_of(item: InputArtifact) -> PackedVolume:
    """The facts of one input's file."""
    return PackedVolume(
        size=item.size,
        sha256=item.sha256,
        encoding=item.encoding,
        dtype=item.dtype,
        shape=item.grid.shape,
        affine=item.grid.affine,
    )


def model_name(model: ModelRef, *, memory_mb: int = 0, sequences: Iterable[Sequence] = Sequence) -> ModelName:
    """A model as both sides name it. `memory_mb` is what it needs at its peak, where that matters."""
    needed = frozenset(sequences)
    return ModelName(
        name=model.name,
        version=model.version,
        sha256=model.sha256,
        memory_mb=memory_mb,
        sequences=() if needed == frozenset(Sequence) else tuple(str(one) for one in Sequence if one in needed),
    )


def order_of(offer: JobOffer, *, files: Mapping[str, Path], output: Path) -> Order:
    """The analysis that an offer asks for; `files` are its inputs by sha256."""
    inputs = tuple(
        InputFile(role=Sequence(item.role), path=files[item.sha256], packed=packed_of(item)) for item in offer.inputs
    )
    asked = offer.model
    model = None if asked is None else ModelRef(name=asked.name, version=asked.version, sha256=asked.sha256)
    key = key_of(offer)
    return Order(
        id=f"{key.job}.{key.fence}", inputs=inputs, grid=grid_of(offer.output.grid), model=model, output=output
    )


def result_of(offer: JobOffer, outcome: Outcome, *, result_id: str, device: str) -> Result:
    """The answer that an outcome makes."""
    mask = outcome.mask
    return Result(
        job=offer.job,
        fence=offer.fence,
        epoch=offer.epoch,
        result_id=result_id,
        upload_url=offer.output.upload_url,
        size=mask.size,
        sha256=mask.sha256,
        encoding=cast(Encoding, mask.encoding),
        grid=GridSpec(shape=mask.shape, affine=mask.affine),
        metrics=Metrics(
            stage_seconds={str(stage): round(seconds, 3) for stage, seconds in outcome.stage_seconds.items()},
            volumes_ml={str(region): round(volume, 4) for region, volume in outcome.volumes_ml.items()},
            model=model_name(outcome.model),
            device=device,
            warnings=tuple(warning[:MAX_DETAIL] for warning in outcome.warnings[:20]),
            alignment=tuple(_aligned(part) for part in outcome.alignment),
            brain=None
            if outcome.brain is None
            else BrainPart(method=outcome.brain.method, volume_ml=round(outcome.brain.volume_ml, 1)),
        ),
    )


def _aligned(part: Alignment) -> AlignedPart:
    return AlignedPart(
        sequence=str(part.sequence),
        method=part.method,
        rotation_degrees=round(part.rotation_degrees, 3),
        shift_mm=round(part.shift_mm, 3),
        similarity=None if part.similarity is None else round(part.similarity, 4),
        matrix=tuple(round(number, 6) for number in part.matrix),
    )


def failure_of(offer: JobOffer, error: BaseException) -> Failure:
    """The answer that an error makes.

    An analysis error brings its own sentence, which names no patient and no path. Anything unforeseen is told by
    its kind alone, since its text may hold anything, and may be tried again: another machine may do better.
    """
    code, retryable, detail = "internal", True, f"The worker failed unexpectedly ({type(error).__name__})."
    if isinstance(error, InferenceError):
        code, retryable, detail = error.family, error.retryable, str(error)
    elif isinstance(error, ForeignPath):
        code, retryable, detail = "input_invalid", False, "The offer named an address outside the server."
    elif isinstance(error, TransferError):
        detail = str(error)
    elif isinstance(error, MemoryError):
        code, detail = "oom", "The worker ran out of memory."
    elif isinstance(error, OSError):
        detail = f"The worker's disk or system failed ({error.strerror or type(error).__name__})."
    return Failure(
        job=offer.job,
        fence=offer.fence,
        epoch=offer.epoch,
        code=code,  # type: ignore[arg-type]  # InferenceError.family holds exactly the wire's codes
        retryable=retryable,
        detail=detail[:MAX_DETAIL],
    )


def preview_of(key: Key, preview: Preview) -> JobPreview:
    """A preview that fits into a frame: every n-th voxel, n as small as the 48 KiB allow."""
    labels, affine = np.asarray(preview.labels, dtype=np.uint8), np.asarray(preview.grid.affine, dtype=np.float64)
    step = 1
    while True:
        thin = np.ascontiguousarray(labels[::step, ::step, ::step])
        text = base64.b64encode(zlib.compress(thin.tobytes(), 6)).decode()
        if len(text) <= MAX_PREVIEW_TEXT_BYTES:
            break
        step += 1
    scaled = affine @ np.diag([step, step, step, 1.0])
    x, y, z = thin.shape
    numbers = tuple(float(number) for number in scaled.ravel())
    return JobPreview(job=key.job, fence=key.fence, pseq=0, shape=(x, y, z), affine=numbers, labels=text)
