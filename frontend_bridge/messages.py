"""Every message of the browser's WebSocket, one frozen struct each, one direction each.

A stricter vocabulary than the worker's: nothing here has a place for a lease, a fence, a token, a path on disk or
a worker's key, so none can be sent by mistake. Fields are added with a default and never renamed; unknown fields of
a browser's frame are ignored.

Flow: 9 browser
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

# \Z and not $, which would let a line feed at the end pass.
TopicName = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,16}(:[A-Za-z0-9_-]{1,48})?\Z")]
FrameId = Annotated[str, msgspec.Meta(max_length=64)] | int
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
ApiPath = Annotated[str, msgspec.Meta(pattern="^/api/")]
State = Literal["queued", "leased", "running", "succeeded", "failed", "cancelled"]
StageName = Literal["fetch", "preprocess", "inference", "postprocess", "upload"]
WaitingReason = Literal["no_worker", "all_busy", "model_missing"]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A value inside a message: exactly what a browser may know of a thing, and nothing else."""


class Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    """One JSON object `{"t": ...}` to a browser. `id` is that of the `sub` it belongs to, when the browser gave one."""

    id: FrameId | UnsetType = UNSET


class Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    """One JSON object `{"t": ...}` from a browser."""


# ── browser -> server ───────────────────────────────────────────────────────────────────────────────────────────


class Auth(Request, tag="auth", kw_only=True):
    """Browser -> server: a single-use ticket instead of a session cookie; only as the first frame."""

    ticket: Annotated[str, msgspec.Meta(max_length=512)]


class Sub(Request, tag="sub", kw_only=True):
    """Browser -> server: follow a topic; `epoch` and `seq` say what is known already, `mask` how the result comes."""

    topic: TopicName
    epoch: str | None = None
    seq: Seq | None = None
    id: FrameId | UnsetType = UNSET
    mask: Literal["push", "url"] = "push"


class Unsub(Request, tag="unsub", kw_only=True):
    """Browser -> server: no more of this topic; without one, of any."""

    topic: TopicName | None = None


class Ping(Request, tag="ping", kw_only=True):
    """Browser -> server: answered with a pong that carries the same `ts`."""

    ts: float | None = None


class Pong(Request, tag="pong", kw_only=True):
    """Browser -> server: the answer to the server's ping."""

    ts: float | None = None


FromBrowser = Auth | Sub | Unsub | Ping | Pong


# ── what a browser may know ─────────────────────────────────────────────────────────────────────────────────────


class Failure(View, kw_only=True):
    """Why a job failed: a stable code and a safe sentence."""

    code: str
    message: str


class Volumes(View, kw_only=True):
    """Volumes in mL of the nested regions: whole tumour, tumour core, enhancing tumour."""

    WT: float
    TC: float
    ET: float


class Grown(View, kw_only=True):
    """How much a region grew since the earlier study; no per cent where there was nothing."""

    ml: float
    percent: float | None = None


class Change(View, kw_only=True):
    """Against the patient's earlier result, whose study is of `since` (YYYY-MM-DD)."""

    since: str | None = None
    WT: Grown | None = None
    TC: Grown | None = None
    ET: Grown | None = None


class Result(View, kw_only=True):
    """Where a finished job's files are, and its figures. `sha256` is that of the gzip NIfTI label mask."""

    mask_url: ApiPath
    seg_url: ApiPath | None = None
    report_url: ApiPath | None = None
    sr_url: ApiPath | None = None
    pdf_url: ApiPath | None = None
    key_image_urls: tuple[ApiPath, ...] = ()
    sha256: Digest
    volumes_ml: Volumes
    change: Change | None = None


class JobView(View, kw_only=True):
    """A job as contract.md shows it: `progress` 0 to 1 over the whole job, times ISO 8601 in UTC."""

    id: str
    state: State
    route: Literal["lab", "server"]
    stage: StageName | None = None
    progress: Fraction = 0.0
    eta_seconds: float | None = None
    queue_position: int | None = None
    waiting_reason: WaitingReason | None = None
    worker: str | None = None
    model: str | None = None
    model_version: str | None = None
    attempt: int = 0
    series_id: str
    sequence_series_ids: tuple[str, ...]
    sequences: tuple[str, ...] = ()
    missing_sequences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    error: Failure | None = None
    result: Result | None = None
    epoch: str
    seq: Seq


class StudyView(View, kw_only=True):
    """A study as its topic shows it: its jobs, newest first; images are fetched over HTTP."""

    id: str
    jobs: tuple[JobView, ...] = ()


class HeldJob(View, kw_only=True):
    """A job as the administrator's table of workers shows it."""

    job: str
    stage: StageName | None = None
    progress: Fraction = 0.0


