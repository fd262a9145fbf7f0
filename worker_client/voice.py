"""What a worker says on the present connection. Without one it is silent: all of it is said anew after a welcome.

Flow: 5 receive, 7 progress
"""

from __future__ import annotations

from typing import Any

import msgspec

from worker_client.actions import Action, Upload
from worker_client.answers import Key, Result
from worker_client.holdings import Attempt, Holdings, Job, Owed
from worker_client.line import Line
from worker_client.offers import left_mb
from worker_client.profile import Load, Profile
from worker_client.protocol import messages as wire

SAY_AGAIN_SECONDS = 30.0
MEMORY_STEP_MB = 512

Actions = list[Action]


class Voice:
    """Says what is due. `line` is the present connection, `load` the newest measurement."""

    def __init__(self, profile: Profile, held: Holdings) -> None:
        self._profile = profile
        self._held = held
        self.line: Line | None = None
        self.load = Load()

    @property
    def is_signed_in(self) -> bool:
        """Whether the server has said welcome on the present connection."""
        return self.line is not None and self.line.is_signed_in

    @property
    def free_mb(self) -> int | None:
        """Memory that another job could use; None when unknown."""
        taken = (job.offer.model for job in self._held.jobs.values())
        return left_mb(self.load.free_mb, taken=taken, models=self._profile.caps.models)

    def say(self, message: Any, *, about: Key | None = None) -> Actions:
        """One message; `about` is remembered, so that an error can be told to it."""
        line = self.line
        return [line.say(message, about=about)] if line is not None and line.is_signed_in else []

    # ── of the worker ───────────────────────────────────────────────────────────────────────────────────────────

    def ready(self, *, slots: int, is_draining: bool) -> Actions:
        """How much room there is, if that is news."""
        line, free_mb = self.line, self.free_mb
        ready = wire.Ready(credits=slots, draining=is_draining, cached=self.load.cached)
        if free_mb is not None:
            # Memory breathes; only a change that could matter to a job is news.
            ready = msgspec.structs.replace(ready, free_mb=free_mb // MEMORY_STEP_MB * MEMORY_STEP_MB)
        if line is None or not line.is_signed_in or ready == line.said_ready:
            return []
        line.said_ready = ready
        exact = msgspec.structs.replace(ready, load=self.load.share, gpu=self.load.gpu, free_mb=free_mb)
        return [line.say(exact)]

    def beat(self, line: Line, at: float) -> Actions:
        """The heartbeat, if it is time for one."""
        if line.welcome is None or at < line.heartbeat_at:
            return []
        line.heartbeat_at = at + line.welcome.hb_interval
        load, number = self.load, line.welcome.session
        return [line.say(wire.Heartbeat(session=number, load=load.share, gpu=load.gpu, jobs=self._held.leases()))]

    # ── of the work ─────────────────────────────────────────────────────────────────────────────────────────────

    def report(self, at: float) -> Actions:
        """Progress and previews that are due."""
        if not self.is_signed_in:
            return []
        return [said for report in self._held.due_reports(at) for said in self.say(report)]

    def again(self, at: float) -> Actions:
        """What was refused for a while or never answered, and tokens that grow old."""
        actions: Actions = []
        for attempt in (*self._held.computing(), *self._held.owed.values()):
            if attempt.is_token_old(at):
                actions += self.ask_for_token(attempt, at)
            if attempt.say_at is not None and at >= attempt.say_at:
                attempt.say_at = None
                if isinstance(attempt, Owed):
                    actions += self.deliver(attempt, at)
                elif attempt.wants_token:
                    actions += self.ask_for_token(attempt, at)
        return actions

    def deliver(self, owed: Owed, at: float) -> Actions:
        """The next step that brings an answer to the server: a token, the upload, or the announcement."""
        if not self.is_signed_in:
            return []
        announcement = owed.announcement()
        if announcement is not None:
            owed.say_at = at + SAY_AGAIN_SECONDS
            return self.say(announcement, about=owed.key)
        if owed.token is None or owed.wants_token:
            return self.ask_for_token(owed, at)
        if owed.is_uploading or not isinstance(owed.answer, Result):
            return []
        owed.is_uploading = True
        return [Upload(owed.answer, owed.token)]

    def ask_for_token(self, attempt: Attempt, at: float) -> Actions:
        """A data token for this attempt, now or after the next welcome."""
        attempt.wants_token = True
        if not self.is_signed_in:
            return []
        attempt.say_at = at + SAY_AGAIN_SECONDS
        return self.say(wire.TokenRefresh(job=attempt.key.job, fence=attempt.key.fence), about=attempt.key)

    def confirm_cancel(self, job: Job) -> Actions:
        """A job that was cancelled has stopped."""
        if job.stopping != "cancel":
            return []
        return self.say(wire.JobCancelled(job=job.key.job, fence=job.key.fence))
