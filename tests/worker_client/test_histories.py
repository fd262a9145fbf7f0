"""Any history: frames that are lost, doubled and swapped, cuts, crashes of both sides, leases that run out.

A real session talks to a server in memory that keeps the protocol's rules. Whatever happens, an answer that was
computed is kept until the server has no use for it, nothing is computed twice, and every job ends once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.worker_client.builders import EPOCH, a_failure, a_result, an_offer, profile
from worker_client import actions as act
from worker_client.answers import Answer, Key, Result
from worker_client.protocol import messages as wire
from worker_client.protocol.codec import decode_from_server, decode_from_worker, encode
from worker_client.session import Session

SLOTS = 2
OPEN = ("queued", "leased", "running")
JOBS = ("01A", "01B", "01C")


@dataclass
class Row:
    """A job as the database has it."""

    fence: int = 0
    state: str = "queued"
    is_here: bool = False
    is_cancelled: bool = False
    has_expired: bool = False

    def counts(self, fence: int) -> bool:
        return fence == self.fence and self.state in OPEN


@dataclass
class Server:
    """The protocol's rules, without their transport. Rows outlive everything."""

    rows: dict[str, Row] = field(default_factory=lambda: {job: Row() for job in JOBS})
    visible: list[Key] = field(default_factory=list)
    outgoing: deque[str] = field(default_factory=deque)
    credits: int = 0
    sessions: int = 0

    def say(self, message: wire.FromServer) -> None:
        self.outgoing.append(encode(message))

    def hear(self, frame: str) -> None:
        message = decode_from_worker(frame)
        name = type(message).__name__
        answer = getattr(self, f"_{name}", None)
        if answer is not None:
            answer(message)

    def dispatch(self, job: str) -> None:
        row = self.rows[job]
        row.fence, row.state, row.is_here = row.fence + 1, "leased", True
        self.credits -= 1
        self.say(an_offer(Key(job, row.fence)))

    def _Hello(self, hello: wire.Hello) -> None:
        self.sessions += 1
        verdicts = [self._verdict(held, "keep") for held in hello.running]
        verdicts += [self._verdict(held, "send_result") for held in hello.outbox]
        listed = {(held.job, held.fence) for held in (*hello.running, *hello.outbox)}
        for job, row in self.rows.items():
            if row.is_here and row.state in ("leased", "running") and (job, row.fence) not in listed:
                row.state, row.is_here = "queued", False
        self.say(wire.Welcome(session=self.sessions, epoch=EPOCH, resume=tuple(verdicts)))

    def _verdict(self, held: Any, good: str) -> wire.Verdict:
        row = self.rows[held.job]
        if not row.counts(held.fence) or row.is_cancelled:
            return wire.Verdict(job=held.job, fence=held.fence, verdict="revoke")
        row.state, row.is_here = "running", True
        return wire.Verdict(job=held.job, fence=held.fence, verdict=good)  # type: ignore[arg-type]

    def _Ready(self, ready: wire.Ready) -> None:
        self.credits = ready.credits

    def _JobAccept(self, accept: wire.JobAccept) -> None:
        row = self.rows[accept.job]
        if accept.fence == row.fence and row.state in ("leased", "running"):
            row.state, row.is_here = "running", True
        else:
            self.say(wire.JobCancel(job=accept.job, fence=accept.fence))

    def _JobDecline(self, decline: wire.JobDecline) -> None:
        row = self.rows[decline.job]
        if row.counts(decline.fence) and row.state == "leased":
            row.state, row.is_here = "queued", False

    _JobRelease = _JobDecline

    def _Heartbeat(self, beat: wire.Heartbeat) -> None:
        lost = tuple(wire.Held(job=h.job, fence=h.fence) for h in beat.jobs if not self.rows[h.job].counts(h.fence))
        self.say(wire.HeartbeatOk(server_time=0.0, lost=lost))

    def _TokenRefresh(self, asked: wire.TokenRefresh) -> None:
        if self.rows[asked.job].counts(asked.fence):
            self.say(wire.TokenRefreshOk(job=asked.job, fence=asked.fence, data_token="token-2"))
        else:
            self.say(wire.ResultStale(job=asked.job, fence=asked.fence))

    def _JobResult(self, result: wire.JobResult) -> None:
        row, key = self.rows[result.job], Key(result.job, result.fence)
        if row.counts(result.fence) and not row.is_cancelled:
            row.state = "done"
            self.visible.append(key)
        kind = wire.ResultOk if key in self.visible else wire.ResultStale
        self.say(kind(job=key.job, fence=key.fence, result_id=result.result_id))

    def _JobFailed(self, failed: wire.JobFailed) -> None:
        row = self.rows[failed.job]
        if row.counts(failed.fence):
            row.state, row.is_here = "queued", False
        self.say(wire.ResultOk(job=failed.job, fence=failed.fence))


