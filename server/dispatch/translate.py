"""Between the wire's words and the rules' words; pure.

Flow: 4 push
"""

from collections.abc import Iterable
from collections.abc import Sequence as Ordered
from datetime import datetime
from typing import Any

from django.conf import settings

from inference.contract import Grid, ModelRef, PackedVolume, Sequence, Stage
from server.core.events import Failed, Faltered, Finished, Progressed, Started, WorkerEvent
from server.core.reconcile import Hold, Ruling
from server.core.scheduler import Model
from server.dispatch.keys import DataClaim
from server.dispatch.selectors import Offer
from server.dispatch.sessions import Arrival, Pulse
from server.imaging import storage
from worker_client.protocol import messages as wire
from worker_client.protocol.identity import ARTIFACTS_PATH, UPLOADS_PATH

NEVER_RETRIED = frozenset({"input_invalid"})
LONGEST_SKIP_SECONDS = 600.0
LONGEST_ETA_SECONDS = 7 * 24 * 3600.0
DETAIL_LENGTH = 500
DEVICE_LENGTH = 128
LABEL_LENGTH = 64
MOST_LABELS = 32
VERSION_LENGTH = 64
CACHED_LENGTH = 16
MOST_PROGRESS_HZ = 4.0
LEAST_PROGRESS_HZ = 0.2
MOST_MEGABYTES = 2**31 - 1

Report = wire.JobAccept | wire.JobDecline | wire.JobProgress | wire.JobResult | wire.JobFailed | wire.JobRelease


def to_event(report: Report, *, worker_id: str, at: datetime) -> WorkerEvent:
    """What a worker's message means for the job."""
    said: dict[str, Any] = {"at": at, "fence": report.fence, "worker_id": worker_id}
    match report:
        case wire.JobAccept():
            return Started(**said)
        case wire.JobDecline(reason=reason, retry_after=seconds):
            skip = min(max(seconds, 1.0), LONGEST_SKIP_SECONDS)
            return Faltered(**said, code=reason, is_declined=True, skip_seconds=skip)
        case wire.JobProgress(stage=stage, pct=percent, eta=eta):
            left = None if eta is None else min(max(0.0, eta), LONGEST_ETA_SECONDS)
            return Progressed(**said, stage=Stage(stage), fraction=percent / 100.0, eta_seconds=left)
        case wire.JobResult(result_id=result_id):
            return Finished(**said, result_id=result_id)
        case wire.JobRelease(reason=reason):
            return Faltered(**said, code=reason)
        case wire.JobFailed(code=code, detail=detail):
            is_final = not report.retryable or code in NEVER_RETRIED
            kind = Failed if is_final else Faltered
            return kind(**said, code=code, detail=_plain(detail, DETAIL_LENGTH))


def to_arrival(hello: wire.Hello, *, epoch: str) -> Arrival:
    """Who comes with what. What was held in another life of the database is void: its fences are given out anew."""
    is_of_old = bool(hello.epoch) and hello.epoch != epoch
    running = _holds(hello.running)
    outbox = _holds(kept for kept in hello.outbox if kept.epoch in {"", epoch})
    void = _holds(kept for kept in hello.outbox if kept.epoch not in {"", epoch})
    return Arrival(
        worker_id=hello.worker_id,
        boot_id=hello.boot_id,
        slots=hello.slots,
        models=tuple(to_model(model) for model in hello.caps.models),
        device=_plain(hello.caps.device, DEVICE_LENGTH),
        vram_mb=_megabytes(hello.caps.vram_mb),
        software=_software(hello.software),
        running=() if is_of_old else running,
        outbox=outbox,
        void=(*running, *void) if is_of_old else void,
        labels=tuple(_plain(label, LABEL_LENGTH) for label in hello.caps.labels[:MOST_LABELS]),
        memory_mb={model.sha256: _megabytes(model.memory_mb) for model in hello.caps.models},
    )


def to_pulse(message: wire.Ready | wire.Heartbeat, *, rtt_ms: float | None = None) -> Pulse:
    """How busy the machine is."""
    gpu = message.gpu
    figures = {"util": gpu.util, "mem_used": gpu.mem_used, "temp": gpu.temp} if gpu else None
    if isinstance(message, wire.Heartbeat):
        return Pulse(load=message.load, gpu=figures, rtt_ms=rtt_ms)
    free_mb = None if message.free_mb is None else _megabytes(message.free_mb)
    return Pulse(
        load=message.load,
        gpu=figures,
        free_mb=free_mb,
        cached=tuple(_plain(one, CACHED_LENGTH) for one in message.cached),
    )


def to_holds(held: Iterable[wire.Held]) -> tuple[Hold, ...]:
    """The attempts a worker lists."""
    return _holds(held)


def to_offer(offer: Offer, *, epoch: str, token: str) -> wire.JobOffer:
    """The offer as it goes out; it names no patient, and its paths lie on this server."""
    return wire.JobOffer(
        job=offer.job_id,
        fence=offer.fence,
        attempt=offer.attempt,
        epoch=epoch,
        lease_ttl=settings.POLICY.lease_seconds,
        deadline=settings.POLICY.offer_seconds,
        model=from_model(offer.model) if offer.model else None,
        inputs=tuple(
            wire.InputArtifact(
                role=str(one.role),
                artifact=one.artifact_id,
                size=one.packed.size,
                sha256=one.packed.sha256,
                url=f"{ARTIFACTS_PATH}{one.artifact_id}",
                encoding=one.packed.encoding,
                dtype=one.packed.dtype,
                grid=to_grid_spec(one.packed.grid),
            )
            for one in offer.inputs
        ),
        output=wire.Output(roles=("mask",), upload_url=UPLOADS_PATH, grid=to_grid_spec(offer.grid)),
        data_token=token,
        data_token_seconds=settings.LIMITS.data_token_seconds,
        trace=offer.job_id,
    )


