"""The answers of the jobs API, for its document; contract.md names every field."""

from datetime import date, datetime
from typing import Literal

from ninja import Schema


class ErrorOut(Schema):
    """Why a job failed: a stable code and a sentence for the user."""

    code: str
    message: str


class VolumesOut(Schema):
    """Millilitres: whole tumour, tumour core, enhancing tumour."""

    WT: float
    TC: float
    ET: float


class GrownOut(Schema):
    """What a region grew by, in millilitres and in per cent of what it was; null where it was nothing."""

    ml: float
    percent: float | None


class ChangeOut(Schema):
    """What each region grew by since the patient's earlier study of that date."""

    WT: GrownOut | None = None
    TC: GrownOut | None = None
    ET: GrownOut | None = None
    since: date


class ResultOut(Schema):
    """Where the results are. `sha256` is that of mask.nii.gz; `seg_url`, `sr_url` and `key_image_urls` are null or
    empty when the input was not DICOM or, like `pdf_url`, when the file could not be made: the report says why."""

    mask_url: str
    seg_url: str | None
    report_url: str
    sr_url: str | None
    pdf_url: str | None
    key_image_urls: list[str]
    sha256: str
    volumes_ml: VolumesOut
    change: ChangeOut | None


class JobOut(Schema):
    """A job at one moment. `progress` is 0 to 1 over the whole job; `queue_position` 1 is next.

    `sequences` says which sequence each of `sequence_series_ids` is; `warnings` what was doubtful about them."""

    id: str
    state: Literal["queued", "leased", "running", "succeeded", "failed", "cancelled"]
    route: Literal["lab", "server"]
    stage: Literal["fetch", "preprocess", "inference", "postprocess", "upload"] | None
    progress: float
    eta_seconds: float | None
    queue_position: int | None
    waiting_reason: Literal["no_worker", "all_busy", "model_missing"] | None
    worker: str | None
    model: str | None
    model_version: str | None
    attempt: int
    series_id: str
    sequence_series_ids: list[str]
    sequences: list[str]
    missing_sequences: list[str]
    warnings: list[str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: ErrorOut | None
    result: ResultOut | None
    epoch: str
    seq: int


class JobsOut(Schema):
    """Jobs, newest first."""

    jobs: list[JobOut]


class EventOut(Schema):
    """One durable change and the job right after it."""

    seq: int
    type: str
    at: datetime
    job: JobOut


class EventsOut(Schema):
    """What happened; `seq` is where to go on from. Not `recovered`: the log was trimmed, read the job anew."""

    epoch: str
    seq: int
    recovered: bool = True
    events: list[EventOut]
