"""From what the server knows to what a browser may see; pure.

A view has a field for everything a browser may know and for nothing else, so a lease, a fence, a token, a path on
disk or a worker's key that stands in a snapshot is left behind here.

Flow: 9 browser
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from frontend_bridge import messages as m

NewsFrame = m.Progress | m.Preview | m.Telemetry
Id = str | int | UnsetType


class Unfit(Exception):
    """Something inside the server is not of the shape that a browser can be told. The cause says which field."""


def job_view(snapshot: Mapping[str, Any]) -> m.JobView:
    """A job's snapshot as a browser sees it.

    Raises:
        Unfit: a field that contract.md promises is missing or of the wrong kind.
    """
    return _view(m.JobView, snapshot)


def job_event(topic: str, *, seq: int, kind: str, snapshot: Mapping[str, Any], id: Id = UNSET) -> m.JobEvent:
    """A durable change of a job. `snapshot` is the job as it was right after the change."""
    return m.JobEvent(topic=topic, seq=seq, type=kind, job=job_view(snapshot), id=id)


def study_view(study_id: str, snapshots: Iterable[Mapping[str, Any]]) -> m.StudyView:
    """A study with its jobs, newest first."""
    return m.StudyView(id=study_id, jobs=tuple(job_view(snapshot) for snapshot in snapshots))


def study_event(topic: str, *, seq: int, kind: str, payload: Mapping[str, Any], id: Id = UNSET) -> m.StudyEvent:
    """A durable change of a study: only which series or job it is about; the browser fetches what it may see."""
    return m.StudyEvent(
        topic=topic, seq=seq, type=kind, series=_text(payload, "series"), job=_text(payload, "job"), id=id
    )


def workers_view(snapshots: Iterable[Mapping[str, Any]]) -> m.WorkersView:
    """All workers as the administrator sees them."""
    return m.WorkersView(workers=tuple(worker_view(snapshot) for snapshot in snapshots))


def worker_view(snapshot: Mapping[str, Any]) -> m.WorkerView:
    """One worker as the administrator sees it.

    Raises:
        Unfit: a field is missing or of the wrong kind.
    """
    return _view(m.WorkerView, snapshot)


def worker_event(topic: str, *, seq: int, kind: str, worker: Mapping[str, Any] | None, id: Id = UNSET) -> m.WorkerEvent:
    """A durable change of a worker, told as the worker is now; None when it is gone."""
    return m.WorkerEvent(topic=topic, seq=seq, type=kind, worker=None if worker is None else worker_view(worker), id=id)


def news(topic: str, *, kind: str, body: Mapping[str, Any], id: Id = UNSET) -> NewsFrame | None:
    """A newest-only frame, or None for a kind that browsers are not told.

    Raises:
        Unfit: a field is missing or of the wrong kind.
    """
    frame = NEWS.get(kind)
    if frame is None:
        return None
    told = {name: body[name] for name in frame.__struct_fields__ if name in body and name not in {"id", "topic"}}
    fields = told | {"t": kind, "topic": topic} | ({} if id is UNSET else {"id": id})
    return _view(frame, fields)


NEWS: Mapping[str, type[NewsFrame]] = {"progress": m.Progress, "preview": m.Preview, "telemetry": m.Telemetry}


def _view(kind: type[Any], value: Mapping[str, Any]) -> Any:
    try:
        return m.view_of(kind, value)
    except msgspec.ValidationError as error:
        raise Unfit(f"{kind.__name__}: {error}") from error


def _text(payload: Mapping[str, Any], name: str) -> str | None:
    found = payload.get(name)
    return found if isinstance(found, str) else None
