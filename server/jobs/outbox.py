"""What goes out once a change is committed: wake the assigner, stop a worker, poke the watchers.

All of it may be lost (the row and its log are the truth), so nothing here can fail a request.

Flow: 3 dispatch
"""

from collections.abc import Callable, Iterable
from functools import partial

from django.db import transaction

from server.core.effects import Append, Change, Effect, Seek, Show, Stop
from server.jobs.models import Job
from server.topics import pokes
from server.topics.services import append

TOLD_TO_STUDY = {Change.QUEUED, Change.SUCCEEDED, Change.FAILED, Change.CANCELLED}

_seekers: list[Callable[[], None]] = []
_stoppers: list[Callable[[str], None]] = []
_learners: list[Callable[[str], None]] = []


def on_seek(seeker: Callable[[], None]) -> None:
    """Call `seeker` whenever a job looks for a worker. It is called in any thread and must not block."""
    _seekers.append(seeker)


def on_stop(stopper: Callable[[str], None]) -> None:
    """Call `stopper` with a worker's id whenever that worker is to stop something."""
    _stoppers.append(stopper)


def on_success(learner: Callable[[str], None]) -> None:
    """Call `learner` with the id of every job that has succeeded. It is called in any thread, with a connection."""
    _learners.append(learner)


def topic_of(job_id: str) -> str:
    """The topic that watchers of a job follow."""
    return f"job:{job_id}"


def news_body(row: Job, *, queue_position: int | None = None) -> dict[str, object]:
    """The newest-only progress of a job."""
    return {
        "stage": row.stage,
        "progress": row.progress,
        "eta_seconds": row.eta_seconds,
        "queue_position": queue_position,
    }


class _Named:
    """A call with the name that Django wants to log when it fails, which a partial function has not."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.__qualname__ = getattr(getattr(call, "func", call), "__qualname__", "a call")

    def __call__(self) -> None:
        self.call()


def publish(row: Job, effects: Iterable[Effect]) -> None:
    """Arrange for the effects of a change: in its transaction what must last, after the commit the rest."""
    effects = tuple(effects)
    calls = [call for effect in effects for call in _dispatch_calls(effect)]
    changes = [effect.change for effect in effects if isinstance(effect, Append)]
    # Nobody watches a job that is not there before this commit.
    if changes and changes != [Change.QUEUED]:
        calls.append(partial(pokes.poke, topic_of(row.id), seq=row.last_seq))
    elif Show() in effects:
        calls.append(partial(pokes.news, topic_of(row.id), kind="progress", body=news_body(row)))
    if Change.SUCCEEDED in changes:
        calls += [partial(learner, row.id) for learner in _learners]
    for call in calls:
        transaction.on_commit(_Named(call), robust=True)
    for change in TOLD_TO_STUDY.intersection(changes):
        append(f"study:{row.study_id}", kind=f"job.{change}", payload={"job": row.id})


def _dispatch_calls(effect: Effect) -> list[Callable[[], None]]:
    if isinstance(effect, Seek):
        return list(_seekers)
    if isinstance(effect, Stop):
        return [partial(stopper, effect.worker_id) for stopper in _stoppers]
    return []
