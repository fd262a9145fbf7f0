"""From a click to a job: which series is which sequence, and whether the same was asked before.

Flow: 2 job
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q

from inference.contract import Sequence
from server.core.job import OPEN_STATES, Priority, Route
from server.imaging.errors import SeriesNotFound
from server.imaging.models import Series
from server.imaging.selectors import studies_for
from server.jobs import selectors, services
from server.jobs.errors import KeyReused, SequencesUnclear
from server.jobs.models import Job, RequestKey
from server.jobs.rows import RANKS
from server.jobs.selectors import Snapshot

ORDER = tuple(Sequence)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for, as it came in. `model` is a name, or name@version; `use_local` None: as configured."""

    series_ref: str
    sequence_refs: tuple[str, ...]
    use_local: bool | None = None
    model: str = ""
    priority: Priority = Priority.ROUTINE

    @property
    def sha256(self) -> str:
        """Tells one request from another."""
        return _digest([self.series_ref, *self.sequence_refs, self.use_local, self.model, self.priority])


def request_segmentation(*, user: Any, wish: Wish, idempotency_key: str = "") -> Snapshot:
    """The job for a wish, as a snapshot: a new one, or the one that is open or was answered before.

    Raises:
        SeriesNotFound: a series does not exist, or not for this user.
        SequencesUnclear: which series is which sequence cannot be told.
        KeyReused: the key was used for another request.
    """
    try:
        with transaction.atomic():
            return _answered_before(user, wish, idempotency_key) or _requested(user, wish, idempotency_key)
    except IntegrityError:
        # Two of the same at once, on a database that lets them run side by side: the other one has won.
        with transaction.atomic():
            return _answered_before(user, wish, idempotency_key) or _requested(user, wish, idempotency_key)


def _answered_before(user: Any, wish: Wish, key: str) -> Snapshot | None:
    if not key:
        return None
    used = RequestKey.objects.select_related("job").filter(user=user, key=key).first()
    if used is not None and used.request_sha256 != wish.sha256:
        raise KeyReused
    return selectors.snapshot(used.job) if used else None


def _requested(user: Any, wish: Wish, key: str) -> Snapshot:
    reference, four = _series_of(user, wish)
    route = Route.LAB if _is_local(wish) else Route.SERVER
    dedupe_key = _digest(
        [reference.study_id, reference.pk, *(f"{one.pk}:{one.content_sha256}" for one in four), wish.model, route]
    )
    open_ids = Job.objects.filter(dedupe_key=dedupe_key, state__in=sorted(OPEN_STATES)).values_list("pk", flat=True)
    snapshot = next((selectors.position_and_snapshot(job_id)[2] for job_id in open_ids), None)
    if snapshot is None:
        name, _, version = wish.model.partition("@")
        job = Job(
            study_id=reference.study_id,
            series=reference,
            sequence_series_ids=[one.pk for one in four],
            requested_by=user,
            dedupe_key=dedupe_key,
            rank=RANKS[wish.priority],
            model_name=name,
            model_version=version,
            route=route,
        )
        snapshot = services.queue(job)
    if key:
        RequestKey.objects.create(user=user, key=key, request_sha256=wish.sha256, job_id=snapshot["id"])
    return snapshot


def _series_of(user: Any, wish: Wish) -> tuple[Series, tuple[Series, ...]]:
    if len(wish.sequence_refs) != len(ORDER):
        raise SequencesUnclear(
            f"Four series are needed, one each of T1, T1CE, T2 and FLAIR; {len(wish.sequence_refs)} were named."
        )
    shelf = _visible(user, {wish.series_ref, *wish.sequence_refs})
    reference, *named = (_named(shelf, ref, user) for ref in (wish.series_ref, *wish.sequence_refs))
    if len({one.pk for one in named}) != len(ORDER):
        raise SequencesUnclear("The same series was named twice; four different ones are needed.")
    if {one.study_id for one in named} != {reference.study_id}:
        raise SequencesUnclear("The series belong to different studies.")
    return reference, in_sequence_order(named)


def _visible(user: Any, refs: set[str]) -> list[Series]:
    """All the series that the references may mean, in one query: this is the way of a click."""
    series = Series.objects.filter(Q(pk__in=refs) | Q(uid__in=refs, is_current=True)).select_related("study")
    series = series.only("uid", "part", "revision", "sequence", "content_sha256", "study__owner_id")
    if not user.is_staff:
        series = series.filter(study__in=studies_for(user).prefetch_related(None).values("pk"))
    return list(series)


def _named(shelf: list[Series], ref: str, user: Any) -> Series:
    """One series by our id or SeriesInstanceUID; one's own comes before another's of the same UID."""
    meant = [one for one in shelf if ref in {one.pk, one.uid}]
    if not meant:
        raise SeriesNotFound
    return min(meant, key=lambda one: (one.pk != ref, one.study.owner_id != user.pk, one.part, -one.revision))


def in_sequence_order(named: Ordered[Series]) -> tuple[Series, ...]:
    """Four series as T1, T1CE, T2, FLAIR: by what was recognised, or by their order when one was not.

    Raises:
        SequencesUnclear: a sequence is there twice, or one that was recognised stands in another's place.
    """
    recognised = Counter(one.sequence for one in named if one.sequence)
    doubled = sorted(name for name, count in recognised.items() if count > 1)
    missing = [str(name) for name in ORDER if name not in recognised]
    if doubled:
        raise SequencesUnclear(f"More than one of the series is {doubled[0]}; {', '.join(missing)} would be missing.")
    if not missing:
        return tuple(sorted(named, key=lambda one: ORDER.index(Sequence(one.sequence))))
    for place, one in zip(ORDER, named, strict=True):
        if one.sequence and one.sequence != place:
            raise SequencesUnclear(
                f"Not every series was recognised, so their order counts: T1, T1CE, T2, FLAIR. "
                f"The one in the place of {place} is {one.sequence}."
            )
    return tuple(named)


def _is_local(wish: Wish) -> bool:
    return settings.USE_LOCAL_INFERENCE if wish.use_local is None else wish.use_local


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
