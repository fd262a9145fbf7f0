"""What a worker holds for the server: jobs it computes, answers it owes, and the reports that are due on them.

Flow: 7 progress
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from worker_client.answers import Answer, Failure, Key, Result
from worker_client.protocol.messages import (
    Held,
    JobFailed,
    JobOffer,
    JobPreview,
    JobProgress,
    JobResult,
    Running,
    StageName,
)

DEFAULT_PROGRESS_SECONDS = 0.25
PREVIEW_SECONDS = 0.5
TOKEN_SHARE = 0.8
"""Of its life a data token is used; then another is asked for, so that a long upload is never stopped by its age."""
LEAST_TOKEN_SECONDS = 5.0
MOST_REMEMBERED = 512


@dataclass
class Reports:
    """The newest progress and preview of one attempt that are not said yet."""

    key: Key
    progress: JobProgress | None = None
    preview: JobPreview | None = None
    progress_from: float = float("-inf")
    preview_from: float = float("-inf")
    last_number: int = 0

    def due(self, at: float, *, progress_seconds: float) -> Iterator[JobProgress | JobPreview]:
        """What may be said now; saying it starts the next pause."""
        if self.progress is not None and at >= self.progress_from:
            yield msgspec.structs.replace(self.progress, pseq=self._number())
            self.progress, self.progress_from = None, at + progress_seconds
        if self.preview is not None and at >= self.preview_from:
            yield msgspec.structs.replace(self.preview, pseq=self._number())
            self.preview, self.preview_from = None, at + PREVIEW_SECONDS

    def times(self) -> Iterator[float]:
        """When something may be said next."""
        if self.progress is not None:
            yield self.progress_from
        if self.preview is not None:
            yield self.preview_from

    def _number(self) -> int:
        self.last_number += 1
        return self.last_number


@dataclass(kw_only=True)
class Attempt:
    """What jobs and answers have in common: the token that moves their bytes, and when to speak of them again."""

    reports: Reports
    token: str | None = None
    token_until: float = float("inf")
    wants_token: bool = False
    say_at: float | None = None

    @property
    def key(self) -> Key:
        """Which attempt at which job."""
        return self.reports.key

    def use_token(self, token: str, *, seconds: float, at: float) -> None:
        """From now on this token, good for `seconds`."""
        self.token, self.wants_token = token, False
        self.token_until, self.say_at = at + TOKEN_SHARE * max(seconds, LEAST_TOKEN_SECONDS), None

    def due_times(self) -> Iterator[float]:
        """When something has to be said about it next."""
        if self.say_at is not None:
            yield self.say_at
        if self.token is not None and not self.wants_token:
            yield self.token_until

    def is_token_old(self, at: float) -> bool:
        """Whether another token should be asked for."""
        return self.token is not None and not self.wants_token and at >= self.token_until


@dataclass(kw_only=True)
class Job(Attempt):
    """A job that is being computed. `stopping` says why it shall end without an answer."""

    offer: JobOffer
    stage: StageName = "fetch"
    percent: float = 0.0
    eta_seconds: float | None = None
    stopping: Literal["cancel", "lost", "release"] | None = None

    def as_running(self) -> Running:
        """How `hello` lists it."""
        offer = self.offer
        return Running(job=offer.job, fence=offer.fence, attempt=offer.attempt, stage=self.stage, pct=self.percent)


@dataclass(kw_only=True)
class Owed(Attempt):
    """An answer that the server has not acknowledged, and how far its delivery is."""

    answer: Answer
    is_uploading: bool = False
    artifact: str | None = None

    def announcement(self) -> JobResult | JobFailed | None:
        """What tells the server of it; None while its mask is not there yet."""
        if isinstance(self.answer, Failure):
            return self.answer.as_message()
        return None if self.artifact is None else self.answer.as_message(artifact=self.artifact)


class Holdings:
    """Jobs by attempt, and answers by attempt. An attempt is in one of the two, never in both."""

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self.jobs: dict[Key, Job] = {}
        self.owed: dict[Key, Owed] = {}
        self.progress_seconds = DEFAULT_PROGRESS_SECONDS
        self._over: OrderedDict[Key, None] = OrderedDict()
        for answer in answers:
            self.owe(answer)

    def take(self, offer: JobOffer, *, at: float) -> None:
        """Hold a job that was accepted."""
        key = Key(offer.job, offer.fence)
        job = self.jobs[key] = Job(offer=offer, reports=Reports(key))
        job.use_token(offer.data_token, seconds=offer.data_token_seconds, at=at)

    def find(self, key: Key | None) -> Job | Owed | None:
        """What is held of an attempt."""
        return None if key is None else self.jobs.get(key) or self.owed.get(key)

    def owe(self, answer: Answer, *, after: Attempt | None = None) -> Owed:
        """Hold an answer until it is acknowledged; the token is that of the attempt it comes from."""
        owed = Owed(answer=answer, reports=Reports(answer.key))
        if after is not None:
            owed.token, owed.token_until, owed.wants_token = after.token, after.token_until, after.wants_token
            owed.reports.last_number = after.reports.last_number
        self.owed[answer.key] = owed
        return owed

    def finish(self, key: Key) -> None:
        """Nothing is held of an attempt any more; the same offer, heard again, begins nothing."""
        self.jobs.pop(key, None)
        self.owed.pop(key, None)
        self._over[key] = None
        while len(self._over) > MOST_REMEMBERED:
            self._over.popitem(last=False)

    def is_outdated(self, key: Key) -> bool:
        """Whether this attempt is over here, or a newer one at the same job is known."""
        known = (*self.jobs, *self.owed, *self._over)
        return key in self._over or any(one.job == key.job and one.fence > key.fence for one in known)

    def older(self, key: Key) -> tuple[Key, ...]:
        """What is held of earlier attempts at the same job: a newer offer proves that they no longer count."""
        return tuple(one for one in (*self.jobs, *self.owed) if one.job == key.job and one.fence < key.fence)

    def forget_fences(self) -> None:
        """The server counts its fences anew."""
        self._over.clear()

    def slept(self, seconds: float) -> None:
        """Time went by that the clock did not count: tokens are older than they seem."""
        for attempt in (*self.jobs.values(), *self.owed.values()):
            attempt.token_until -= seconds

    def computing(self) -> tuple[Job, ...]:
        """The jobs that shall go on."""
        return tuple(job for job in self.jobs.values() if job.stopping is None)

    def leases(self) -> tuple[Held, ...]:
        """The attempts whose leases shall be renewed: what is computed, and results on their way."""
        keys = [job.key for job in self.computing()]
        keys += [owed.key for owed in self.owed.values() if isinstance(owed.answer, Result)]
        return tuple(Held(job=key.job, fence=key.fence) for key in keys)

    def disconnected(self) -> None:
        """What was asked or announced on the connection has to be said again on the next."""
        for attempt in (*self.jobs.values(), *self.owed.values()):
            attempt.say_at = None

    def note_progress(self, key: Key, *, stage: StageName, percent: float, eta_seconds: float | None) -> None:
        """Remember the newest progress; words about anything else than what is held are dropped."""
        job = self.jobs.get(key)
        if job is not None:
            job.stage, job.percent, job.eta_seconds = stage, percent, eta_seconds
        reports = self._reports(key)
        if reports is not None:
            percent = min(max(percent, 0.0), 100.0)
            reports.progress = JobProgress(
                job=key.job, fence=key.fence, pseq=0, stage=stage, pct=round(percent, 1), eta=eta_seconds
            )

    def note_preview(self, key: Key, preview: JobPreview) -> None:
        """Remember the newest preview."""
        reports = self._reports(key)
        if reports is not None:
            reports.preview = preview

    def due_reports(self, at: float) -> Iterator[JobProgress | JobPreview]:
        """The reports that may be said now."""
        for reports in self._all_reports():
            yield from reports.due(at, progress_seconds=self.progress_seconds)

    def due_times(self) -> Iterator[float]:
        """When something has to be said next."""
        for reports in self._all_reports():
            yield from reports.times()
        for attempt in (*self.computing(), *self.owed.values()):
            yield from attempt.due_times()

    def _reports(self, key: Key) -> Reports | None:
        if key in self.owed:
            return self.owed[key].reports
        job = self.jobs.get(key)
        return job.reports if job is not None and job.stopping is None else None

    def _all_reports(self) -> tuple[Reports, ...]:
        return (
            *(job.reports for job in self.jobs.values() if job.stopping is None),
            *(owed.reports for owed in self.owed.values()),
        )
