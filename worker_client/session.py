"""What a worker says to the server and when: sans-IO, so that every decision is a test without a socket.

Events go in as method calls (`opened`, `received`, `tick`, `computed`, …), actions come out as values. One session
lives as long as the process; connections come and go beneath it. Time is monotonic seconds, given by the caller.

Flow: 5 receive, 7 progress
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from worker_client.actions import Action, Begin, Forget, GiveUp, Halt, Leave, UseToken
from worker_client.answers import Answer, Key, Result
from worker_client.comeback import ComeBack, StayAway, Verdict, after_close
from worker_client.draining import Because, Draining
from worker_client.holdings import Holdings, Job, Owed
from worker_client.keyring import Keyring
from worker_client.line import Line
from worker_client.offers import DECLINE_SECONDS, Room
from worker_client.profile import Load, Profile
from worker_client.protocol import messages as wire
from worker_client.protocol.errors import CloseCode, ProtocolError, UnknownType
from worker_client.rotation import Rotation
from worker_client.voice import Voice

ASK_AGAIN_SECONDS = 5.0
LONGEST_GRACE_SECONDS = 3.0
"""A cancelled analysis is gone in five seconds, whatever the server allows it."""
UPLOAD_INCOMPLETE = "upload_incomplete"
MOST_LISTED = 200
"""Answers in one hello: more would not fit into a frame, and the next welcome takes up the rest."""

Actions = list[Action]

_SIGN_IN = (wire.Challenge, wire.Welcome)
_ANY_TIME = (wire.Error, wire.Bye, wire.Ping)


class Session:
    """One worker's side of the conversation. Not thread-safe: call it from one place."""

    def __init__(self, profile: Profile, *, answers: Iterable[Answer] = (), is_warm: bool = True) -> None:
        self._profile = profile
        self._is_warm = is_warm
        self._has_left = False
        self._epoch = profile.epoch
        self._held = Holdings(answers)
        self._voice = Voice(profile, self._held)
        self._rotation = Rotation(profile, self._voice)
        self._draining = Draining()
        self._answers_to: dict[type[Any], Callable[[Any, Line, float], Actions]] = {
            wire.Challenge: self._challenged,
            wire.Welcome: self._welcomed,
            wire.JobOffer: self._offered,
            wire.HeartbeatOk: self._renewed,
            wire.ResultOk: self._acknowledged,
            wire.ResultStale: self._acknowledged,
            wire.JobCancel: self._cancelled,
            wire.TokenRefreshOk: self._token_came,
            wire.Drain: self._drained,
            wire.RotateKeyWanted: lambda message, line, at: self._rotation.wanted(),
            wire.RotateKeyOk: lambda message, line, at: self._rotation.taken(message),
            wire.Error: self._refused,
            wire.Bye: self._dismissed,
            wire.Ping: self._pinged,
        }

    # ── what the surroundings may ask ───────────────────────────────────────────────────────────────────────────

    @property
    def is_signed_in(self) -> bool:
        """Whether the server has said welcome on the present connection."""
        return self._voice.is_signed_in

    @property
    def keys(self) -> Keyring:
        """The keys that sign for the worker."""
        return self._profile.keys

    @property
    def is_holding(self) -> bool:
        """Whether there is work or an answer that the server waits for, so that coming back is urgent."""
        return bool(self._held.jobs or self._held.owed)

    @property
    def is_draining(self) -> bool:
        """Whether no new work is taken, be it that this process ends or that the server asks for it."""
        return self._draining.is_on

    @property
    def is_leaving(self) -> bool:
        """Whether this process shall end."""
        return self._draining.is_leaving

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
        times, line = self._draining.times(), self._voice.line
        if line is not None and not line.is_closing:
            times.append(line.silence_at)
            if line.is_signed_in:
                times += [line.heartbeat_at, *self._held.due_times()]
        return min(times, default=None)

    # ── the connection ──────────────────────────────────────────────────────────────────────────────────────────

    def opened(self, *, at: float) -> Actions:
        """A socket is open; the server speaks first."""
        self._voice.line = Line(opened_at=at, heard_at=at)
        self._draining.forget_wish()
        return []

    def received(self, message: wire.FromServer, *, at: float) -> Actions:
        """A message came in."""
        line = self._voice.line
        if line is None or line.is_closing:
            return []
        line.heard_at = at
        is_in_turn = isinstance(message, _ANY_TIME) or isinstance(message, _SIGN_IN) is not line.is_signed_in
        answer = self._answers_to.get(type(message))
        return answer(message, line, at) if answer is not None and is_in_turn else []

    def garbled(self, error: ProtocolError, *, at: float) -> Actions:
        """A frame came in that is no message. An unknown type is answered; anything else ends the connection."""
        line = self._voice.line
        if line is None or line.is_closing:
            return []
        line.heard_at = at
        if isinstance(error, UnknownType):
            return [line.say(wire.Error(re=error.re or None, code=error.code, detail=str(error)[:200]))]
        return line.hang_up(CloseCode.PROTOCOL_ERROR, "a frame could not be read", comes_back=True)

    def closed(self, *, code: int, reason: str) -> Verdict:
        """The socket is gone, or could not be opened (`code` 1006); whether and when to come back."""
        line, self._voice.line = self._voice.line, None
        self._held.disconnected()
        if line is not None and line.is_closing and line.bye is None:
            return ComeBack()
        verdict = after_close(code=code, reason=reason, bye=None if line is None else line.bye)
        is_key_refused = isinstance(verdict, StayAway) and verdict.code == CloseCode.BAD_AUTH
        if is_key_refused and (line is None or line.welcome is None) and self._profile.keys.refused():
            return ComeBack()
        return verdict

    def tick(self, *, at: float) -> Actions:
        """Time has passed: heartbeat, reports that are due, silence, the end of draining."""
        actions: Actions = []
        line = self._voice.line
        if line is not None and not line.is_closing and at >= line.silence_at:
            return line.hang_up(CloseCode.HEARTBEAT_LOST, "nothing was heard for too long", comes_back=True)
        if line is not None and line.is_signed_in:
            beat = self._voice.beat(line, at)
            actions += [*beat, *(self._say_ready() if beat else [])]
            actions += self._voice.report(at) + self._voice.again(at)
        because = self._draining.due(at)
        if because is not None:
            for job in self._held.computing():
                actions += self._release(job, because=because)
        return actions + self._leave_if_done(at)

    def slept(self, seconds: float, *, at: float) -> Actions:
        """The machine stood still for `seconds` that the clock did not count, and the leases may be gone."""
        if self._voice.line is not None:
            self._voice.line.slept(seconds)
        self._held.slept(seconds)
        self._draining.slept(seconds)
        return self.tick(at=at)

    # ── the work ────────────────────────────────────────────────────────────────────────────────────────────────

    def progressed(
        self, key: Key, *, stage: wire.StageName, percent: float, eta_seconds: float | None, at: float
    ) -> Actions:
        """A stage got on; said to the server at the agreed rate, the newest only."""
        self._held.note_progress(key, stage=stage, percent=percent, eta_seconds=eta_seconds)
        return self._voice.report(at)

    def previewed(self, preview: wire.JobPreview, *, at: float) -> Actions:
        """The labels so far; said at most twice a second, the newest only."""
        self._held.note_preview(Key(preview.job, preview.fence), preview)
        return self._voice.report(at)

    def computed(self, answer: Answer, *, at: float) -> Actions:
        """A job has its answer, and the answer is in the outbox."""
        job = self._held.jobs.pop(answer.key, None)
        owed = self._held.owe(answer, after=job)
        if job is not None and job.stopping in ("cancel", "lost"):
            actions = self._drop(answer.key, at) + self._voice.confirm_cancel(job)
        else:
            actions = self._voice.deliver(owed, at)
        return [*actions, *self._say_ready(), *self._leave_if_done(at)]

    def stopped(self, key: Key, *, at: float) -> Actions:
        """A job that was to stop has stopped, and has no answer."""
        job = self._held.jobs.get(key)
        actions = [] if job is None else self._voice.confirm_cancel(job)
        self._held.finish(key)
        return [*actions, *self._say_ready(), *self._leave_if_done(at)]

    def uploaded(self, key: Key, *, artifact: str, at: float) -> Actions:
        """A result's mask is on the server, complete, under the id `artifact`."""
        owed = self._held.owed.get(key)
        if owed is None:
            return []
        owed.artifact, owed.is_uploading = artifact, False
        return self._voice.deliver(owed, at)

    def lease_gone(self, key: Key, *, at: float) -> Actions:
        """The data plane says that the attempt no longer counts."""
        return self._drop(key, at)

    def token_needed(self, key: Key, *, at: float) -> Actions:
        """The data token was refused; ask for another, now or as soon as the server is back."""
        attempt = self._held.find(key)
        return [] if attempt is None or attempt.wants_token else self._voice.ask_for_token(attempt, at)

    def unsendable(self, message: wire.FromWorker) -> Actions:
        """A message is longer than the server takes. An answer that can never be said is a failure, not a loop."""
        if not isinstance(message, wire.JobResult | wire.JobFailed):
            return []
        return self._give_up(Key(message.job, message.fence), "it is longer than the protocol allows")

    def key_made(self) -> Actions:
        """A new key lies on the disk beside the old one."""
        return self._rotation.made()

    def warmed(self) -> Actions:
        """The analysis can start: until now no work was asked for, since every job would have failed."""
        self._is_warm = True
        return self._say_ready()

    def measured(self, load: Load) -> None:
        """How busy the machine is; goes out with the next heartbeat."""
        self._voice.load = load

    def drain(self, *, at: float, seconds: float) -> Actions:
        """Take no more work and end; jobs that end within `seconds` may, the others are given back at once."""
        if self._draining.is_leaving:
            return []
        self._draining.leaves_at = at + seconds
        actions = self._say_ready()
        for job in self._held.computing():
            if job.eta_seconds is not None and job.eta_seconds > seconds:
                actions += self._release(job, because="shutdown")
        return actions + self._leave_if_done(at)

    # ── what the server says ────────────────────────────────────────────────────────────────────────────────────

    def _challenged(self, message: wire.Challenge, line: Line, at: float) -> Actions:
        running = tuple(job.as_running() for job in self._held.computing())
        outbox = tuple(owed.answer.as_kept() for owed in self.owed[:MOST_LISTED])
        return [line.say(self._profile.hello(message, epoch=self._epoch, running=running, outbox=outbox))]

    def _welcomed(self, message: wire.Welcome, line: Line, at: float) -> Actions:
        line.welcome = message
        line.heartbeat_at = at + message.hb_interval
        if message.epoch != self._epoch:
            self._held.forget_fences()
        self._epoch = message.epoch
        self._held.progress_seconds = 1.0 / max(message.limits.progress_hz, 0.1)
        actions = self._rotation.settle()
        for verdict in message.resume:
            if verdict.verdict in ("revoke", "already_done"):
                actions += self._drop(Key(verdict.job, verdict.fence), at)
        for job in self._held.computing():
            # A server restored from a backup counts its fences anew: what it gave out before is void.
            if job.offer.epoch != message.epoch:
                actions += self._drop(job.key, at)
            elif job.wants_token:
                actions += self._voice.ask_for_token(job, at)
        for owed in self.owed:
            actions += self._voice.deliver(owed, at)
        return [*actions, *self._say_ready(), *self._leave_if_done(at)]

    def _offered(self, offer: wire.JobOffer, line: Line, at: float) -> Actions:
        key, re = Key(offer.job, offer.fence), offer.id or None
        accept = wire.JobAccept(re=re, job=key.job, fence=key.fence)
        if self._held.find(key) is not None:
            return [line.say(accept)]
        if not key.is_plain:
            return [line.say(wire.Error(re=re, code="bad_offer", detail="the job's id is no plain word"))]
        actions = [action for older in self._held.older(key) for action in self._drop(older, at)]
        room = Room(self._credits(), self.is_draining, self._profile.caps.models, self._voice.free_mb)
        reason = "busy" if self._held.is_outdated(key) else room.reason_to_decline(offer.model)
        if reason is None:
            self._held.take(offer, at=at)
            return [*actions, line.say(accept), Begin(offer), *self._say_ready()]
        decline = wire.JobDecline(
            re=re, job=key.job, fence=key.fence, reason=reason, retry_after=DECLINE_SECONDS[reason]
        )
        line.said_ready = None  # the offer used up a credit that is free again
        return [*actions, line.say(decline), *self._say_ready()]

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
        return [Halt(key, grace_seconds=min(message.grace_s, LONGEST_GRACE_SECONDS))] if is_news else []

    def _token_came(self, message: wire.TokenRefreshOk, line: Line, at: float) -> Actions:
        key = Key(message.job, message.fence)
        attempt = self._held.find(key)
        if attempt is None:
            return []
        attempt.use_token(message.data_token, seconds=message.data_token_seconds, at=at)
        goes_on = self._voice.deliver(attempt, at) if isinstance(attempt, Owed) else []
        return [UseToken(key, message.data_token), *goes_on]

    def _drained(self, message: wire.Drain, line: Line, at: float) -> Actions:
        self._draining.ask(message, at=at)
        return self._say_ready()

    def _refused(self, message: wire.Error, line: Line, at: float) -> Actions:
        attempt = self._held.find(line.questions.pop(message.re or 0, None))
        if message.temporary:
            line.said_ready = None  # whatever was not taken may have been the credits
        if attempt is None:
            return []
        if not message.temporary:
            return self._give_up(attempt.key, f"the server refuses it ({message.code[:40]})")
        attempt.say_at = at + ASK_AGAIN_SECONDS
        if message.code == UPLOAD_INCOMPLETE and isinstance(attempt, Owed):
            attempt.artifact = None
        return []

    def _dismissed(self, message: wire.Bye, line: Line, at: float) -> Actions:
        line.bye = message
        return []

    def _pinged(self, message: wire.Ping, line: Line, at: float) -> Actions:
        return [line.say(wire.Pong(re=message.id or None, ts=message.ts))]

    # ── what follows ────────────────────────────────────────────────────────────────────────────────────────────

    def _credits(self) -> int:
        is_open = self._is_warm and not self.is_draining
        return max(0, self._profile.slots - len(self._held.jobs)) if is_open else 0

    def _say_ready(self) -> Actions:
        return self._voice.ready(slots=self._credits(), is_draining=self.is_draining)

    def _drop(self, key: Key, at: float) -> Actions:
        """The server no longer wants anything of this attempt."""
        job = self._held.jobs.get(key)
        if job is not None and job.stopping is None:
            job.stopping = "lost"
            return [Halt(key, grace_seconds=0.0)]
        if key not in self._held.owed:
            return []
        self._held.finish(key)
        return [Forget(key), *self._leave_if_done(at)]

    def _give_up(self, key: Key, why: str) -> Actions:
        owed = self._held.owed.get(key)
        if owed is None:
            return []
        if isinstance(owed.answer, Result):
            owed.is_uploading, owed.say_at = True, None  # nothing more of it is said until the failure is kept
            owed.artifact = None
            return [GiveUp(owed.answer, why)]
        self._held.finish(key)
        return [Forget(key)]

    def _release(self, job: Job, *, because: Because) -> Actions:
        job.stopping = "release"
        release = wire.JobRelease(job=job.key.job, fence=job.key.fence, reason=because)
        return [Halt(job.key, grace_seconds=0.0), *self._voice.say(release)]

    def _leave_if_done(self, at: float) -> Actions:
        leaves_at = self._draining.leaves_at
        if leaves_at is None or self._has_left or self._held.jobs:
            return []
        if self._held.owed and self.is_signed_in and at < leaves_at:
            return []
        self._has_left, line = True, self._voice.line
        if line is None or line.is_closing:
            return [Leave()]
        return [*line.hang_up(1000, "the worker shuts down", comes_back=False), Leave()]
