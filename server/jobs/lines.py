"""Reading the queue, as quickly with a hundred thousand jobs in it as with ten.

Nothing here looks at more of the queue than it gives back: the demands, and the users behind each, are found by jumps
through the index `job_lines` (a recursive query asks for the next larger value each time), then the head of each line.
Only the lengths of the lines are counted, from the index alone; they are kept for two seconds when the queue is long.

Flow: 3 dispatch
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import connection

from server.core.job import HELD_STATES, Route, State, WaitingReason
from server.core.scheduler import Demand, Line, place
from server.jobs.models import Job, Rank
from server.jobs.rows import PRIORITIES, demand_of

RECENT = timedelta(minutes=10)
LONG = 2000
KEPT_SECONDS = 2.0
MOST_DEMANDS = 200
MOST_USERS = 400
MOST_USED = 2000
AT_ONCE = 200
"""Users asked for in one statement: SQLite takes five hundred parts in a union."""

# The state stands in the texts: given as a parameter, SQLite would not find the partial indexes, or would read every
# row beside them to look whether it is queued.
_DEMANDS = """
WITH RECURSIVE kinds(demand) AS (
    SELECT MIN(demand) FROM jobs_job WHERE state = 'queued'
    UNION ALL
    SELECT (SELECT MIN(demand) FROM jobs_job WHERE state = 'queued' AND demand > kinds.demand)
    FROM kinds WHERE kinds.demand IS NOT NULL
)
SELECT demand FROM kinds WHERE demand IS NOT NULL LIMIT %s"""

_USERS = """
WITH RECURSIVE users(id) AS (
    SELECT MIN(requested_by_id) FROM jobs_job WHERE state = 'queued' AND demand = %s AND rank = %s
    UNION ALL
    SELECT (SELECT MIN(requested_by_id) FROM jobs_job
            WHERE state = 'queued' AND demand = %s AND rank = %s AND requested_by_id > users.id)
    FROM users WHERE users.id IS NOT NULL
)
SELECT id FROM users WHERE id IS NOT NULL LIMIT %s"""

_HEAD = """SELECT id FROM (SELECT id FROM jobs_job WHERE state = 'queued' AND demand = %s AND rank = %s
AND requested_by_id = %s ORDER BY created_at, id LIMIT %s) AS head"""

_OLDER = """
SELECT COUNT(*) FROM jobs_job WHERE state = 'queued' AND demand = %s AND rank = %s AND requested_by_id = %s
AND (created_at, id) < (%s, %s)"""

_LINES = """
SELECT rank, requested_by_id, COUNT(*), MIN(created_at) FROM jobs_job WHERE state = 'queued' AND demand IN ({marks})
GROUP BY rank, requested_by_id"""

_SAYING = """
SELECT id FROM (SELECT id FROM jobs_job {by} WHERE state = 'queued' AND demand = %s AND waiting_reason IN (%s, %s)
LIMIT %s) AS others UNION ALL
SELECT id FROM (SELECT id FROM jobs_job {by} WHERE state = 'queued' AND demand = %s AND waiting_reason IS NULL
LIMIT %s) AS silent"""

HEAD_FIELDS = ("demand", "rank", "requested_by_id", "created_at", "avoid", "causes", "inputs")


@dataclass(frozen=True)
class Lines:
    """How long every user's line of one route is, and how much each of these users had lately."""

    lines: tuple[Line, ...]
    used: dict[str, int]
    demands: tuple[str, ...]

    @property
    def waiting(self) -> int:
        """How many jobs are queued."""
        return sum(line.waiting for line in self.lines)


def demands() -> dict[str, Demand]:
    """Every kind of job that is queued, by its word."""
    with connection.cursor() as cursor:
        cursor.execute(_DEMANDS, [MOST_DEMANDS])
        return {word: demand_of(word) for (word,) in cursor.fetchall()}


def heads(words: Iterable[str], *, rank: int, each: int) -> list[Job]:
    """The first `each` jobs of every user's line at one rank for these demands, with what the scheduler reads."""
    found: list[str] = []
    with connection.cursor() as cursor:
        for word in words:
            cursor.execute(_USERS, [word, rank, word, rank, MOST_USERS])
            users = [user_id for (user_id,) in cursor.fetchall()]
            for start in range(0, len(users), AT_ONCE):
                some = users[start : start + AT_ONCE]
                given = [part for user_id in some for part in (word, rank, user_id, each)]
                cursor.execute(" UNION ALL ".join([_HEAD] * len(some)), given)
                found += [job_id for (job_id,) in cursor.fetchall()]
    return list(Job.objects.filter(pk__in=found).only(*HEAD_FIELDS).order_by()) if found else []


