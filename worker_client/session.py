"""What a worker says to the server and when: sans-IO, so that every decision is a test without a socket.

Events go in as method calls (`opened`, `received`, `tick`, `computed`, …), actions come out as values. One session
lives as long as the process; connections come and go beneath it. Time is monotonic seconds, given by the caller.

Flow: 5 receive, 7 progress
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from worker_client.actions import Action, Begin, Forget, Halt, Leave, Send, Upload, UseToken
from worker_client.answers import Answer, Key, Result
from worker_client.comeback import ComeBack, Verdict, after_close
from worker_client.holdings import Holdings, Job, Owed
from worker_client.line import Line
from worker_client.profile import Load, Profile
from worker_client.protocol import messages as wire
from worker_client.protocol.errors import CloseCode, ProtocolError, UnknownType

ANNOUNCE_AGAIN_SECONDS = 30.0
ASK_AGAIN_SECONDS = 5.0
UPLOAD_INCOMPLETE = "upload_incomplete"
DECLINE_SECONDS = {"busy": 5.0, "draining": 30.0, "no_model": 300.0}

Actions = list[Action]

_SIGN_IN = (wire.Challenge, wire.Welcome)
_ANY_TIME = (wire.Error, wire.Bye, wire.Ping)


class Session:
    """One worker's side of the conversation. Not thread-safe: call it from one place."""

    def __init__(self, profile: Profile, *, answers: Iterable[Answer] = (), is_warm: bool = True) -> None:
        self._profile = profile
        self._is_warm = is_warm
        self._epoch = profile.epoch
        self._held = Holdings(answers)
        self._load = Load()
        self._line: Line | None = None
        self._drain_until: float | None = None
        self._is_overdue = self._has_left = False
        self._answers_to: dict[type[Any], Callable[[Any, Line, float], Actions]] = {
            wire.Challenge: self._challenged,
            wire.Welcome: self._welcomed,
            wire.JobOffer: self._offered,
            wire.HeartbeatOk: self._renewed,
            wire.ResultOk: self._acknowledged,
            wire.ResultStale: self._acknowledged,
            wire.JobCancel: self._cancelled,
            wire.TokenRefreshOk: self._token_came,
            wire.Error: self._refused,
            wire.Bye: self._dismissed,
            wire.Ping: self._pinged,
        }

    # ── what the surroundings may ask ───────────────────────────────────────────────────────────────────────────

    @property
    def is_signed_in(self) -> bool:
        """Whether the server has said welcome on the present connection."""
        return self._line is not None and self._line.is_signed_in

    @property
    def is_holding(self) -> bool:
        """Whether there is work or an answer that the server waits for, so that coming back is urgent."""
        return bool(self._held.jobs or self._held.owed)

    @property
    def is_draining(self) -> bool:
        """Whether no new work is taken any more."""
        return self._drain_until is not None

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs being computed."""
        return tuple(self._held.jobs.values())

    @property
    def owed(self) -> tuple[Owed, ...]:
        """The answers that the server has not acknowledged."""
        return tuple(self._held.owed.values())

    def next_tick(self) -> float | None:
        """When `tick` has something to do."""
        times = [] if self._drain_until is None or self._is_overdue else [self._drain_until]
        line = self._line
        if line is not None and not line.is_closing:
            times.append(line.silence_at)
            if line.is_signed_in:
                times += [line.heartbeat_at, *self._held.due_times()]
        return min(times, default=None)

    # ── the connection ──────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, *, at: float) -> Actions:
        """A socket is open; the server speaks first."""
        self._line = Line(opened_at=at, heard_at=at)
        return []

    def received(self, message: wire.FromServer, *, at: float) -> Actions:
        """A message came in."""
        line = self._line
        if line is None or line.is_closing:
            return []
        line.heard_at = at
        is_in_turn = isinstance(message, _ANY_TIME) or isinstance(message, _SIGN_IN) is not line.is_signed_in
        answer = self._answers_to.get(type(message))
        return answer(message, line, at) if answer is not None and is_in_turn else []

    def garbled(self, error: ProtocolError, *, at: float) -> Actions:
        """A frame came in that is no message. An unknown type is answered; anything else ends the connection."""
        line = self._line
        if line is None or line.is_closing:
            return []
        line.heard_at = at
        if isinstance(error, UnknownType):
            return [line.say(wire.Error(re=error.re or None, code=error.code, detail=str(error)[:200]))]
        return line.hang_up(CloseCode.PROTOCOL_ERROR, "a frame could not be read", comes_back=True)

    def closed(self, *, code: int, reason: str) -> Verdict:
        """The socket is gone, or could not be opened (`code` 1006); whether and when to come back."""
        line, self._line = self._line, None
        self._held.disconnected()
        if line is not None and line.is_closing and line.bye is None:
            return ComeBack()
        return after_close(code=code, reason=reason, bye=None if line is None else line.bye)

    def tick(self, *, at: float) -> Actions:
        """Time has passed: heartbeat, reports that are due, silence, the end of draining."""
        actions: Actions = []
        line = self._line
        if line is not None and not line.is_closing and at >= line.silence_at:
            return line.hang_up(CloseCode.HEARTBEAT_LOST, "nothing was heard for too long", comes_back=True)
        if line is not None and line.is_signed_in:
            actions += self._beat(line, at) + self._report(at) + self._say_again(at)
        if self._drain_until is not None and at >= self._drain_until:
            self._is_overdue = True
            for job in self._held.computing():
                actions += self._release(job)
        return actions + self._leave_if_done(at)

    # ── the work ────────────────────────────────────────────────────────────────────────────────────────────────

    def progressed(
        self, key: Key, *, stage: wire.StageName, percent: float, eta_seconds: float | None, at: float
    ) -> Actions:
        """A stage got on; said to the server at the agreed rate, the newest only."""
        self._held.note_progress(key, stage=stage, percent=percent, eta_seconds=eta_seconds)
        return self._report(at)

    def previewed(self, preview: wire.JobPreview, *, at: float) -> Actions:
        """The labels so far; said at most twice a second, the newest only."""
        self._held.note_preview(Key(preview.job, preview.fence), preview)
        return self._report(at)

    def computed(self, answer: Answer, *, at: float) -> Actions:
        """A job has its answer, and the answer is in the outbox."""
        job = self._held.jobs.pop(answer.key, None)
        owed = self._held.owe(answer, token=None if job is None else job.token)
        if job is not None and job.stopping in ("cancel", "lost"):
            actions = self._drop(answer.key, at) + self._confirm_cancel(job)
        else:
            actions = self._deliver(owed, at)
        return [*actions, *self._say_ready(), *self._leave_if_done(at)]

    def stopped(self, key: Key, *, at: float) -> Actions:
        """A job that was to stop has stopped, and has no answer."""
        job = self._held.jobs.pop(key, None)
        actions = [] if job is None else self._confirm_cancel(job)
        return [*actions, *self._say_ready(), *self._leave_if_done(at)]

    def uploaded(self, key: Key, *, artifact: str, at: float) -> Actions:
        """A result's mask is on the server, complete, under the id `artifact`."""
        owed = self._held.owed.get(key)
        if owed is None:
            return []
        owed.artifact, owed.is_uploading = artifact, False
        return self._deliver(owed, at)

    def lease_gone(self, key: Key, *, at: float) -> Actions:
        """The data plane says that the attempt no longer counts."""
        return self._drop(key, at)

    def token_needed(self, key: Key) -> Actions:
        """The data token was refused; ask for another, now or as soon as the server is back."""
        attempt = self._held.find(key)
        if attempt is None or attempt.wants_token:
            return []
        attempt.wants_token = True
        return self._ask_for_token(key)

    def warmed(self) -> Actions:
        """The analysis can start: until now no work was asked for, since every job would have failed."""
        self._is_warm = True
        return self._say_ready()

    def measured(self, load: Load) -> None:
        """How busy the machine is; goes out with the next heartbeat."""
        self._load = load

    def drain(self, *, at: float, seconds: float) -> Actions:
        """Take no more work; jobs that end within `seconds` may, the others are given back at once."""
        if self._drain_until is not None:
            return []
        self._drain_until = at + seconds
        actions = self._say_ready()
        for job in self._held.computing():
            if job.eta_seconds is not None and job.eta_seconds > seconds:
                actions += self._release(job)
        return actions + self._leave_if_done(at)

    # ── what the server says ────────────────────────────────────────────────────────────────────────────────────

    def _challenged(self, message: wire.Challenge, line: Line, at: float) -> Actions:
        running = tuple(job.as_running() for job in self._held.computing())
        outbox = tuple(owed.answer.as_kept() for owed in self.owed)
        return [line.say(self._profile.hello(message, epoch=self._epoch, running=running, outbox=outbox))]

    def _welcomed(self, message: wire.Welcome, line: Line, at: float) -> Actions:
        line.welcome = message
        line.heartbeat_at = at + message.hb_interval
        self._epoch = message.epoch
        self._held.progress_seconds = 1.0 / max(message.limits.progress_hz, 0.1)
        actions: Actions = []
        for verdict in message.resume:
            if verdict.verdict in ("revoke", "already_done"):
                actions += self._drop(Key(verdict.job, verdict.fence), at)
        for job in self._held.computing():
            # A server restored from a backup counts its fences anew: what it gave out before is void.
            if job.offer.epoch != message.epoch:
                actions += self._drop(job.key, at)
            elif job.wants_token:
                actions += self._ask_for_token(job.key)
        for owed in self.owed:
            actions += self._deliver(owed, at)
        return [*actions, *self._say_ready(), *self._leave_if_done(at)]

    def _offered(self, offer: wire.JobOffer, line: Line, at: float) -> Actions:
        key, re = Key(offer.job, offer.fence), offer.id or None
        accept = wire.JobAccept(re=re, job=key.job, fence=key.fence)
        if self._held.find(key) is not None:
            return [line.say(accept)]
        if not key.is_plain:
            return [line.say(wire.Error(re=re, code="bad_offer", detail="the job's id is no plain word"))]
        reason = self._reason_to_decline(offer)
        if reason is None:
            self._held.take(offer)
            return [line.say(accept), Begin(offer), *self._say_ready()]
        decline = wire.JobDecline(
            re=re, job=key.job, fence=key.fence, reason=reason, retry_after=DECLINE_SECONDS[reason]
        )
        line.said_ready = None  # the offer used up a credit that is free again
        return [line.say(decline), *self._say_ready()]

    def _reason_to_decline(self, offer: wire.JobOffer) -> Literal["busy", "no_model", "draining"] | None:
        if self.is_draining:
            return "draining"
        if self._credits() == 0:
            return "busy"
        return None if offer.model is None or offer.model in self._profile.caps.models else "no_model"

    def _renewed(self, message: wire.HeartbeatOk, line: Line, at: float) -> Actions:
        return [action for lost in message.lost for action in self._drop(Key(lost.job, lost.fence), at)]

    def _acknowledged(self, message: wire.ResultOk | wire.ResultStale, line: Line, at: float) -> Actions:
        return self._drop(Key(message.job, message.fence), at)

    def _cancelled(self, message: wire.JobCancel, line: Line, at: float) -> Actions:
        key = Key(message.job, message.fence)
        job = self._held.jobs.get(key)
        if job is None:
            done = wire.JobCancelled(re=message.id or None, job=key.job, fence=key.fence)
            return [line.say(done), *self._drop(key, at)]
        is_news, job.stopping = job.stopping is None, "cancel"
        return [Halt(key, grace_seconds=message.grace_s)] if is_news else []

    def _token_came(self, message: wire.TokenRefreshOk, line: Line, at: float) -> Actions:
        key = Key(message.job, message.fence)
        attempt = self._held.find(key)
        if attempt is None:
            return []
        attempt.token, attempt.wants_token = message.data_token, False
        goes_on = self._deliver(attempt, at) if isinstance(attempt, Owed) else []
        return [UseToken(key, message.data_token), *goes_on]

    def _refused(self, message: wire.Error, line: Line, at: float) -> Actions:
        attempt = self._held.find(line.questions.pop(message.re or 0, None))
        if attempt is None or not message.temporary:
            return []
        attempt.say_at = at + ASK_AGAIN_SECONDS
        if message.code == UPLOAD_INCOMPLETE and isinstance(attempt, Owed):
            attempt.artifact = None
        return []

    def _dismissed(self, message: wire.Bye, line: Line, at: float) -> Actions:
        line.bye = message
        return []

    def _pinged(self, message: wire.Ping, line: Line, at: float) -> Actions:
        return [line.say(wire.Pong(re=message.id or None, ts=message.ts))]

    # ── what the worker says ────────────────────────────────────────────────────────────────────────────────────

    def _say(self, message: Any, *, about: Key | None = None) -> list[Send]:
        line = self._line
        return [line.say(message, about=about)] if line is not None and line.is_signed_in else []

    def _credits(self) -> int:
        is_open = self._is_warm and not self.is_draining
        return max(0, self._profile.slots - len(self._held.jobs)) if is_open else 0

    def _say_ready(self) -> Actions:
        line = self._line
        ready = wire.Ready(credits=self._credits(), draining=self.is_draining)
        if line is None or not line.is_signed_in or ready == line.said_ready:
            return []
        line.said_ready = ready
        return [line.say(msgspec.structs.replace(ready, load=self._load.share, gpu=self._load.gpu))]

    def _beat(self, line: Line, at: float) -> Actions:
        if line.welcome is None or at < line.heartbeat_at:
            return []
        line.heartbeat_at = at + line.welcome.hb_interval
        load, number = self._load, line.welcome.session
        return [line.say(wire.Heartbeat(session=number, load=load.share, gpu=load.gpu, jobs=self._held.leases()))]

    def _report(self, at: float) -> Actions:
        return (
            [said for report in self._held.due_reports(at) for said in self._say(report)] if self.is_signed_in else []
        )

    def _say_again(self, at: float) -> Actions:
        actions: Actions = []
        for attempt in (*self._held.computing(), *self.owed):
            if attempt.say_at is not None and at >= attempt.say_at:
                attempt.say_at = None
                if isinstance(attempt, Owed):
                    actions += self._deliver(attempt, at)
                elif attempt.wants_token:
                    actions += self._ask_for_token(attempt.key)
        return actions

    def _deliver(self, owed: Owed, at: float) -> Actions:
        """The next step that brings an answer to the server: a token, the upload, or the announcement."""
        if not self.is_signed_in:
            return []
        announcement = owed.announcement()
        if announcement is not None:
            owed.say_at = at + ANNOUNCE_AGAIN_SECONDS
            return [*self._say(announcement, about=owed.key)]
        if owed.token is None or owed.wants_token:
            owed.wants_token = True
            return self._ask_for_token(owed.key)
        if owed.is_uploading or not isinstance(owed.answer, Result):
            return []
        owed.is_uploading = True
        return [Upload(owed.answer, owed.token)]

    def _ask_for_token(self, key: Key) -> Actions:
        return [*self._say(wire.TokenRefresh(job=key.job, fence=key.fence), about=key)]

    def _confirm_cancel(self, job: Job) -> Actions:
        if job.stopping != "cancel":
            return []
        return [*self._say(wire.JobCancelled(job=job.key.job, fence=job.key.fence))]

    def _drop(self, key: Key, at: float) -> Actions:
        """The server no longer wants anything of this attempt."""
        job = self._held.jobs.get(key)
        if job is not None and job.stopping is None:
            job.stopping = "lost"
            return [Halt(key, grace_seconds=0.0)]
        if self._held.owed.pop(key, None) is None:
            return []
        return [Forget(key), *self._leave_if_done(at)]

    def _release(self, job: Job) -> Actions:
        job.stopping = "release"
        release = wire.JobRelease(job=job.key.job, fence=job.key.fence, reason="shutdown")
        return [Halt(job.key, grace_seconds=0.0), *self._say(release)]

    def _leave_if_done(self, at: float) -> Actions:
        if self._drain_until is None or self._has_left or self._held.jobs:
            return []
        if self._held.owed and self.is_signed_in and at < self._drain_until:
            return []
        self._has_left, line = True, self._line
        if line is None or line.is_closing:
            return [Leave()]
        return [*line.hang_up(1000, "the worker shuts down", comes_back=False), Leave()]
