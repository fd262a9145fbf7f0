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
from server.audit import services as audit
from server.core.job import OPEN_STATES, Priority, Route
from server.core.scheduler import Demand
from server.imaging.errors import SeriesNotFound
from server.imaging.models import Series
from server.imaging.selectors import studies_for
from server.imaging.sequences import doubts_of
from server.jobs import outlook, selectors, services
from server.jobs.errors import KeyReused, SequenceMissing, SequencesUnclear
from server.jobs.models import Job, RequestKey
from server.jobs.rows import RANKS, demand_word
from server.jobs.selectors import Snapshot

ORDER = tuple(Sequence)
MOST_ATTEMPTS = 3
NAMED_DIGITS = 16
SERIES_FIELDS = (
    *("uid", "part", "revision", "sequence", "content_sha256", "study__owner_id"),
    *("sequence_source", "sequence_confidence", "sequence_reason", "fingerprint"),
    *(f"artifact__{name}" for name in ("size", "sha256", "encoding", "dtype", "shape", "affine")),
)
"""With what an offer says of its inputs, so that a click need not read them again."""

Given = tuple[tuple[Sequence, Series], ...]
"""Which series stands for which sequence, in the order of the sequences."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for, as it came in. `model` is a name, or name@version; `use_local` None: as configured."""

    series_ref: str
    sequence_refs: tuple[str, ...]
    use_local: bool | None = None
    model: str = ""
    priority: Priority = Priority.ROUTINE
    labels: frozenset[str] = frozenset()

    @property
    def sha256(self) -> str:
        """Tells one request from another."""
        asked = [self.series_ref, *self.sequence_refs, self.use_local, self.model, self.priority]
        return _digest([*asked, sorted(self.labels)] if self.labels else asked)


def request_segmentation(*, user: Any, wish: Wish, idempotency_key: str = "") -> Snapshot:
    """The job for a wish, as a snapshot: a new one, or the one that is open or was answered before.

    Raises:
        SeriesNotFound: a series does not exist, or not for this user.
        SequencesUnclear: which series is which sequence cannot be told.
        SequenceMissing: fewer than four were named, and no model is declared for those alone.
        KeyReused: the key was used for another request.
        QueueFull: too many jobs wait already.
    """
    attempts = 0
    while True:
        try:
            with transaction.atomic():
                answered = _answered_before(user, wish, idempotency_key)
                return answered or _requested(user, wish, idempotency_key, looks_first=attempts > 0)
        except IntegrityError:
            # The same is open, or somebody who asks for it at this moment was first: the next look finds it.
            attempts += 1
            if attempts == MOST_ATTEMPTS:
                raise


def _answered_before(user: Any, wish: Wish, key: str) -> Snapshot | None:
    if not key:
        return None
    used = RequestKey.objects.select_related("job").filter(user=user, key=key).first()
    if used is not None and used.request_sha256 != wish.sha256:
        raise KeyReused
    return selectors.snapshot(used.job) if used else None


def _requested(user: Any, wish: Wish, key: str, *, looks_first: bool) -> Snapshot:
    """`looks_first`: whether to look for the same question among the open ones. The constraint `job_open_once` finds it
    as well, so that an ordinary click need not ask."""
    reference, given = _series_of(user, wish)
    row = _row(user, wish, reference, given)
    snapshot = _open_one(row.dedupe_key) if looks_first else None
    if snapshot is None:
        snapshot = services.queue(row, series=[one for _, one in given])
        audit.note(actor=audit.actor_of(user), action="job.request", job=row.id, study=row.study_id)
    if key:
        RequestKey.objects.create(user=user, key=key, request_sha256=wish.sha256, job_id=snapshot["id"])
    return snapshot


def _open_one(dedupe_key: str) -> Snapshot | None:
    open_ids = Job.objects.filter(dedupe_key=dedupe_key, state__in=sorted(OPEN_STATES)).values_list("pk", flat=True)
    return next((selectors.position_and_snapshot(job_id)[2] for job_id in open_ids), None)