class Worker:
    """A process: its session, its analyses and its uploads. The outbox is the disk's and outlives it."""

    def __init__(self, outbox: dict[Key, Answer]) -> None:
        self.outbox = outbox
        self.session = Session(profile(slots=SLOTS), answers=tuple(outbox.values()))
        self.children: dict[Key, bool] = {}
        self.uploads: set[Key] = set()
        self.begun: list[Key] = []
        self.forgotten: list[Key] = []
        self.outgoing: deque[str] = deque()
        self.is_hanging_up = False

    def act(self, actions: list[act.Action]) -> None:
        for action in actions:
            match action:
                case act.Send(message):
                    self.outgoing.append(encode(message))
                case act.Begin(offer):
                    self.begun.append(Key(offer.job, offer.fence))
                    self.children[Key(offer.job, offer.fence)] = False
                case act.Halt(key, _):
                    self.children[key] = True
                case act.Upload(answer, _):
                    assert answer.key in self.outbox, "uploaded before it was safe"
                    self.uploads.add(answer.key)
                case act.Forget(key):
                    self.forgotten.append(key)
                    self.uploads.discard(key)
                    self.outbox.pop(key, None)
                case act.HangUp():
                    self.is_hanging_up = True


class Histories(RuleBasedStateMachine):
    """One worker, one server, three jobs, and everything that can go wrong between them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.server = Server()
        self.disk: dict[Key, Answer] = {}
        self.computed: set[Key] = set()
        self.worker = Worker(self.disk)
        self.is_open = False
        self.said: list[str] = []

    # ── ordinary life ───────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: not self.is_open)
    @rule()
    def connect(self) -> None:
        self.is_open = True
        self.worker.act(self.worker.session.opened(at=self.now))
        self.server.say(wire.Challenge(id=1, nonce="bm9uY2U=", server_time=0.0, server_id="s"))

    @precondition(lambda self: self.worker.outgoing)
    @rule()
    def server_hears(self) -> None:
        self.server.hear(self.worker.outgoing.popleft())

    @precondition(lambda self: self.server.outgoing)
    @rule()
    def worker_hears(self) -> None:
        self._tell(self.server.outgoing.popleft())

    @precondition(lambda self: self.server.outgoing or self.worker.outgoing)
    @rule()
    def everything_arrives(self) -> None:
        while self.server.outgoing or self.worker.outgoing:
            while self.worker.outgoing:
                self.server_hears()
            while self.server.outgoing:
                self.worker_hears()

    @rule()
    def a_good_day(self) -> None:
        """Connected, everything said, work handed out."""
        if not self.is_open:
            self.connect()
        self.everything_arrives()
        for job in JOBS:
            self.dispatch(job)
        self.everything_arrives()

    @rule(job=st.sampled_from(JOBS))
    def dispatch(self, job: str) -> None:
        row = self.server.rows[job]
        if self.is_open and self.server.credits > 0 and row.state == "queued":
            is_computed = isinstance(self.disk.get(Key(job, row.fence)), Result)
            assert row.has_expired or not is_computed, "a mask that lies in the outbox would be computed again"
            self.server.dispatch(job)
            self.server.rows[job].has_expired = False

    @precondition(lambda self: self.worker.children)
    @rule(is_good=st.booleans(), which=st.integers(0, SLOTS))
    def an_analysis_ends(self, which: int, *, is_good: bool) -> None:
        keys = list(self.worker.children)
        key = keys[which % len(keys)]
        is_halted = self.worker.children.pop(key)
        if is_halted and not is_good:
            self.worker.act(self.worker.session.stopped(key, at=self.now))
            return
        answer = a_result(key, result_id=f"{key.job}.{key.fence}") if is_good else a_failure(key)
        self.disk[key] = answer
        self.computed.add(key)
        self.worker.act(self.worker.session.computed(answer, at=self.now))

    @precondition(lambda self: self.worker.uploads)
    @rule()
    def an_upload_ends(self) -> None:
        key = sorted(self.worker.uploads)[0]
        self.worker.uploads.discard(key)
        self.worker.act(self.worker.session.uploaded(key, artifact=f"up-{key.job}", at=self.now))

    @rule(seconds=st.sampled_from([0.3, 5.0, 16.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.worker.act(self.worker.session.tick(at=self.now))
        if self.worker.is_hanging_up:
            self.cut()

    # ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.is_open)
    @rule()
    def cut(self) -> None:
        self.is_open = self.worker.is_hanging_up = False
        self.said.clear()
        self.server.outgoing.clear()
        self.worker.outgoing.clear()
        self.server.credits = 0
        self.worker.session.closed(code=1006, reason="")

    @rule()
    def crash_of_the_worker(self) -> None:
        if self.is_open:
            self.cut()
        self.worker = Worker(self.disk)

    @precondition(lambda self: self.server.outgoing)
    @rule()
    def a_frame_comes_twice(self) -> None:
        frame = self.server.outgoing[0]
        self._tell(frame)

    @precondition(lambda self: self.said)
    @rule(which=st.integers(0, 1000))
    def an_old_frame_comes_again(self, which: int) -> None:
        self._tell(self.said[which % len(self.said)])

    @precondition(lambda self: len(self.server.outgoing) > 1)
    @rule()
    def two_frames_swap(self) -> None:
        first, second = self.server.outgoing[0], self.server.outgoing[1]
        if not isinstance(decode_from_server(first), wire.Challenge | wire.Welcome):
            self.server.outgoing[0], self.server.outgoing[1] = second, first

    @rule(job=st.sampled_from(JOBS))
    def a_lease_runs_out(self, job: str) -> None:
        row = self.server.rows[job]
        if row.state in ("leased", "running"):
            row.state, row.is_here, row.has_expired = "queued", False, True

    @rule(job=st.sampled_from(JOBS))
    def another_worker_takes_it(self, job: str) -> None:
        row = self.server.rows[job]
        if row.state == "queued":
            row.fence, row.state, row.is_here = row.fence + 1, "running", False
            row.has_expired = False

    @rule(job=st.sampled_from(JOBS))
    def a_person_cancels(self, job: str) -> None:
        row = self.server.rows[job]
        if row.state in OPEN and row.is_here and self.is_open:
            row.state, row.is_cancelled = "cancelled", True
            self.server.say(wire.JobCancel(job=job, fence=row.fence))

    # ── what holds ──────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def nothing_is_begun_twice_in_one_life(self) -> None:
        assert len(self.worker.begun) == len(set(self.worker.begun))

    @invariant()
    def no_more_is_computed_than_there_are_slots(self) -> None:
        assert len(self.worker.children) <= SLOTS

    @invariant()
    def no_answer_is_thrown_away_that_still_counts(self) -> None:
        for key in self.worker.forgotten:
            row, answer_counts = self.server.rows[key.job], self.server.rows[key.job].counts(key.fence)
            is_failure_heard = answer_counts and row.state == "queued"
            assert not answer_counts or is_failure_heard, key

    @invariant()
    def every_answer_is_kept_or_was_forgotten_for_a_reason(self) -> None:
        held = {owed.key for owed in self.worker.session.owed}
        assert held == set(self.disk)

    @invariant()
    def a_job_is_seen_once(self) -> None:
        jobs = [key.job for key in self.server.visible]
        assert len(jobs) == len(set(jobs))
        assert all(self.server.rows[key.job].fence == key.fence for key in self.server.visible)

    def teardown(self) -> None:
        """Everything heals: what is here gets done, and what another worker took ends there."""
        for row in self.server.rows.values():
            if row.state == "running" and not row.is_here:
                row.state = "queued"
        for _ in range(400):
            if all(row.state not in OPEN for row in self.server.rows.values()) and not self.disk:
                return
            self.a_good_day()
            self._work_on()
        raise AssertionError((self.server.rows, self.disk, self.worker.children))

    def _work_on(self) -> None:
        if self.worker.children:
            self.an_analysis_ends(0, is_good=not next(iter(self.worker.children.values())))
        if self.worker.uploads:
            self.an_upload_ends()
        self.time_passes(5.0)

    def _tell(self, frame: str) -> None:
        self.said.append(frame)
        self.worker.act(self.worker.session.received(decode_from_server(frame), at=self.now))


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=80, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