def to_claim(offer: Offer, *, worker_id: str) -> DataClaim:
    """What the data token of an offer opens: its own inputs, and a place for its mask."""
    artifacts = tuple(one.artifact_id for one in offer.inputs)
    return DataClaim(job=offer.job_id, fence=offer.fence, worker=worker_id, artifacts=artifacts)


def to_welcome(
    *, session: int, epoch: str, verdicts: Ordered[tuple[Hold, Ruling]], re: int | None, slots: int = 1
) -> wire.Welcome:
    """The answer to hello."""
    limits = wire.Limits(
        msg=settings.LIMITS.control_message_bytes,
        progress_hz=progress_hz(slots),
        artifact_max=settings.LIMITS.artifact_bytes,
    )
    return wire.Welcome(
        re=re,
        session=session,
        epoch=epoch,
        hb_interval=settings.POLICY.heartbeat_seconds,
        lease_ttl=settings.POLICY.lease_seconds,
        limits=limits,
        resume=tuple(wire.Verdict(job=hold.job_id, fence=hold.fence, verdict=str(ruling)) for hold, ruling in verdicts),
        features=("preview",),
        storage_origin=storage.origin(),
    )


def progress_hz(slots: int) -> float:
    """How often a second a worker may report on each job, so that all its slots together stay below the rate."""
    share = settings.LIMITS.socket_messages_per_second / 2.0 / max(slots, 1)
    return min(MOST_PROGRESS_HZ, max(LEAST_PROGRESS_HZ, share))


def to_packed(artifact: wire.ResultArtifact) -> PackedVolume:
    """A worker's mask as the analysis knows it."""
    return PackedVolume(
        size=artifact.size,
        sha256=artifact.sha256,
        encoding=artifact.encoding,
        dtype=artifact.dtype,
        shape=artifact.grid.shape,
        affine=artifact.grid.affine,
    )


def to_preview_news(preview: wire.JobPreview) -> dict[str, Any]:
    """The labels so far for watchers; the fence stays here."""
    return {
        "job": preview.job,
        "pseq": preview.pseq,
        "shape": list(preview.shape),
        "affine": list(preview.affine),
        "labels": preview.labels,
    }


def to_metrics(metrics: wire.Metrics) -> dict[str, Any]:
    """What the report says of the run."""
    return {
        "stage_seconds": dict(metrics.stage_seconds),
        "volumes_ml": dict(metrics.volumes_ml),
        "device": _plain(metrics.device, DEVICE_LENGTH),
        "warnings": [_plain(warning, DETAIL_LENGTH) for warning in metrics.warnings[:MOST_LABELS]],
        "alignment": [_aligned(part) for part in metrics.alignment],
        "brain": None
        if metrics.brain is None
        else {"method": _plain(metrics.brain.method, LABEL_LENGTH), "volume_ml": metrics.brain.volume_ml},
    }


def _aligned(part: wire.AlignedPart) -> dict[str, Any]:
    return {
        "sequence": _plain(part.sequence, LABEL_LENGTH),
        "method": _plain(part.method, LABEL_LENGTH),
        "rotation_degrees": part.rotation_degrees,
        "shift_mm": part.shift_mm,
        "similarity": part.similarity,
        "matrix": list(part.matrix),
    }


def to_model(name: wire.ModelName) -> Model:
    """A model as the scheduler knows it."""
    return Model(name=name.name, version=name.version, sha256=name.sha256, sequences=_sequences(name.sequences))


def to_model_ref(name: wire.ModelName) -> ModelRef:
    """A model as the report names it."""
    return ModelRef(name=name.name, version=name.version, sha256=name.sha256)


def from_model(model: Model) -> wire.ModelName:
    """A model as the wire names it."""
    return wire.ModelName(name=model.name, version=model.version, sha256=model.sha256)


def from_holds(holds: Iterable[Hold]) -> tuple[wire.Held, ...]:
    """Attempts for the wire."""
    return tuple(wire.Held(job=hold.job_id, fence=hold.fence) for hold in holds)


def to_grid_spec(grid: Grid) -> wire.GridSpec:
    """A grid for the wire: 4x4 by rows."""
    return wire.GridSpec(shape=grid.shape, affine=tuple(float(number) for number in grid.affine.ravel()))


def _holds(held: Iterable[wire.Held]) -> tuple[Hold, ...]:
    return tuple(Hold(one.job, one.fence) for one in held)


def _sequences(named: tuple[str, ...]) -> frozenset[str]:
    """What a model is made for, as the rules say it: nothing stands for all four."""
    found = frozenset(_plain(one, LABEL_LENGTH) for one in named[:MOST_LABELS])
    return frozenset() if found == frozenset(map(str, Sequence)) else found


def _software(software: wire.Software) -> dict[str, str]:
    versions = {"segwire": software.version, "python": software.python, "torch": software.torch}
    versions |= {"monai": software.monai, "driver": software.driver, "system": software.system}
    return {name: _plain(version, VERSION_LENGTH) for name, version in versions.items()}


def _plain(text: str, length: int) -> str:
    """What a worker wrote, fit for a row: PostgreSQL takes no NUL and nothing longer than its column."""
    return "".join(letter for letter in text if letter.isprintable())[:length]


def _megabytes(number: int) -> int:
    return min(max(0, number), MOST_MEGABYTES)