def saying_otherwise(word: str, reason: WaitingReason, *, limit: int) -> list[str]:
    """Up to `limit` jobs of a demand, or twice as many, that do not say yet that they wait for this reason."""
    one, other = sorted(set(WaitingReason) - {reason})
    with connection.cursor() as cursor:
        # Left to itself, SQLite reads the whole table to find that there is none.
        by = "INDEXED BY job_reasons" if connection.vendor == "sqlite" else ""
        cursor.execute(_SAYING.format(by=by), [word, str(one), str(other), limit, word, limit])
        return [job_id for (job_id,) in cursor.fetchall()]


def is_anybody_waiting(route: str) -> bool:
    """Whether any job of the route is queued."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM jobs_job WHERE state = 'queued' AND route = %s LIMIT 1", [route])
        return cursor.fetchone() is not None


def is_full(limit: int) -> bool:
    """Whether `limit` jobs are queued; counts no further."""
    return Job.objects.filter(state=State.QUEUED).order_by()[limit - 1 : limit].exists() if limit > 0 else True


def used_by(users: Iterable[int | str], *, at: datetime) -> dict[str, int]:
    """How many jobs each of the users holds, or had within the last ten minutes; those with none are left out."""
    wanted = {str(user_id) for user_id in users}
    if len(wanted) < 2:  # alone there is nobody to take turns with
        return {}
    held = Job.objects.filter(state__in=sorted(HELD_STATES), lease_until__isnull=False)
    ended = Job.objects.filter(finished_at__gt=at - RECENT, attempt__gt=0)
    # Counted here: asked to group them, SQLite goes through all jobs by user instead of the few by time.
    counted: Counter[str] = Counter()
    for some in (held, ended):
        counted.update(
            str(user_id) for user_id in some.order_by().values_list("requested_by_id", flat=True)[:MOST_USED]
        )
    return {user_id: count for user_id, count in counted.items() if user_id in wanted}


def lines_of(route: Route, *, at: datetime) -> Lines:
    """The lines of a route; up to two seconds old when they are long."""
    read_at, kept = _kept.get(route, (0.0, None))
    if kept is not None and kept.waiting > LONG and time.monotonic() - read_at < KEPT_SECONDS:
        return kept
    words = tuple(word for word, demand in demands().items() if demand.route is route)
    lines = _counted(words)
    found = Lines(lines=lines, used=used_by((line.user_id for line in lines), at=at), demands=words)
    _kept[route] = (time.monotonic(), found)
    return found


def place_of(job: Job, *, at: datetime) -> int | None:
    """Where a job stands among all of its route (1: next), whatever they ask for; None unless it is queued."""
    if job.state != State.QUEUED:
        return None
    lines = lines_of(Route(job.route), at=at)
    nth = sum(_ahead_in_line(job, word) for word in {*lines.demands, job.demand})
    priority, user_id = PRIORITIES[Rank(job.rank)], str(job.requested_by_id)
    own = (one for one in lines.lines if (one.priority, one.user_id) == (priority, user_id))
    mine = next(own, Line(priority=priority, user_id=user_id, waiting=1, first_at=job.created_at))
    return place(mine, nth, lines.lines, at=at, used=lines.used)


_kept: dict[Route, tuple[float, Lines | None]] = {}


def _counted(words: tuple[str, ...]) -> tuple[Line, ...]:
    """Several demands of one user are one line."""
    if not words:
        return ()
    with connection.cursor() as cursor:
        cursor.execute(_LINES.format(marks=", ".join(["%s"] * len(words))), words)
        return tuple(
            Line(priority=PRIORITIES[Rank(rank)], user_id=str(user_id), waiting=count, first_at=_moment(first_at))
            for rank, user_id, count, first_at in cursor.fetchall()
        )


def _moment(stored: datetime | str) -> datetime:
    """SQLite keeps a time as a text, in UTC."""
    return datetime.fromisoformat(stored).replace(tzinfo=UTC) if isinstance(stored, str) else stored


def _ahead_in_line(job: Job, word: str) -> int:
    """How many jobs of one's own line and this demand are older; counted from the index alone."""
    created_at = connection.ops.adapt_datetimefield_value(job.created_at)
    with connection.cursor() as cursor:
        cursor.execute(_OLDER, [word, job.rank, job.requested_by_id, created_at, job.id])
        return int(cursor.fetchone()[0])
