"""A look around, every two seconds: who serves what, why the others wait, and where they stand.

Flow: 3 dispatch
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from server.core.job import Route, WaitingReason
from server.core.scheduler import Waiting, in_order, waiting_reason
from server.dispatch import candidates, forecast
from server.jobs import lines, rows, services
from server.jobs.models import Rank

AT_ONCE = 250
"""How many jobs one transaction tells a new reason: the database is nobody else's meanwhile."""
SHOWN = 20
"""How many of those who are next on each route are told when they move up; the others see it when they look."""


@dataclass(frozen=True)
class Standings:
    """Where those who are next stand: place in the queue and seconds to the end, by job."""

    places: Mapping[str, tuple[int, float | None]] = field(default_factory=dict)
    is_behind: bool = False
    """Whether jobs are left that still say something else than why they wait."""


def look_around() -> Standings:
    """Renew the forecast, let queued jobs say why they wait, and tell where the first of them stand."""
    demands = lines.demands()
    at = services.now()
    workers = [worker.seen for worker in candidates.present(at)] if demands else []
    forecast.renew(demands, workers)
    is_behind = False
    for word, demand in demands.items():
        is_behind |= _tell(word, waiting_reason(demand, workers))
    places: dict[str, tuple[int, float | None]] = {}
    for route in Route:
        words = [word for word, demand in demands.items() if demand.route is route]
        for place, wish in enumerate(_first(words, at), start=1):
            places[wish.job_id] = (place, forecast.eta(rows.demand_word(wish.demand), place))
    return Standings(places=places, is_behind=is_behind)


def _first(words: list[str], at: datetime) -> list[Waiting]:
    """Those who are next on a route, in order."""
    found: list[Waiting] = []
    for rank in Rank.values if words else ():
        found += [rows.waiting_of(row) for row in lines.heads(words, rank=rank, each=SHOWN)]
        if len(found) >= SHOWN:
            break
    used = lines.used_by({wish.user_id for wish in found}, at=at)
    return in_order(found, at=at, used=used)[:SHOWN]


def _tell(word: str, reason: WaitingReason) -> bool:
    """Let the jobs of one kind say the reason, some at a time; True when some are left."""
    ids = lines.saying_otherwise(word, reason, limit=AT_ONCE + 1)
    if ids:
        services.note_waiting(ids[:AT_ONCE], reason)
    return len(ids) > AT_ONCE
