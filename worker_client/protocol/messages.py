"""Every message of the worker's WebSocket (`seg.worker.v1`), one frozen struct each, one direction each.

A frame is one JSON object `{"t": ..., "id": ..., "re": ..., ...}`: `id` counts the sender's frames on this
connection, `re` names the frame that is answered. Fields are added with a default and never renamed; unknown
fields are ignored. Golden frames in tests/protocol pin the bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f]+\Z", max_length=128)]
Ulid = Annotated[str, msgspec.Meta(pattern=r"^[\w.:-]+\Z", max_length=64)]
Fence = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Percent = Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
Shape = Annotated[tuple[int, int, int], msgspec.Meta(description="X, Y, Z")]
StageName = Literal["fetch", "preprocess", "inference", "postprocess", "upload"]
Encoding = Literal["zstd", "gzip"]


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value inside a message."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="t"):
    """What every frame carries beside its own fields."""

    id: int = 0
    re: int | None = None


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────


class ModelName(Part, frozen=True, kw_only=True):
    """A model as both sides name it; the digest is that of its weights.

    `memory_mb` is what it needs of the device at its peak, 0 when nobody has said. `sequences` are those that it is
    made for, no more and no fewer; empty: all four.
    """

    name: Name
    version: Name
    sha256: Digest
    memory_mb: int = 0
    sequences: tuple[str, ...] = ()


class Software(Part, frozen=True, kw_only=True):
    """What runs on the worker, for the administrator to read."""

    version: str
    python: str = ""
    torch: str = ""
    monai: str = ""
    driver: str = ""
    system: str = ""


class Capabilities(Part, frozen=True, kw_only=True):
    """What the worker can do. `vram_mb` is 0 on a CPU."""

    device: str
    vram_mb: int = 0
    models: tuple[ModelName, ...] = ()
    labels: tuple[str, ...] = ()


class Held(Part, frozen=True, kw_only=True):
    """A job by its attempt: the pair that decides whose word counts."""

    job: Ulid
    fence: Fence


class Running(Held, frozen=True, kw_only=True):
    """A job that the worker is computing right now."""

    attempt: int = 1
    stage: StageName = "fetch"
    pct: Percent = 0.0


class Kept(Held, frozen=True, kw_only=True):
    """A finished answer in the worker's outbox that was never acknowledged."""

    kind: Literal["result", "failed"]
    sha256: str = ""
    epoch: str = ""


class Verdict(Held, frozen=True, kw_only=True):
    """What the server says of one running job or outbox entry."""

    verdict: Literal["keep", "revoke", "send_result", "already_done"]


class Limits(Part, frozen=True, kw_only=True):
    """What the server accepts: bytes a message, progress reports a second, bytes an artifact."""

    msg: int = 65536
    progress_hz: float = 4.0
    artifact_max: int = 268435456


class GpuLoad(Part, frozen=True, kw_only=True):
    """The device at this moment: `util` 0 to 1, memory in MB, temperature in degrees Celsius."""

    util: Fraction = 0.0
    mem_used: int = 0
    temp: float = 0.0


class GridSpec(Part, frozen=True, kw_only=True):
    """A grid: shape X, Y, Z and the affine by rows (16 numbers), voxel index to RAS+ mm."""

    shape: Shape
    affine: Annotated[tuple[float, ...], msgspec.Meta(min_length=16, max_length=16)]


class InputArtifact(Part, frozen=True, kw_only=True):
    """One sequence to fetch: compressed C-order little-endian voxels on a RAS+ grid. `url` is a path on the server."""

    role: Literal["T1", "T1CE", "T2", "FLAIR"]
    artifact: Ulid
    size: int
    sha256: Digest
    url: str
    encoding: Encoding
    dtype: Literal["int16", "float32"]
    grid: GridSpec


class Output(Part, frozen=True, kw_only=True):
    """Where the answer goes: the roles asked for, the path that takes uploads, and the grid the mask shall lie on."""

    roles: tuple[Literal["mask"], ...]
    upload_url: str
    grid: GridSpec


class ResultArtifact(Part, frozen=True, kw_only=True):
    """One uploaded file: `artifact` is the id that the upload was given; the mask is uint8 on the output's grid."""

    role: Literal["mask"]
    artifact: Ulid
    size: int
    sha256: Digest
    encoding: Encoding
    dtype: Literal["uint8"]
    grid: GridSpec


class AlignedPart(Part, frozen=True, kw_only=True):
    """How one sequence was brought to the reference: `matrix` (4x4 by rows, RAS+ mm), reference to sequence."""

    sequence: str
    method: str
    rotation_degrees: float = 0.0
    shift_mm: float = 0.0
    similarity: float | None = None
    matrix: Annotated[tuple[float, ...], msgspec.Meta(min_length=16, max_length=16)]


