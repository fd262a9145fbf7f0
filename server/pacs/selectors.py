"""Archives, pulls and deliveries as they are shown, and who may see and do what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count

from server.core.errors import NotAllowed
from server.imaging.models import Study
from server.imaging.selectors import studies_for
from server.pacs.errors import CannotSearch, PullNotFound, ServerNotFound
from server.pacs.findings import FoundStudy
from server.pacs.models import Delivery, Pull, Server
from server.pacs.services import DEFAULT, in_use, know_default

SEARCH, SEND = "pacs.search_archive", "pacs.send_result"
Snapshot = dict[str, Any]


def check_may(user: Any, permission: str) -> None:
    """Staff may, and whom an administrator gave the permission. Raises NotAllowed."""
    if not (user.is_staff or user.has_perm(permission)):
        raise NotAllowed("An administrator has to allow you to use the archives.")


def servers() -> list[Server]:
    """The archives that are in use."""
    know_default()
    return list(in_use())


def server_named(name: str) -> Server:
    """One archive that is in use. Raises ServerNotFound."""
    if name == DEFAULT:
        know_default()
    found = in_use().filter(name=name).first()
    if found is None:
        raise ServerNotFound
    return found


def searchable(name: str) -> Server:
    """One archive that can be searched. Raises ServerNotFound, CannotSearch."""
    found = server_named(name)
    if not found.can_search:
        raise CannotSearch
    return found


def server_snapshot(server: Server) -> Snapshot:
    """One archive, without its address."""
    return {
        "name": server.name,
        "is_default": server.name == DEFAULT,
        "can_search": server.can_search,
        "sends_results": server.sends_results,
    }


def study_snapshots(user: Any, found: Iterable[FoundStudy]) -> list[Snapshot]:
    """Studies there, each with our id where the user has it here already."""
    studies = list(found)
    known = studies_for(user).prefetch_related(None).filter(uid__in=[one.uid for one in studies])
    ids: dict[str, str] = {}
    for study in sorted(known, key=lambda one: (one.owner_id == user.pk, one.pk)):
        ids[study.uid] = study.pk
    return [
        {
            "uid": one.uid,
            "patient_name": one.patient_name,
            "patient_id": one.patient_id,
            "date": one.date,
            "description": one.description,
            "accession": one.accession,
            "modalities": list(one.modalities),
            "series_count": one.series_count,
            "study": ids.get(one.uid),
        }
        for one in studies
    ]


def pull_for(user: Any, pull_id: str) -> Pull:
    """One pull, one's own or, for staff, any. Raises PullNotFound."""
    found = Pull.objects.filter(pk=pull_id)
    found = found if user.is_staff else found.filter(owner=user)
    pull = found.first()
    if pull is None:
        raise PullNotFound
    return pull


def pull_snapshot(pull: Pull) -> Snapshot:
    """One pull; `done` and `total` count series."""
    return {
        "id": pull.pk,
        "state": str(pull.state),
        "done": pull.done,
        "total": pull.total,
        "study": pull.study_id,
        "refused": pull.refused,
        "error": {"code": pull.error_code, "message": pull.error} if pull.error_code else None,
    }


def deliveries_of(job_id: str) -> list[Delivery]:
    """What is sent of a job's result, oldest first."""
    return list(Delivery.objects.select_related("server").filter(job_id=job_id).order_by("pk"))


def delivery_snapshot(delivery: Delivery) -> Snapshot:
    """One delivery."""
    return {
        "id": delivery.pk,
        "server": delivery.server.name,
        "kind": delivery.kind,
        "state": str(delivery.state),
        "attempts": delivery.attempts,
        "error": {"code": delivery.error_code, "message": delivery.error} if delivery.error_code else None,
        "sop_instance_uid": delivery.sop_instance_uid,
        "sent_at": delivery.sent_at.isoformat() if delivery.sent_at else None,
    }


def counts() -> tuple[dict[str, int], dict[str, int]]:
    """How many deliveries and pulls wait or have failed."""
    states = [Delivery.State.WAITING, Delivery.State.FAILED]
    deliveries = Delivery.objects.filter(state__in=states).order_by().values_list("state").annotate(count=Count("pk"))
    open_pulls = [Pull.State.QUEUED, Pull.State.RUNNING]
    pulls = Pull.objects.filter(state__in=open_pulls).order_by().values_list("state").annotate(count=Count("pk"))
    return (
        dict.fromkeys(map(str, states), 0) | {str(state): count for state, count in deliveries},
        dict.fromkeys(map(str, open_pulls), 0) | {str(state): count for state, count in pulls},
    )


def own_study(owner: Any, uid: str) -> Study | None:
    """A study that belongs to a user, by its UID."""
    return Study.objects.filter(owner=owner, uid=uid).first()
