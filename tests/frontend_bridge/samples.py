"""Snapshots as the server makes them, with things in them that no browser may see."""

from typing import Any

SHA = "a" * 64


def job(**changes: Any) -> dict[str, Any]:
    """A running job's snapshot."""
    return {
        "id": "01JOB",
        "state": "running",
        "route": "lab",
        "stage": "inference",
        "progress": 0.5,
        "eta_seconds": 12.0,
        "queue_position": None,
        "waiting_reason": None,
        "worker": "lab-pc",
        "model": "segwire-compact",
        "model_version": "1",
        "attempt": 1,
        "series_id": "01SER2",
        "sequence_series_ids": ["01SER1", "01SER2", "01SER3", "01SER4"],
        "sequences": ["T1", "T1CE", "T2", "FLAIR"],
        "missing_sequences": [],
        "warnings": [],
        "created_at": "2026-11-01T10:00:00+00:00",
        "started_at": "2026-11-01T10:00:01+00:00",
        "finished_at": None,
        "error": None,
        "result": None,
        "epoch": "e1",
        "seq": 3,
    } | changes


def finished(**changes: Any) -> dict[str, Any]:
    """A succeeded job's snapshot."""
    base = "/api/mri/segmentation/jobs/01JOB"
    return (
        job(
            state="succeeded",
            stage="upload",
            progress=1.0,
            finished_at="2026-11-01T10:01:00+00:00",
            result={
                "mask_url": f"{base}/mask.nii.gz",
                "seg_url": None,
                "report_url": f"{base}/report.json",
                "sr_url": None,
                "pdf_url": f"{base}/summary.pdf",
                "key_image_urls": [f"{base}/key/1.dcm"],
                "sha256": SHA,
                "volumes_ml": {"WT": 30.2, "TC": 10.0, "ET": 4.0},
                "change": {"WT": {"ml": 1.2, "percent": None}, "TC": None, "ET": None, "since": "2026-01-01"},
            },
        )
        | changes
    )


def worker(**changes: Any) -> dict[str, Any]:
    """A connected worker's snapshot."""
    return {
        "id": "01WORKER",
        "name": "lab-pc",
        "state": "active",
        "route": "lab",
        "device": "cpu",
        "models": ["segwire-compact 1"],
        "slots": 1,
        "credits": 0,
        "jobs": [{"job": "01JOB", "stage": "inference", "progress": 0.5}],
        "last_seen": "2026-11-01T10:00:01+00:00",
        "rtt_ms": 1.5,
        "software": "segwire 0.1",
        "connected": True,
        "transport": "websocket",
        "draining": False,
        "labels": ["gpu"],
    } | changes
