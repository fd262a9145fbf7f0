"""One sample of every wire message, with every field that can be set."""

from worker_client.protocol import messages as m

DIGEST = "ab" * 32
JOB = "01JD0000000000000000000000"
ROW = (1.0, 0.0, 0.0, -90.0, 0.0, 1.0, 0.0, -126.0, 0.0, 0.0, 1.0, -72.0, 0.0, 0.0, 0.0, 1.0)
GRID = m.GridSpec(shape=(181, 217, 181), affine=ROW)
MODEL = m.ModelName(name="segwire-compact", version="1", sha256=DIGEST)
GPU = m.GpuLoad(util=0.5, mem_used=2048, temp=61.0)


def scan(role: str) -> m.InputArtifact:
    return m.InputArtifact(
        role=role,
        artifact="01JD0000000000000000000001",
        size=2_800_000,
        sha256=DIGEST,
        url="/api/worker/artifacts/01JD0000000000000000000001",
        encoding="zstd",
        dtype="int16",
        grid=GRID,
    )


SERVER_SAMPLES: tuple[m.Message, ...] = (
    m.Challenge(id=1, nonce="bm9uY2U=", server_time=1800000000.5, server_id="epoch-1", min_version="0.1.0"),
    m.Welcome(
        id=2,
        re=1,
        session=7,
        epoch="e1",
        resume=(m.Verdict(job=JOB, fence=3, verdict="keep"),),
        features=("preview",),
    ),
    m.JobOffer(
        id=3,
        job=JOB,
        fence=4,
        attempt=2,
        epoch="e1",
        lease_ttl=20.0,
        deadline=600.0,
        model=MODEL,
        inputs=tuple(scan(role) for role in ("T1", "T1CE", "T2", "FLAIR")),
        output=m.Output(roles=("mask",), upload_url="/api/worker/uploads/", grid=GRID),
        data_token="token",
        params={"mode": "exact"},
        trace="00-1-2-01",
    ),
    m.HeartbeatOk(id=4, re=9, server_time=1800000001.0, lost=(m.Held(job=JOB, fence=3),)),
    m.ResultOk(id=5, job=JOB, fence=4, result_id="r1"),
    m.ResultStale(id=6, job=JOB, fence=3, result_id="r0"),
    m.JobCancel(id=7, job=JOB, fence=4, reason="person", grace_s=2.0),
    m.TokenRefreshOk(id=8, re=12, job=JOB, fence=4, data_token="token2"),
    m.RotateKeyWanted(id=9),
    m.RotateKeyOk(id=10, re=13, public_key="bmV3", old_key_seconds=600.0),
    m.Welcome(id=11, session=8, epoch="e1", storage_origin="https://objects.example"),
)

WORKER_SAMPLES: tuple[m.Message, ...] = (
    m.Hello(
        id=1,
        re=1,
        worker_id="01JD0000000000000000000002",
        boot_id="01JD0000000000000000000003",
        sig="c2ln",
        software=m.Software(version="0.1.0", python="3.11.7", torch="2.13.0", monai="1.6.1", driver="", system="Linux"),
        caps=m.Capabilities(device="cpu", vram_mb=0, models=(MODEL,), labels=("fast",)),
        slots=2,
        epoch="e1",
        running=(m.Running(job=JOB, fence=4, attempt=2, stage="inference", pct=37.5),),
        outbox=(m.Kept(job=JOB, fence=3, kind="result", sha256=DIGEST, epoch="e1"),),
        features=("preview",),
    ),
    m.Ready(id=2, credits=1, load=0.25, gpu=GPU, draining=True, free_mb=9000, cached=("0123456789abcdef",)),
    m.JobAccept(id=3, re=3, job=JOB, fence=4),
    m.JobDecline(id=4, re=3, job=JOB, fence=4, reason="vram", retry_after=30.0),
    m.Heartbeat(id=5, session=7, load=0.9, gpu=GPU, jobs=(m.Held(job=JOB, fence=4),)),
    m.JobProgress(id=6, job=JOB, fence=4, pseq=11, stage="inference", pct=42.0, msg_code="tiles", eta=3.5),
    m.JobPreview(id=7, job=JOB, fence=4, pseq=12, shape=(60, 72, 60), affine=ROW, labels="eJw="),
    m.JobResult(
        id=8,
        job=JOB,
        fence=4,
        epoch="e1",
        result_id="01JD0000000000000000000004",
        artifacts=(
            m.ResultArtifact(
                role="mask",
                artifact="01JD0000000000000000000005",
                size=40_000,
                sha256=DIGEST,
                encoding="zstd",
                dtype="uint8",
                grid=GRID,
            ),
        ),
        metrics=m.Metrics(
            stage_seconds={"inference": 2.5}, volumes_ml={"WT": 30.5}, model=MODEL, device="cpu", warnings=("none",)
        ),
    ),
    m.JobFailed(id=9, job=JOB, fence=4, epoch="e1", code="oom", retryable=True, detail="out of memory"),
    m.JobCancelled(id=10, re=7, job=JOB, fence=4),
    m.JobRelease(id=11, job=JOB, fence=4, reason="shutdown"),
    m.TokenRefresh(id=12, job=JOB, fence=4),
    m.RotateKey(id=13, public_key="bmV3", sig="c2ln", proof="cHJvb2Y="),
)

BOTH_SAMPLES: tuple[m.Message, ...] = (
    m.Drain(id=13, deadline=60.0),
    m.Error(id=14, re=2, code="rate", temporary=True, detail="too many messages", supported=("seg.worker.v1",)),
    m.Bye(id=15, code=4000, reason="restart", reconnect=True, retry_after_s=1.0, jitter_s=2.0),
    m.Ping(id=16, ts=1.5),
    m.Pong(id=17, ts=1.5),
)