def _row(user: Any, wish: Wish, reference: Series, given: Given) -> Job:
    name, _, version = wish.model.partition("@")
    names = [str(sequence) for sequence, _ in given]
    series = [one for _, one in given]
    missing = [str(sequence) for sequence in ORDER if sequence not in names]
    demand = Demand(
        route=Route.LAB if _is_local(wish) else Route.SERVER,
        model_name=name or None,
        model_version=version,
        labels=wish.labels,
        sequences=frozenset(names) if missing else frozenset(),
    )
    if missing and not outlook.is_declared(demand):
        raise SequenceMissing(missing, given=names, model=wish.model)
    question = [reference.study_id, reference.pk, *(f"{one.pk}:{one.content_sha256}" for one in series)]
    return Job(
        study_id=reference.study_id,
        series=reference,
        sequence_series_ids=[one.pk for one in series],
        sequences=names if missing else [],
        warnings=[*_without(missing), *doubts_of(dict(given))],
        requested_by=user,
        dedupe_key=_digest([*question, *(names if missing else ()), wish.model, demand.route]),
        rank=RANKS[wish.priority],
        model_name=name,
        model_version=version,
        labels=sorted(wish.labels),
        demand=demand_word(demand),
        inputs=[one.artifact.sha256[:NAMED_DIGITS] for one in series],
        route=demand.route,
    )


def _without(missing: Ordered[str]) -> list[str]:
    return [f"Analysed without {', '.join(missing)}, by a model made for that."] if missing else []


def _series_of(user: Any, wish: Wish) -> tuple[Series, Given]:
    count = len(wish.sequence_refs)
    if count > len(ORDER):
        raise SequencesUnclear(f"One series each of T1, T1CE, T2 and FLAIR is needed; {count} were named.")
    shelf = _visible(user, {wish.series_ref, *wish.sequence_refs})
    reference, *named = (_named(shelf, ref, user) for ref in (wish.series_ref, *wish.sequence_refs))
    if len({one.pk for one in named}) != count:
        raise SequencesUnclear("The same series was named twice; they have to be different ones.")
    if {one.study_id for one in named} != {reference.study_id}:
        raise SequencesUnclear("The series belong to different studies.")
    return reference, in_sequence_order(named)


def _visible(user: Any, refs: set[str]) -> list[Series]:
    """All the series that the references may mean, in one query: this is the way of a click."""
    series = Series.objects.filter(Q(pk__in=refs) | Q(uid__in=refs, is_current=True))
    series = series.select_related("study", "artifact").only(*SERIES_FIELDS).order_by()
    if not user.is_staff:
        series = series.filter(study__in=studies_for(user).prefetch_related(None).values("pk"))
    return list(series)


def _named(shelf: list[Series], ref: str, user: Any) -> Series:
    """One series by our id or SeriesInstanceUID; one's own comes before another's of the same UID."""
    meant = [one for one in shelf if ref in {one.pk, one.uid}]
    if not meant:
        raise SeriesNotFound
    return min(meant, key=lambda one: (one.pk != ref, one.study.owner_id != user.pk, one.part, -one.revision))


def in_sequence_order(named: Ordered[Series]) -> Given:
    """The series as T1, T1CE, T2, FLAIR: by what was recognised, or by their order when one of four was not.

    Raises:
        SequencesUnclear: a sequence is there twice, one that was recognised stands in another's place, or of fewer
            than four one was not recognised.
    """
    recognised = Counter(one.sequence for one in named if one.sequence)
    doubled = sorted(name for name, count in recognised.items() if count > 1)
    missing = [str(name) for name in ORDER if name not in recognised]
    if doubled:
        raise SequencesUnclear(f"More than one of the series is {doubled[0]}; {', '.join(missing)} would be missing.")
    if sum(recognised.values()) == len(named):
        return tuple((name, one) for name in ORDER for one in named if one.sequence == name)
    if len(named) < len(ORDER):
        raise SequencesUnclear(
            "Fewer than four series were named, and of one it is not known which sequence it is. Say which it is."
        )
    for place, one in zip(ORDER, named, strict=True):
        if one.sequence and one.sequence != place:
            raise SequencesUnclear(
                f"Not every series was recognised, so their order counts: T1, T1CE, T2, FLAIR. "
                f"The one in the place of {place} is {one.sequence}."
            )
    return tuple(zip(ORDER, named, strict=True))


def _is_local(wish: Wish) -> bool:
    return settings.USE_LOCAL_INFERENCE if wish.use_local is None else wish.use_local


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
