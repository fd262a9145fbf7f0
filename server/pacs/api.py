"""Archives over HTTP: search, pull, send, and what became of it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja import Query, Router, Schema
from ninja.responses import Status

from server.accounts import throttle
from server.audit import services as audit
from server.core.job import State
from server.jobs.errors import ResultNotReady
from server.jobs.selectors import job_for
from server.pacs import deliveries, loop, pulls, selectors, services
from server.pacs.archives import open_archive
from server.pacs.criteria import LONGEST, Criteria
from server.pacs.findings import FoundStudy
from server.pacs.models import Server

MOST_STUDIES = 100

router = Router()


class ServerOut(Schema):
    """An archive by its name; its address is the administrators' business."""

    name: str
    is_default: bool
    can_search: bool
    sends_results: bool


class ServersOut(Schema):
    """The archives in use."""

    servers: list[ServerOut]


class StudyOut(Schema):
    """A study there. `study` is our id where you have it here already; a count is null where the archive is silent."""

    uid: str
    patient_name: str
    patient_id: str
    date: str
    description: str
    accession: str
    modalities: list[str]
    series_count: int | None
    study: str | None


class StudiesOut(Schema):
    """What was found; `is_complete` is false when the archive may have more."""

    studies: list[StudyOut]
    is_complete: bool


class ErrorOut(Schema):
    """Why it failed, or what kept it the last time."""

    code: str
    message: str


class PullOut(Schema):
    """A study on its way here. `done` and `total` count series; `refused` is as in the answer to an upload."""

    id: str
    state: str
    done: int
    total: int
    study: str | None
    refused: list[dict[str, Any]]
    error: ErrorOut | None


class DeliveryOut(Schema):
    """One DICOM object of a result on its way to an archive: waiting, sent or failed."""

    id: str
    server: str
    kind: str
    state: str
    attempts: int
    error: ErrorOut | None
    sop_instance_uid: str
    sent_at: str | None


class DeliveriesOut(Schema):
    """All of one job."""

    deliveries: list[DeliveryOut]


Typed = Query("", max_length=2 * LONGEST)


@router.get("/", response=ServersOut, summary="The archives")
def servers(request: HttpRequest) -> dict[str, Any]:
    """By name; `default` is the one of DICOMWEB_URL."""
    return {"servers": [selectors.server_snapshot(server) for server in selectors.servers()]}


@router.get("/deliveries/", response=DeliveriesOut, summary="What is sent of a result")
def deliveries_of_job(request: HttpRequest, job: str) -> dict[str, Any]:
    """Each DICOM object of the job's result, for each archive."""
    job_for(request.auth, job)
    return _deliveries(job)


@router.get("/pulls/{pull_id}/", response=PullOut, summary="Where a pull stands")
def pull_standing(request: HttpRequest, pull_id: str) -> dict[str, Any]:
    """For who asked for it, and staff."""
    return selectors.pull_snapshot(selectors.pull_for(request.auth, pull_id))


@router.get("/{name}/studies/", response=StudiesOut, summary="Search an archive")
def search(
    request: HttpRequest,
    name: str,
    patient_id: str = Typed,
    patient_name: str = Typed,
    accession: str = Typed,
    date: str = Typed,
    uid: str = Typed,
) -> dict[str, Any]:
    """By patient, accession number or StudyInstanceUID; `date` (a day, or two with .. between) narrows it down.

    `*` and `?` are wildcards beside at least three letters or digits; a name is completed at its end.
    """
    _check(request, selectors.SEARCH)
    server = selectors.searchable(name)
    asked = Criteria(patient_id=patient_id, patient_name=patient_name, accession=accession, date=date, uid=uid)
    asked.filters()
    audit.note(actor=audit.actor_of(request.auth), action="pacs.search", archive=str(server.pk))
    found = _asked(server, asked)
    shown = selectors.study_snapshots(request.auth, found[:MOST_STUDIES])
    return {"studies": shown, "is_complete": len(found) <= MOST_STUDIES}


@router.post("/{name}/studies/{uid}/pull/", response={202: PullOut}, summary="Fetch a study")
def pull(request: HttpRequest, name: str, uid: str) -> Status[Any]:
    """Its MR series come here and are yours. What is here already is not fetched again."""
    _check(request, selectors.SEARCH)
    asked = pulls.request(owner=request.auth, server=selectors.searchable(name), study_uid=uid)
    loop.bell.set()
    return Status(202, selectors.pull_snapshot(asked))


@router.post("/{name}/jobs/{job_id}/send/", response={202: DeliveriesOut}, summary="Send a result")
def send(request: HttpRequest, name: str, job_id: str) -> Status[Any]:
    """Every DICOM object of the result; what failed is tried once more, what was sent is not."""
    _check(request, selectors.SEND)
    server = selectors.server_named(name)
    job = job_for(request.auth, job_id)
    if job.state != State.SUCCEEDED:
        raise ResultNotReady(job.state)
    deliveries.send(user=request.auth, server=server, job_id=job_id)
    loop.bell.set()
    return Status(202, _deliveries(job_id))


def _check(request: HttpRequest, permission: str) -> None:
    selectors.check_may(request.auth, permission)
    throttle.spend("pacs", request.auth.pk, per_minute=settings.LIMITS.requests_per_minute)


def _asked(server: Server, asked: Criteria) -> list[FoundStudy]:
    with open_archive(server) as archive:
        found = archive.search(asked, limit=MOST_STUDIES + 1)
    if server.failures:
        services.note_answer(server)  # what waits for it need not wait any longer
    return found


def _deliveries(job_id: str) -> dict[str, Any]:
    return {"deliveries": [selectors.delivery_snapshot(one) for one in selectors.deliveries_of(job_id)]}
