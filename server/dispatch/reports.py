"""What a worker says of its jobs: taken, turned down, under way, done, failed, given back.

Progress comes four times a second and is passed on as it comes; the row gets the newest of it every two seconds
and with each heartbeat, so that SQLite commits stay few. A change of stage is an event at once.

Flow: 7 progress
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from server.core.effects import Append
from server.core.events import Progressed, WorkerEvent
from server.core.job import Job as JobValue
from server.core.job import State
from server.core.machine import Refused, advance
from server.core.reconcile import Hold
from server.dispatch import dataplane, forecast, selectors, sessions, translate
from server.dispatch.deliveries import Delivery, Outcome, deliveries
from server.dispatch.enrolment import WORKERS_TOPIC
from server.dispatch.farewells import revoked, superseded
from server.dispatch.threads import in_thread
from server.jobs import services as jobs
from server.jobs.epoch import current_epoch
from server.jobs.errors import JobNotFound
from server.jobs.outbox import topic_of
from server.topics import pokes
from worker_client.protocol import messages as m

log = structlog.get_logger(__name__)

STORE_SECONDS = 2.0
MOST_OVER = 1000

Answered = m.JobResult | m.JobFailed


class Speaker(Protocol):
    """Where answers go."""

    async def say(self, message: m.Message) -> None:
        """Send a message."""


class Reports:
    """The reports of one session. Its attempts are known here as they were last heard of."""

    def __init__(self, line: Speaker, *, worker_id: str, session: int, tasks: asyncio.TaskGroup) -> None:
        self.line = line
        self.worker_id = worker_id
        self.session = session
        self.tasks = tasks
        self._running: dict[Hold, JobValue] = {}
        self._over: set[Hold] = set()
        self._unsaved: dict[Hold, JobValue] = {}
        self._store_at = 0.0
        self.answers: Mapping[type[Any], Callable[[Any], Awaitable[None]]] = {
            m.JobAccept: self._accepted,
            m.JobDecline: self._given_back,
            m.JobRelease: self._given_back,
            m.JobProgress: self._progressed,
            m.JobPreview: self._previewed,
            m.JobResult: self._finished,
            m.JobFailed: self._failed,
            m.JobCancelled: self._cancelled,
            m.TokenRefresh: self._wants_token,
        }

    def forget(self, hold: Hold) -> None:
        """Nothing more is passed on of an attempt."""
        self._running.pop(hold, None)
        self._unsaved.pop(hold, None)
        self._note_over(hold)

    def unsaved(self) -> list[JobValue]:
        """The progress that is not in the rows yet; whoever takes it stores it."""
        waiting, self._unsaved = list(self._unsaved.values()), {}
        self._store_at = time.monotonic() + STORE_SECONDS
        return waiting

    # ── messages ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _accepted(self, message: m.JobAccept) -> None:
        hold = _hold(message)
        try:
            self._running[hold] = await in_thread(_accept, message, worker_id=self.worker_id, session=self.session)
        except (Refused, JobNotFound):
            await self.line.say(m.JobCancel(re=message.id or None, job=message.job, fence=message.fence, reason="lost"))
            return
        await self._tell_table()

    async def _given_back(self, message: m.JobDecline | m.JobRelease) -> None:
        self.forget(_hold(message))
        with suppress(Refused, JobNotFound):
            await in_thread(_record, message, worker_id=self.worker_id, session=self.session)

    async def _progressed(self, message: m.JobProgress) -> None:
        hold = _hold(message)
        value = await self._known(hold)
        if value is None:
            return
        event = _foretold(message, translate.to_event(message, worker_id=self.worker_id, at=timezone.now()))
        try:
            after, effects = advance(value, event, settings.POLICY)
            if any(isinstance(effect, Append) for effect in effects):
                after = await in_thread(_record, message, worker_id=self.worker_id, session=self.session)
                await self._tell_table()
        except (Refused, JobNotFound):
            self.forget(hold)
            return
        if after.state is not State.RUNNING:
            self.forget(hold)
            return
        self._running[hold] = self._unsaved[hold] = after
        await pokes.anews(topic_of(message.job), kind="progress", body=_progress_body(after))
        if time.monotonic() >= self._store_at:
            await in_thread(_store, self.unsaved())
            await self._tell_table()

    async def _previewed(self, message: m.JobPreview) -> None:
        if len(message.labels) > settings.LIMITS.preview_bytes or min(message.shape) < 1:
            return
        if await self._known(_hold(message)) is not None:
            await pokes.anews(topic_of(message.job), kind="preview", body=translate.to_preview_news(message))

    async def _finished(self, message: m.JobResult) -> None:
        # Proving takes seconds, and heartbeats must be answered meanwhile.
        self.tasks.create_task(self._deliver(message))

    async def _deliver(self, message: m.JobResult) -> None:
        try:
            await self._settle(message)
        except sessions.WorkerRevoked as error:
            raise revoked() from error
        except sessions.SessionOver as over:
            raise superseded() from over
        except Exception:
            # A full disk, a locked database: the worker keeps the result and says it again.
            log.exception("a result could not be settled", job=message.job, fence=message.fence)
            await self._refuse(message, "try_again")

    async def _settle(self, message: m.JobResult) -> None:
        await in_thread(_insist, worker_id=self.worker_id, session=self.session)
        if message.epoch != await in_thread(current_epoch):
            await self._stale(message)
            return
        if len(message.artifacts) != 1:
            await self._refuse(message, "one_mask_expected", is_temporary=False)
            return
        model = message.metrics.model
        delivery = Delivery(
            worker_id=self.worker_id,
            hold=_hold(message),
            result_id=message.result_id,
            artifact_id=message.artifacts[0].artifact,
            packed=translate.to_packed(message.artifacts[0]),
            model=translate.to_model_ref(model) if model else None,
            metrics=translate.to_metrics(message.metrics),
        )
        outcome = await deliveries.settle(delivery)
        if outcome is Outcome.UPLOAD_MISSING:
            await self._refuse(message, "upload_incomplete")
        elif outcome is Outcome.STALE:
            await self._stale(message)
        else:
            await self._settled(message)

    async def _failed(self, message: m.JobFailed) -> None:
        try:
            await in_thread(_record, message, worker_id=self.worker_id, session=self.session, epoch=message.epoch)
        except (Refused, JobNotFound):
            await self._stale(message)
        else:
            await self._settled(message)

    async def _cancelled(self, message: m.JobCancelled) -> None:
        self.forget(_hold(message))
        await in_thread(_confirm_stop, message, worker_id=self.worker_id, session=self.session)

    async def _wants_token(self, message: m.TokenRefresh) -> None:
        re = message.id or None
        token = await in_thread(_fresh_token, message, worker_id=self.worker_id, session=self.session)
        if token is None:
            await self.line.say(m.ResultStale(re=re, job=message.job, fence=message.fence))
            return
        seconds = settings.LIMITS.data_token_seconds
        await self.line.say(
            m.TokenRefreshOk(re=re, job=message.job, fence=message.fence, data_token=token, data_token_seconds=seconds)
        )

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _settled(self, message: Answered) -> None:
        self.forget(_hold(message))
        result_id = getattr(message, "result_id", "")
        await self.line.say(
            m.ResultOk(re=message.id or None, job=message.job, fence=message.fence, result_id=result_id)
        )
        await self._tell_table()

    async def _stale(self, message: Answered) -> None:
        self.forget(_hold(message))
        result_id = getattr(message, "result_id", "")
        await self.line.say(
            m.ResultStale(re=message.id or None, job=message.job, fence=message.fence, result_id=result_id)
        )

    async def _refuse(self, message: m.JobResult, code: str, *, is_temporary: bool = True) -> None:
        await self.line.say(m.Error(re=message.id or None, code=code, temporary=is_temporary))

    async def _known(self, hold: Hold) -> JobValue | None:
        """The attempt, if it is running here; one that was running before this connection is read once."""
        if hold not in self._running and hold not in self._over:
            value = await in_thread(selectors.running_attempt, hold, worker_id=self.worker_id)
            if value is None:
                self._note_over(hold)
            else:
                self._running[hold] = value
        return self._running.get(hold)

    def _note_over(self, hold: Hold) -> None:
        # It only spares a look at the row, so a worker that makes attempts up must not be able to fill it.
        if len(self._over) >= MOST_OVER:
            self._over.clear()
        self._over.add(hold)

    async def _tell_table(self) -> None:
        snapshot = await in_thread(selectors.worker_snapshot, self.worker_id)
        await pokes.anews(WORKERS_TOPIC, kind="telemetry", body={"id": self.worker_id, "worker": snapshot})


def _hold(message: Any) -> Hold:
    return Hold(message.job, message.fence)


def _progress_body(value: JobValue) -> dict[str, Any]:
    return {
        "stage": str(value.stage) if value.stage else None,
        "progress": value.progress,
        "eta_seconds": value.eta_seconds,
        "queue_position": None,
    }


def _accept(message: m.JobAccept, *, worker_id: str, session: int) -> JobValue:
    event = translate.to_event(message, worker_id=worker_id, at=jobs.now())
    return sessions.accept(message.job, event, session=session)


@transaction.atomic
def _record(message: translate.Report, *, worker_id: str, session: int, epoch: str | None = None) -> JobValue:
    sessions.insist(worker_id, session)
    if epoch not in {None, current_epoch()}:
        raise JobNotFound
    event = translate.to_event(message, worker_id=worker_id, at=jobs.now())
    return jobs.record(message.job, _foretold(message, event))


def _foretold(message: translate.Report, event: WorkerEvent) -> WorkerEvent:
    """What is left by the pace that was measured here counts for more than what the worker thinks."""
    if not isinstance(event, Progressed):
        return event
    seconds = forecast.seconds_left(message.job, stage=event.stage, fraction=event.fraction)
    return event if seconds is None else replace(event, eta_seconds=seconds)


@transaction.atomic
def _confirm_stop(message: m.JobCancelled, *, worker_id: str, session: int) -> None:
    sessions.insist(worker_id, session)
    jobs.confirm_stop(message.job, worker_id=worker_id, fence=message.fence)


@transaction.atomic
def _fresh_token(message: m.TokenRefresh, *, worker_id: str, session: int) -> str | None:
    sessions.insist(worker_id, session)
    return dataplane.fresh_token(_hold(message), worker_id=worker_id)


@transaction.atomic
def _insist(*, worker_id: str, session: int) -> None:
    sessions.insist(worker_id, session)


def _store(values: list[JobValue]) -> None:
    for value in values:
        jobs.note_progress(value)
