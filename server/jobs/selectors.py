"""Jobs as a user may see them, and as watchers follow them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from inference.contract import Sequence
from server.core.job import HELD_STATES, OPEN_STATES, State
from server.imaging.models import Mask
from server.imaging.selectors import file_of, mask_of, studies_for
from server.jobs import lines, outlook
from server.jobs.epoch import current_epoch
from server.jobs.errors import JobNotFound
from server.jobs.models import Job, JobEvent
from server.jobs.reasons import failure
from server.jobs.rows import given_sequences

Snapshot = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """Where a queued job stands: its place (1 = next), and how many seconds are left to its end, if that is known."""

    queue_position: int | None
    eta_seconds: float | None


def jobs_for(user: Any) -> QuerySet[Job]:
    """The jobs of the studies that `user` may see, newest first; staff see all."""
    if user.is_staff:
        return Job.objects.all()
    return Job.objects.filter(study_id__in=studies_for(user).prefetch_related(None).values("pk"))


def job_for(user: Any, job_id: str) -> Job:
    """One job.

    Raises:
        JobNotFound: there is none, or `user` may not see it.
    """
    job = jobs_for(user).filter(pk=job_id).first()
    if job is None:
        raise JobNotFound
    return job


def jobs_of_study(user: Any, study_id: str) -> list[Job]:
    """The jobs of one study, newest first; none for a study that `user` may not see."""
    return list(jobs_for(user).filter(study_id=study_id))


def open_jobs() -> QuerySet[Job]:
    """Every job that has not ended, oldest first."""
    return Job.objects.filter(state__in=sorted(OPEN_STATES)).order_by("created_at", "id")


def held_jobs() -> QuerySet[Job]:
    """Every job that is leased or running, in no order.

    Those are the ones with a lease. It is said as well because SQLite finds a partial index only by a condition
    without parameters.
    """
    return Job.objects.filter(state__in=sorted(HELD_STATES), lease_until__isnull=False).order_by()


def open_jobs_by_state() -> dict[str, int]:
    """How many jobs are queued, leased and running."""
    queued = Job.objects.filter(state=State.QUEUED).order_by().count()
    held = Counter(str(state) for state in held_jobs().values_list("state", flat=True))
    return dict.fromkeys(sorted(OPEN_STATES), 0) | held | {str(State.QUEUED): queued}


def snapshot(job: Job, *, standing: Standing | None = None) -> Snapshot:
    """The job as contract.md shows it; `standing` where it is known already."""
    mask = mask_of(job.id) if job.state == State.SUCCEEDED else None
    return _snapshot(job, mask, standing or standing_of(job))


def snapshots(jobs: Iterable[Job]) -> list[Snapshot]:
    """Many jobs, with one query for all masks."""
    rows = list(jobs)
    finished = [job.id for job in rows if job.state == State.SUCCEEDED]
    masks = {mask.job_id: mask for mask in Mask.objects.filter(job_id__in=finished)} if finished else {}
    return [_snapshot(job, masks.get(job.id), standing_of(job)) for job in rows]


def position_and_snapshot(job_id: str) -> tuple[str, int, Snapshot]:
    """Epoch, seq and snapshot of one moment.

    Raises:
        JobNotFound: there is no such job.
    """
    with transaction.atomic():
        job = Job.objects.filter(pk=job_id).first()
        if job is None:
            raise JobNotFound
        return current_epoch(), job.last_seq, snapshot(job)


def positions(job_ids: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Epoch and newest seq of many jobs, in one query."""
    epoch = current_epoch()
    rows = Job.objects.filter(pk__in=list(job_ids)).values_list("pk", "last_seq")
    return {job_id: (epoch, seq) for job_id, seq in rows}


def events_since(job_id: str, seq: int, *, limit: int | None = None) -> list[JobEvent]:
    """Every event after `seq`, in order, or the first `limit` of them.

    Each has `seq`, `at`, `kind`, and the snapshot right after it as `payload`.
    """
    return list(JobEvent.objects.filter(job_id=job_id, seq__gt=seq).order_by("seq")[:limit])


def first_in_line(job: Job) -> Standing:
    """Where a job stands that has nobody ahead of it."""
    return Standing(queue_position=1, eta_seconds=outlook.eta_of(job.demand, 1))


def standing_of(job: Job) -> Standing:
    """Where a job stands; an attempt that is under way has no place any more."""
    place = lines.place_of(job, at=timezone.now())
    return Standing(place, job.eta_seconds if place is None else outlook.eta_of(job.demand, place))


def _snapshot(job: Job, mask: Mask | None, standing: Standing) -> Snapshot:
    is_queued = job.state == State.QUEUED
    is_leased = job.state == State.LEASED and job.started_fence != job.fence
    return {
        "id": job.id,
        "state": str(job.state),
        "route": str(job.route),
        "stage": None if is_queued else job.stage,
        "progress": 0.0 if is_queued else job.progress,
        "eta_seconds": standing.eta_seconds,
        "queue_position": standing.queue_position,
        "waiting_reason": job.waiting_reason,
        "worker": None if is_queued else job.worker_name or None,
        "model": job.run_model["name"] if job.run_model else job.model_name or None,
        "model_version": job.run_model["version"] if job.run_model else job.model_version or None,
        "attempt": job.attempt + is_leased,
        "series_id": job.series_id,
        "sequence_series_ids": list(job.sequence_series_ids),
        **_sequences(job),
        "created_at": _instant(job.created_at),
        "started_at": _instant(job.started_at),
        "finished_at": _instant(job.finished_at),
        "error": failure(job.error_code, job.causes) if job.error_code else None,
        "result": _result(job.id, mask) if mask else None,
        "epoch": current_epoch(),
        "seq": job.last_seq,
    }


def _sequences(job: Job) -> dict[str, list[str]]:
    given = given_sequences(job)
    return {
        "sequences": [str(one) for one in given],
        "missing_sequences": [str(one) for one in Sequence if one not in given],
        "warnings": list(job.warnings),
    }


def _result(job_id: str, mask: Mask) -> dict[str, Any]:
    base = f"/api/mri/segmentation/jobs/{job_id}"
    return {
        "mask_url": f"{base}/mask.nii.gz",
        "seg_url": f"{base}/mask.dcm" if mask.seg_path else None,
        "report_url": f"{base}/report.json",
        "sr_url": f"{base}/report.dcm" if file_of(mask, "report.dcm") else None,
        "pdf_url": f"{base}/summary.pdf" if mask.pdf_sha256 else None,
        "key_image_urls": [f"{base}/key/{number}.dcm" for number in _key_numbers(mask)],
        "sha256": mask.sha256,
        "volumes_ml": mask.volumes_ml,
        "change": _change(mask),
    }


def _key_numbers(mask: Mask) -> list[int]:
    names = [str(one["name"]) for one in mask.dicom_objects if one["kind"] == "key"]
    return sorted(int(name.removeprefix("key-").removesuffix(".dcm")) for name in names)


def _change(mask: Mask) -> dict[str, Any] | None:
    """How much each region grew since the earlier study, and which that was; null where there is none."""
    if mask.change is None:
        return None
    grown = {region: {"ml": one["ml"], "percent": one["percent"]} for region, one in mask.change["regions"].items()}
    return {**grown, "since": mask.change["since"]}


def _instant(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
