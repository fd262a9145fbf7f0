"""Between a row and the value the rules speak of; pure but for the row it writes into."""

from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from typing import Any

from inference.contract import Sequence, Stage
from server.core import job as core
from server.core.scheduler import Demand, Waiting
from server.jobs.models import Job, Rank

PLAIN = (
    "fence",
    "started_fence",
    "attempt",
    "worker_id",
    "lease_until",
    "progress",
    "eta_seconds",
    "is_stop_pending",
    "result_id",
    "error_code",
    "started_at",
    "finished_at",
)
"""Fields that are the same in both; the others are turned."""
TURNED = ("state", "route", "stage", "waiting_reason", "causes", "avoid")
PRIORITIES = {Rank.URGENT: core.Priority.URGENT, Rank.ROUTINE: core.Priority.ROUTINE, Rank.BATCH: core.Priority.BATCH}
RANKS = {priority: rank for rank, priority in PRIORITIES.items()}


def value_of(row: Job) -> core.Job:
    """The row as the rules see it."""
    return core.Job(
        id=row.id,
        state=core.State(row.state),
        route=core.Route(row.route),
        stage=Stage(row.stage) if row.stage else None,
        waiting_reason=core.WaitingReason(row.waiting_reason) if row.waiting_reason else None,
        causes=tuple(core.Cause(**{**one, "at": datetime.fromisoformat(one["at"])}) for one in row.causes),
        avoid=_avoidances(row.avoid),
        **{name: getattr(row, name) for name in PLAIN},
    )


def changes(before: core.Job, after: core.Job) -> dict[str, Any]:
    """The columns that differ, with the values to store."""
    return {
        name: _column(getattr(after, name))
        for name in (*PLAIN, *TURNED)
        if getattr(before, name) != getattr(after, name)
    }


def waiting_of(row: Job) -> Waiting:
    """A queued row as the scheduler sees it."""
    return Waiting(
        job_id=row.id,
        demand=demand_of(row.demand),
        priority=PRIORITIES[Rank(row.rank)],
        created_at=row.created_at,
        user_id=str(row.requested_by_id),
        inputs=frozenset(row.inputs),
        avoid=_avoidances(row.avoid),
        faltered_on=frozenset(cause["worker_id"] for cause in row.causes if cause["code"] not in BLAMELESS),
    )


def demand_word(demand: Demand) -> str:
    """A demand as one word, equal for equal demands: the queue is read by it."""
    parts = [demand.route, demand.model_name or "", demand.model_version, ",".join(sorted(demand.labels))]
    # With all four there is no fifth part: so the word is what it was before there were variants.
    return "|".join([*parts, ",".join(sorted(demand.sequences))] if demand.sequences else parts)


@lru_cache(maxsize=1024)
def demand_of(word: str) -> Demand:
    """The demand that a word says."""
    route, name, version, labels, *sequences = word.split("|")
    return Demand(
        route=core.Route(route),
        model_name=name or None,
        model_version=version,
        labels=frozenset(filter(None, labels.split(","))),
        sequences=frozenset(name for part in sequences for name in part.split(",")),
    )


def given_sequences(row: Job) -> tuple[Sequence, ...]:
    """Which sequence each of the job's series stands for, in the order of `sequence_series_ids`."""
    return tuple(map(Sequence, row.sequences)) or tuple(Sequence)


BLAMELESS = frozenset({"busy", "draining", "no_model", "vram", "shutdown"})
"""Causes that say nothing against the worker."""


def _avoidances(stored: list[dict[str, str]]) -> tuple[core.Avoidance, ...]:
    return tuple(
        core.Avoidance(worker_id=one["worker_id"], until=datetime.fromisoformat(one["until"])) for one in stored
    )


def _column(value: Any) -> Any:
    if isinstance(value, tuple):
        return [{name: _plain(part) for name, part in asdict(one).items()} for one in value]
    return str(value) if isinstance(value, core.State | core.Route | core.WaitingReason | Stage) else value


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
