"""What the database holds at the end, as values for the checker; reads through the product's own models.

`python manage.py shell -c "from tests.system.faults.rows import tell; tell()"` prints it as one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Line:
    """One line of a job's log."""

    seq: int
    kind: str
    state: str
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobRow:
    """One job. `masks` are the digests of all its stored masks; `mask_fence` whose it is, where that is known."""

    id: str
    state: str
    fence: int
    seq: int
    epoch: str
    result_id: str | None = None
    masks: tuple[str, ...] = ()
    mask_fence: int | None = None
    log: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Rows:
    """The database at the end."""

    jobs: Mapping[str, JobRow]
    series: frozenset[str] = field(default_factory=frozenset)


def read_rows() -> Rows:
    """The rows as they are now. Django must be set up."""
    from server.imaging.models import Mask, Series
    from server.jobs.epoch import current_epoch
    from server.jobs.models import Job, JobEvent

    epoch = current_epoch()
    masks: dict[str, list[str]] = {}
    for job_id, sha256 in Mask.objects.values_list("job_id", "sha256"):
        masks.setdefault(job_id, []).append(sha256)
    logs: dict[str, list[Line]] = {}
    for job_id, seq, kind, payload in JobEvent.objects.order_by("job_id", "seq").values_list(
        "job_id", "seq", "kind", "payload"
    ):
        sha256 = (payload.get("result") or {}).get("sha256")
        logs.setdefault(job_id, []).append(Line(seq, kind, payload["state"], sha256))
    jobs = {
        job.id: JobRow(
            id=job.id,
            state=str(job.state),
            fence=job.fence,
            seq=job.last_seq,
            epoch=epoch,
            result_id=job.result_id,
            masks=tuple(masks.get(job.id, ())),
            log=tuple(logs.get(job.id, ())),
        )
        for job in Job.objects.all()
    }
    return Rows(jobs, frozenset(Series.objects.values_list("pk", flat=True)))


def tell() -> None:
    """Print the rows as one line of JSON."""
    rows = read_rows()
    told = {"jobs": [asdict(job) for job in rows.jobs.values()], "series": sorted(rows.series)}
    sys.stdout.write(json.dumps(told) + "\n")


def of_text(text: str) -> Rows:
    """The rows that `tell` printed."""
    told = json.loads(text)
    jobs = {one["id"]: _job(one) for one in told["jobs"]}
    return Rows(jobs, frozenset(told["series"]))


def _job(told: dict[str, Any]) -> JobRow:
    log = tuple(Line(**line) for line in told.pop("log"))
    return JobRow(**{**told, "masks": tuple(told["masks"]), "log": log})
