"""What the rows have for workers, for the pokes that were lost: no word to a socket may depend on the channel layer.

All sockets of a process share one look, a second old at most, so that a thousand workers cost as much as one.

Flow: 4 push
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings

from server.core.reconcile import Hold
from server.dispatch import selectors
from server.dispatch.models import Worker
from server.dispatch.threads import in_thread
from server.jobs import services as jobs
from server.jobs.models import Job

log = structlog.get_logger(__name__)

FRESH_SECONDS = 1.0
WISH_FIELDS = ("state", "last_session", "is_drain_wanted", "is_rotation_wanted", "key_made_at")


@dataclass(frozen=True)
class Standing:
    """Where a worker stands: `session` is its newest, `is_awaited` when offers or stops wait for its answer."""

    state: str
    session: int
    is_awaited: bool
    wants_drain: bool
    wants_new_key: bool


@dataclass(frozen=True)
class Due:
    """All that is to be said to a worker. `drain_seconds` is the time it has left, None without a deadline."""

    state: str | None
    offers: tuple[selectors.Offer, ...] = ()
    stops: tuple[Hold, ...] = ()
    wants_drain: bool = False
    drain_seconds: float | None = None
    wants_new_key: bool = False


class Standings:
    """The workers whose sockets are in this process, and what one look at the rows found for them."""

    def __init__(self) -> None:
        self._followed: Counter[str] = Counter()
        self._found: Mapping[str, Standing] = {}
        self._looked_at = float("-inf")

    def follow(self, worker_id: str) -> None:
        """Look for this worker too, from the next look on."""
        self._followed[worker_id] += 1

    def forget(self, worker_id: str) -> None:
        """As often as it was followed."""
        self._followed[worker_id] -= 1
        if self._followed[worker_id] <= 0:
            del self._followed[worker_id]

    async def of(self, worker_id: str) -> Standing | None:
        """Where the worker stands; None while nobody has looked for it."""
        now = time.monotonic()
        if now - self._looked_at > FRESH_SECONDS:
            # Set before the look: whoever asks meanwhile takes what was found last time.
            self._looked_at = now
            await self._look()
        return self._found.get(worker_id)

    async def _look(self) -> None:
        try:
            self._found = await in_thread(look_for, frozenset(self._followed))
        except Exception as error:  # noqa: BLE001  (the database may be away; a worker's own frames find that out)
            log.warning("could not look for what workers are to be told", cause=type(error).__name__)


standings = Standings()


def look_for(worker_ids: frozenset[str]) -> dict[str, Standing]:
    """Where these workers stand: three queries, however many they are."""
    at = jobs.now()
    concerned = set(selectors.unanswered().values_list("worker_id", flat=True))
    concerned |= set(Job.objects.filter(is_stop_pending=True).values_list("worker_id", flat=True))
    # Tuples and no objects: with a thousand workers this is done every second.
    rows = Worker.objects.filter(pk__in=worker_ids).values_list("pk", *WISH_FIELDS)
    return {
        worker_id: Standing(
            state=state,
            session=session,
            is_awaited=worker_id in concerned,
            wants_drain=wants_drain,
            wants_new_key=is_asked or _is_old(made_at, at),
        )
        for worker_id, state, session, wants_drain, is_asked, made_at in rows
    }


def due_for(worker_id: str) -> Due:
    """All that is to be said to one worker."""
    row = Worker.objects.filter(pk=worker_id).only(*WISH_FIELDS, "drain_until").first()
    if row is None:
        return Due(state=None)
    at = jobs.now()
    seconds = None if row.drain_until is None else max(0.0, (row.drain_until - at).total_seconds())
    return Due(
        state=str(row.state),
        offers=tuple(selectors.offers_for(worker_id)),
        stops=tuple(selectors.stops_for(worker_id)),
        wants_drain=row.is_drain_wanted,
        drain_seconds=seconds,
        wants_new_key=row.is_rotation_wanted or _is_old(row.key_made_at, at),
    )


def _is_old(made_at: datetime, at: datetime) -> bool:
    return at - made_at > timedelta(days=settings.LIMITS.key_days)
