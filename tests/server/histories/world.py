"""A history: clicks, cancels, connections and faults in any order, then everything healed, then judgement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeGuard

from django.db import connection

from server.core.job import OPEN_STATES
from server.dispatch.models import Worker
from server.jobs import selectors, services
from server.jobs.models import Job
from server.jobs.requests import Wish, request_segmentation
from tests.server.dispatch.fakes import Machine
from tests.server.histories.cloud import Cloud, Moment, Wire
from tests.server.histories.lab import Lab
from tests.server.histories.virtual import VirtualLoop
from tests.system.faults.checker import FINAL, SUCCEEDED, Verdict, check
from tests.system.faults.history import Recorder, view_of
from tests.system.faults.rows import JobRow, Rows, read_rows
from worker_client.answers import Key

STEP_SECONDS = 1.0
HEAL_SECONDS = 150
LOOK_EVERY = 2
TABLES = (
    "jobs_jobevent",
    "jobs_requestkey",
    "jobs_job",
    "imaging_mask",
    "imaging_upload",
)
MOST_JOBS = 3
WEIGHTY = ("job.result", "job.failed", "job.accept", "hello", "token.refresh")


class World:
    """Everything that is real here: sessions of both sides, rules, services, rows. `machines` lend their keys."""

    def __init__(
        self, loop: VirtualLoop, *, user: Any, series: list[Any], machines: list[Machine], forget: Callable[[], None]
    ) -> None:
        self.loop = loop
        self.user = user
        self.series = series
        self.recorder = Recorder(clock=loop.time)
        self.cloud = Cloud(loop, forget=forget)
        self.labs = [
            Lab(machine, f"lab-{number}", recorder=self.recorder, clock=loop.time)
            for number, machine in enumerate(machines)
        ]
        self.accepted: list[str] = []
        self.positions: dict[str, int] = {}
        self._steps = 0

    # ── people ──────────────────────────────────────────────────────────────────────────────────────────────────

    def click(self, number: int) -> None:
        """A click, repeated when the same is open; a page follows the job from now on."""
        if not self.cloud.is_up or (len(self.accepted) >= MOST_JOBS and self._is_fresh(number)):
            return
        reference = self.series[number % len(self.series)]
        wish = Wish(series_ref=reference.pk, sequence_refs=tuple(one.pk for one in self.series), use_local=True)
        snapshot = request_segmentation(user=self.user, wish=wish)
        job_id = snapshot["id"]
        self.recorder.note("accepted", who="page", job=job_id, state=snapshot["state"])
        if job_id not in self.accepted:
            self.accepted.append(job_id)
            self.recorder.note("opened", who="page", job=job_id, recovered=False, **view_of(snapshot))
            self.positions[job_id] = snapshot["seq"]
        self._after()

    def cancel(self, number: int) -> None:
        """The doctor no longer wants it."""
        if not self.cloud.is_up or not self.accepted:
            return
        job_id = self.accepted[number % len(self.accepted)]
        value = services.cancel(job_id)
        self.recorder.note("cancelled", who="page", job=job_id, state=str(value.state))
        self._after()

    # ── the network ─────────────────────────────────────────────────────────────────────────────────────────────

    def connect(self, number: int) -> None:
        """A worker without a connection makes one."""
        lab = self.labs[number]
        if lab.wire is None and self.cloud.is_up:
            wire = self.cloud.open(lab.name)
            lab.connected(wire)
            self._after()

    def come_back(self, number: int) -> None:
        """A worker connects and signs in, and is told what there is."""
        self.connect(number)
        self.flow(number)

    def to_server(self, number: int) -> None:
        """The oldest frame of a worker arrives."""
        wire = self.labs[number].wire
        if self._reaches_server(wire):
            self.cloud.take(wire)
            self._after()

    def strike(self, number: int, calls: int, moment: Moment) -> None:
        """The same, and if it is a frame that matters, the server dies or a call fails in the middle of serving it."""
        wire = self.labs[number].wire
        if self._reaches_server(wire):
            if any(word in str(wire.to_server[0]) for word in WEIGHTY):
                self.arm(calls, moment)
            self.to_server(number)

    def go_away(self, number: int, seconds: float, *, server_knows: bool) -> None:
        """A worker is cut off and stays away for a while, in which everybody else goes on."""
        self.cut(number, server_knows=server_knows, worker_knows=True)
        self.pass_time(seconds, is_flowing=True)

    def to_worker(self, number: int) -> None:
        """The oldest frame to a worker arrives."""
        lab = self.labs[number]
        if lab.wire is not None and lab.wire.to_worker:
            lab.hear()
            self._after()

    def flow(self, number: int) -> None:
        """Everything between a worker and the server arrives, until there is nothing more to say."""
        lab = self.labs[number]
        for _ in range(200):
            wire = lab.wire
            if self._reaches_server(wire):
                self.to_server(number)
            elif wire is not None and wire.to_worker:
                self.to_worker(number)
            else:
                return

    def _reaches_server(self, wire: Wire | None) -> TypeGuard[Wire]:
        return wire is not None and bool(wire.to_server) and not wire.process.is_dead

    def cut(self, number: int, *, server_knows: bool, worker_knows: bool) -> None:
        """The connection is gone, with all that was under way; a side that does not know waits until it is silent."""
        wire = self.labs[number].wire
        if wire is None:
            return
        self._fault("cut")
        wire.is_cut = True
        wire.to_server.clear()
        wire.to_worker.clear()
        if worker_knows:
            self.labs[number].cut()
        if server_knows and self.cloud.is_up:
            self.cloud.lose(wire)
        self._after()

    def lose_frame(self, number: int, *, is_up: bool) -> None:
        """One frame vanishes: TCP never does that, a fall-back over requests may."""
        frames = self._frames(number, is_up=is_up)
        if len(frames) > 1 and frames[-1] is not None:
            self._fault("frame lost")
            frames.pop()

    def double_frame(self, number: int, *, is_up: bool) -> None:
        """One frame comes twice."""
        frames = self._frames(number, is_up=is_up)
        if frames and frames[-1] is not None:
            self._fault("frame doubled")
            frames.append(frames[-1])

    def swap_frames(self, number: int, *, is_up: bool) -> None:
        """Two frames overtake each other."""
        frames = self._frames(number, is_up=is_up)
        if len(frames) > 1 and None not in (frames[-1], frames[-2]):
            self._fault("frames swapped")
            frames[-1], frames[-2] = frames[-2], frames[-1]

    def _frames(self, number: int, *, is_up: bool) -> Any:
        lab = self.labs[number]
        if lab.wire is None or not lab.session.is_signed_in or not lab.wire.session.number:
            return []  # signing in is in order, or it is none
        return lab.wire.to_server if is_up else lab.wire.to_worker

    # ── the machines ────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, number: int) -> None:
        """A worker's oldest analysis is done."""
        self._work(number, lambda lab, key: lab.finish(key))

    def upload(self, number: int) -> None:
        """A worker's oldest upload is complete."""
        lab = self.labs[number]
        if lab.uploads and self.cloud.is_up:
            lab.upload(next(iter(lab.uploads)))
            self._after()

    def kill_child(self, number: int) -> None:
        """The process that computes is killed."""
        self._work(number, lambda lab, key: lab.child_dies(key), fault="child killed")

    def forget_silently(self, number: int) -> None:
        """A worker loses sight of a job."""
        self._work(number, lambda lab, key: lab.forget_silently(key), fault="job forgotten")

    def crash_worker(self, number: int) -> None:
        """A worker's process dies; the server may see that, or only by its silence."""
        lab = self.labs[number]
        self._fault("worker crash")
        wire = lab.wire
        lab.boot()
        if wire is not None:
            wire.is_cut = True
            wire.to_server.clear()
            if self.cloud.is_up:
                self.cloud.lose(wire)
        self._after()

    def crash_server(self) -> None:
        """The server's process dies."""
        if self.cloud.is_up:
            self._fault("server crash")
            self._bury()

    def start_server(self) -> None:
        """A new server process."""
        if not self.cloud.is_up:
            self.cloud.start()

    def arm(self, calls: int, moment: Moment) -> None:
        """After so many database calls the server dies before or after one, or one fails."""
        if self.cloud.is_up:
            self._fault(f"armed: {moment}")
            self.cloud.process.fate = (calls, moment)

    def fill_disk(self, number: int, *, is_full: bool) -> None:
        """A worker's disk has no room, or has it again."""
        self.labs[number].is_disk_full = is_full

    def lose_pokes(self, *, is_losing: bool) -> None:
        """The channel layer delivers nothing, or again everything."""
        self.cloud.loses_pokes = is_losing

    def set_clock(self, seconds: float) -> None:
        """The server's wall clock is set."""
        self._fault("clock set")
        self.loop.set_by += seconds

    def look(self) -> None:
        """The dispatcher looks at the queue."""
        if self.cloud.is_up:
            self.cloud.look()
            self._after()

    def pass_time(self, seconds: float, *, is_flowing: bool) -> None:
        """Time passes; with `is_flowing` frames arrive and the dispatcher looks meanwhile."""
        steps = max(1, round(seconds / STEP_SECONDS))
        for step in range(steps):
            self.loop.pass_time(seconds / steps)
            self._after()
            for number, lab in enumerate(self.labs):
                lab.tick()
                if is_flowing:
                    self.flow(number)
            if is_flowing and step % LOOK_EVERY == 0:
                self.look()

    def _work(self, number: int, what: Callable[[Lab, Key], None], *, fault: str = "") -> None:
        lab = self.labs[number]
        if lab.computing:
            if fault:
                self._fault(fault)
            what(lab, next(iter(lab.computing)))
            self._after()

    def _fault(self, what: str) -> None:
        self.recorder.note("fault", what=what)

    def _bury(self) -> None:
        """What the process has sent may still arrive; then the worker sees the end of the connection."""
        for wire in self.cloud.bury():
            wire.to_server.clear()
            wire.to_worker.append(None)

    def _after(self) -> None:
        """What every step ends with: a process that has just died is buried, pages read on, and work is looked for."""
        if self.cloud.process.is_dead and self.cloud.wires:
            self._bury()
        with connection.cursor() as cursor:
            rows = cursor.execute("SELECT id, last_seq, state, fence, worker_id FROM jobs_job").fetchall()
        if self.cloud.is_up:
            self._read_on(rows)
        self._look_for_waste(rows)

    def _read_on(self, rows: list[tuple[str, int, str, int, str]]) -> None:
        for job_id, last_seq, *_ in rows:
            seq = self.positions.get(job_id, last_seq)
            for event in selectors.events_since(job_id, seq) if seq < last_seq else ():
                self.positions[job_id] = event.seq
                self.recorder.note("event", who="page", job=job_id, **{**view_of(event.payload), "seq": event.seq})
                if event.payload["state"] == SUCCEEDED:
                    sha256 = event.payload["result"]["sha256"]
                    self.recorder.note("mask", who="page", job=job_id, sha256=sha256)

    def _look_for_waste(self, rows: list[tuple[str, int, str, int, str]]) -> None:
        """A finished result of the newest attempt must be somewhere until the server has it."""
        made = {answer.key: (lab, answer) for lab in self.labs for answer in lab.made}
        for job_id, _, state, fence, worker_id in rows if made else ():
            lab, answer = made.get(Key(job_id, fence), (None, None))
            if state in FINAL or lab is None or answer is None or lab.worker_id != worker_id:
                continue
            if answer.key not in lab.outbox and answer.key not in lab.session._held.owed:
                self.recorder.note("wasted", who=lab.name, job=job_id, fence=fence)
                lab.made.remove(answer)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

    def heal(self) -> None:
        """Everything is whole again, and works until nothing is open and nothing owed."""
        self.cloud.process.fate = None
        self.cloud.loses_pokes = False
        self.start_server()
        for number, lab in enumerate(self.labs):
            lab.is_disk_full = False
            self.flow(number)
        for _ in range(HEAL_SECONDS):
            if self._is_quiet():
                return
            for number in range(len(self.labs)):
                self.connect(number)
                self.flow(number)
                self.finish(number)
                self.upload(number)
                self.flow(number)
            self.pass_time(STEP_SECONDS, is_flowing=True)

    def verdict(self) -> Verdict:
        """What the checker says of it."""
        rows = read_rows()
        fences = {answer.sha256: answer.fence for lab in self.labs for answer in lab.made}
        jobs = {row.id: _with_fence(row, fences) for row in rows.jobs.values()}
        return check(self.recorder.facts, Rows(jobs, rows.series))

    def close(self) -> None:
        """End every task, and empty the tables."""
        self.cloud.bury()
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")
        Worker.objects.all().delete()

    def _is_quiet(self) -> bool:
        is_owed = any(lab.session.owed for lab in self.labs if not lab.is_out)
        return not is_owed and not Job.objects.filter(state__in=sorted(OPEN_STATES)).exists()

    def _is_fresh(self, number: int) -> bool:
        return not Job.objects.filter(
            series_id=self.series[number % len(self.series)].pk, state__in=sorted(OPEN_STATES)
        ).exists()


def _with_fence(row: JobRow, fences: dict[str, int]) -> JobRow:
    return replace(row, mask_fence=fences.get(row.masks[0])) if row.masks else row