class WorkerView(View, kw_only=True):
    """A worker as the administrator sees it; its key, address and tokens have no place here."""

    id: str
    name: str
    state: str
    route: str
    device: str = ""
    models: tuple[str, ...] = ()
    slots: int = 0
    credits: int = 0
    jobs: tuple[HeldJob, ...] = ()
    last_seen: str | None = None
    rtt_ms: float | None = None
    software: str = ""
    connected: bool = False
    transport: str = ""
    draining: bool = False
    labels: tuple[str, ...] = ()


class WorkersView(View, kw_only=True):
    """All workers."""

    workers: tuple[WorkerView, ...] = ()


# ── server -> browser ───────────────────────────────────────────────────────────────────────────────────────────


class SubOk(Frame, tag="sub.ok", kw_only=True):
    """Server -> browser: subscribed. Events follow from `seq` + 1 on; `snapshot` is the newest state.

    `recovered`: the browser's own position holds, and nothing between it and now is missing from what follows.
    """

    topic: str
    epoch: str
    seq: Seq
    recovered: bool
    snapshot: JobView | StudyView | WorkersView


class JobEvent(Frame, tag="event", kw_only=True):
    """Server -> browser: a durable change of a job, in order and without gaps."""

    topic: str
    seq: Seq
    type: str
    job: JobView


class StudyEvent(Frame, tag="event", kw_only=True):
    """Server -> browser: a durable change of a study; `series` or `job` names what it is about."""

    topic: str
    seq: Seq
    type: str
    series: str | None = None
    job: str | None = None


class WorkerEvent(Frame, tag="event", kw_only=True):
    """Server -> browser: a durable change of a worker, as it is now; None when it is gone."""

    topic: str
    seq: Seq
    type: str
    worker: WorkerView | None = None


class Progress(Frame, tag="progress", kw_only=True):
    """Server -> browser: how far a job is; newest only, at most 4 a second."""

    topic: str
    stage: StageName | None = None
    progress: Fraction | None = None
    eta_seconds: float | None = None
    queue_position: int | None = None


class Preview(Frame, tag="preview", kw_only=True):
    """Server -> browser: the labels so far: uint8 in C order (X, Y, Z), RAS+ affine by rows, deflated, base64."""

    topic: str
    pseq: int
    shape: tuple[int, int, int]
    affine: Annotated[tuple[float, ...], msgspec.Meta(min_length=16, max_length=16)]
    labels: Annotated[str, msgspec.Meta(max_length=49152)]


class Telemetry(Frame, tag="telemetry", kw_only=True):
    """Server -> browser (staff): one worker's newest figures."""

    topic: str
    worker: WorkerView


class MaskBegin(Frame, tag="mask.begin", kw_only=True):
    """Server -> browser: `frames` binary frames with `size` bytes in all follow."""

    job: str
    size: int
    sha256: Digest
    frames: int
    format: Literal["nii.gz"] = "nii.gz"


class MaskEnd(Frame, tag="mask.end", kw_only=True):
    """Server -> browser: the mask is complete."""

    job: str


class ServerPing(Frame, tag="ping", kw_only=True):
    """Server -> browser: are you reading? Only sent to browsers that ping themselves."""

    ts: float


class ServerPong(Frame, tag="pong", kw_only=True):
    """Server -> browser: the answer to a ping."""

    ts: float | None = None


class Error(Frame, tag="error", kw_only=True):
    """Server -> browser: a frame could not be served; the socket stays open."""

    code: str
    detail: str
    topic: str | None = None


class Bye(Frame, tag="bye", kw_only=True):
    """Server -> browser: the last frame before every close, since the close frame's reason does not arrive."""

    code: int
    reason: str
    reconnect: bool
    retry_after_s: float = 0.0


_decoder = msgspec.json.Decoder(FromBrowser)
_encoder = msgspec.json.Encoder()


def decode(text: str) -> FromBrowser:
    """Read a browser's frame.

    Raises:
        msgspec.DecodeError: not JSON, an unknown type, or a field of the wrong kind (ValidationError).
    """
    try:
        return _decoder.decode(text)
    except RecursionError as error:  # an unknown field is skipped, however deep it is
        raise msgspec.DecodeError("The frame is nested too deep.") from error


def encode(frame: Frame) -> str:
    """Write a frame for a browser."""
    return _encoder.encode(frame).decode()


def view_of(kind: type[Any], value: Any) -> Any:
    """Turn a plain value into a view; what the view has no field for is left out.

    Raises:
        msgspec.ValidationError: a field is missing or of the wrong kind.
    """
    return msgspec.convert(value, kind, strict=True)