class BrainPart(Part, frozen=True, kw_only=True):
    """What the network was shown of the head, in mL."""

    method: str
    volume_ml: float


class Metrics(Part, frozen=True, kw_only=True):
    """How the analysis went: seconds by stage, volumes in mL by region, the model that ran, warnings in plain words."""

    stage_seconds: dict[str, float] = {}
    volumes_ml: dict[str, float] = {}
    model: ModelName | None = None
    device: str = ""
    warnings: tuple[str, ...] = ()
    alignment: Annotated[tuple[AlignedPart, ...], msgspec.Meta(max_length=8)] = ()
    brain: BrainPart | None = None


# ── server -> worker ────────────────────────────────────────────────────────────────────────────────────────────


class Challenge(Message, tag="challenge", frozen=True, kw_only=True):
    """Server -> worker: the first frame; sign `nonce` (base64, 32 bytes) within 10 seconds."""

    nonce: str
    server_time: float
    server_id: str
    min_version: str = ""


class Welcome(Message, tag="welcome", frozen=True, kw_only=True):
    """Server -> worker: signed in. `session` grows by one with every sign-in; `resume` answers what hello listed.

    `storage_origin` (`https://host[:port]`) is the one other place that a download may be sent on to; empty: none is.
    """

    session: int
    epoch: str
    hb_interval: float = 5.0
    lease_ttl: float = 20.0
    limits: Limits = Limits()
    resume: tuple[Verdict, ...] = ()
    features: tuple[str, ...] = ()
    storage_origin: str = ""


class JobOffer(Message, tag="job.offer", frozen=True, kw_only=True):
    """Server -> worker: a job that is already leased to this worker under `fence`; accept within 3 seconds."""

    job: Ulid
    fence: Fence
    attempt: int
    epoch: str
    lease_ttl: float
    deadline: float | None = None
    model: ModelName | None = None
    inputs: tuple[InputArtifact, ...] = ()
    output: Output
    data_token: str
    data_token_seconds: float = 900.0
    params: dict[str, str] = {}
    trace: str = ""


class HeartbeatOk(Message, tag="hb.ok", frozen=True, kw_only=True):
    """Server -> worker: the leases are renewed, except those in `lost`, which must stop."""

    server_time: float
    lost: tuple[Held, ...] = ()


class ResultOk(Message, tag="job.result.ok", frozen=True, kw_only=True):
    """Server -> worker: the answer is stored; the outbox entry may go. Also said to a duplicate."""

    job: Ulid
    fence: Fence
    result_id: str = ""


class ResultStale(Message, tag="job.result.stale", frozen=True, kw_only=True):
    """Server -> worker: the answer belongs to an attempt that no longer counts; the outbox entry may go."""

    job: Ulid
    fence: Fence
    result_id: str = ""


class JobCancel(Message, tag="job.cancel", frozen=True, kw_only=True):
    """Server -> worker: stop this job; said again until `job.cancelled` comes."""

    job: Ulid
    fence: Fence
    reason: str = ""
    grace_s: float = 5.0


class RotateKeyWanted(Message, tag="worker.rotate_key.wanted", frozen=True, kw_only=True):
    """Server -> worker: your key is old, or an administrator asks for a new one."""


class RotateKeyOk(Message, tag="worker.rotate_key.ok", frozen=True, kw_only=True):
    """Server -> worker: the new key counts; the old one does for `old_key_seconds` more."""

    public_key: str
    old_key_seconds: float = 600.0


class TokenRefreshOk(Message, tag="token.refresh.ok", frozen=True, kw_only=True):
    """Server -> worker: a new data token for a job that is still held."""

    job: Ulid
    fence: Fence
    data_token: str
    data_token_seconds: float = 900.0


# ── worker -> server ────────────────────────────────────────────────────────────────────────────────────────────


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    """Worker -> server: who I am, what I can do, what I am running and what I still owe: sign-in and reconcile."""

    worker_id: Ulid
    boot_id: Ulid
    sig: str
    software: Software
    caps: Capabilities
    slots: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    epoch: str = ""
    running: tuple[Running, ...] = ()
    outbox: tuple[Kept, ...] = ()
    features: tuple[str, ...] = ()


class Ready(Message, tag="ready", frozen=True, kw_only=True):
    """Worker -> server: how many more jobs I take (`credits`), and how busy I am.

    `free_mb` is the device's free memory, None when unknown; `cached` are the first 16 hex digits of the digests of
    the inputs that lie here already, newest first.
    """

    credits: Annotated[int, msgspec.Meta(ge=0, le=64)]
    load: Fraction = 0.0
    gpu: GpuLoad | None = None
    draining: bool = False
    free_mb: int | None = None
    cached: Annotated[tuple[str, ...], msgspec.Meta(max_length=256)] = ()


class JobAccept(Message, tag="job.accept", frozen=True, kw_only=True):
    """Worker -> server: I have started on it."""

    job: Ulid
    fence: Fence


class JobDecline(Message, tag="job.decline", frozen=True, kw_only=True):
    """Worker -> server: not me, not now; ask me again in `retry_after` seconds at the earliest."""

    job: Ulid
    fence: Fence
    reason: Literal["busy", "no_model", "vram", "draining"]
    retry_after: float = 10.0


class Heartbeat(Message, tag="hb", frozen=True, kw_only=True):
    """Worker -> server: alive; renews exactly the leases listed in `jobs`."""

    session: int
    load: Fraction = 0.0
    gpu: GpuLoad | None = None
    jobs: tuple[Held, ...] = ()


class JobProgress(Message, tag="job.progress", frozen=True, kw_only=True):
    """Worker -> server: how far the stage is, in per cent of the stage; newest only, may be lost."""

    job: Ulid
    fence: Fence
    pseq: int
    stage: StageName
    pct: Percent
    msg_code: str = ""
    eta: float | None = None


class JobPreview(Message, tag="job.preview", frozen=True, kw_only=True):
    """Worker -> server: the labels so far: uint8 C-order voxels, zlib, base64; at most 48 KiB and 2 Hz."""

    job: Ulid
    fence: Fence
    pseq: int
    shape: Shape
    affine: Annotated[tuple[float, ...], msgspec.Meta(min_length=16, max_length=16)]
    labels: str


class JobResult(Message, tag="job.result", frozen=True, kw_only=True):
    """Worker -> server: finished, and every artifact is uploaded. Said again until it is acknowledged."""

    job: Ulid
    fence: Fence
    epoch: str
    result_id: Ulid
    artifacts: tuple[ResultArtifact, ...]
    metrics: Metrics = Metrics()


class JobFailed(Message, tag="job.failed", frozen=True, kw_only=True):
    """Worker -> server: it cannot be done (`retryable` false) or not by this attempt. `detail` names no patient."""

    job: Ulid
    fence: Fence
    epoch: str
    code: Literal["input_invalid", "oom", "model_error", "internal"]
    retryable: bool
    detail: str = ""


class JobCancelled(Message, tag="job.cancelled", frozen=True, kw_only=True):
    """Worker -> server: stopped as asked."""

    job: Ulid
    fence: Fence


class JobRelease(Message, tag="job.release", frozen=True, kw_only=True):
    """Worker -> server: I give it back unfinished, so that nobody waits for the lease."""

    job: Ulid
    fence: Fence
    reason: Literal["shutdown", "oom_guard", "owner"]


class RotateKey(Message, tag="worker.rotate_key", frozen=True, kw_only=True):
    """Worker -> server: my new key (base64, 32 bytes), signed by the old one (`sig`) and by itself (`proof`)."""

    public_key: str
    sig: str
    proof: str


class TokenRefresh(Message, tag="token.refresh", frozen=True, kw_only=True):
    """Worker -> server: my data token runs out before I am done."""

    job: Ulid
    fence: Fence


# ── both directions ─────────────────────────────────────────────────────────────────────────────────────────────


class Drain(Message, tag="drain", frozen=True, kw_only=True):
    """Both ways: no new offers from now on; `deadline` in seconds from now, if there is one.

    `is_over`: the server takes it back, and offers are welcome again.
    """

    deadline: float | None = None
    is_over: bool = False


class Error(Message, tag="error", frozen=True, kw_only=True):
    """Both ways: a frame could not be served. `temporary`: the same may succeed later."""

    code: str
    temporary: bool = False
    detail: str = ""
    supported: tuple[str, ...] = ()


class Bye(Message, tag="bye", frozen=True, kw_only=True):
    """Both ways: the last frame before a close, since the close frame's reason does not arrive (Daphne drops it)."""

    code: int
    reason: str
    reconnect: bool = True
    retry_after_s: float = 0.0
    jitter_s: float = 0.0


class Ping(Message, tag="ping", frozen=True, kw_only=True):
    """Both ways: answer with the same `ts`."""

    ts: float


class Pong(Message, tag="pong", frozen=True, kw_only=True):
    """Both ways: the answer to a ping."""

    ts: float


FromServer = (
    Challenge
    | Welcome
    | JobOffer
    | HeartbeatOk
    | ResultOk
    | ResultStale
    | JobCancel
    | TokenRefreshOk
    | RotateKeyWanted
    | RotateKeyOk
    | Drain
    | Error
    | Bye
    | Ping
    | Pong
)
FromWorker = (
    Hello
    | Ready
    | JobAccept
    | JobDecline
    | Heartbeat
    | JobProgress
    | JobPreview
    | JobResult
    | JobFailed
    | JobCancelled
    | JobRelease
    | TokenRefresh
    | RotateKey
    | Drain
    | Error
    | Bye
    | Ping
    | Pong
)
