"""Judges a history against the rows that were left: the invariants I1 to I7, as values. Pure.

I1  every 202 ends in exactly one terminal state                          lost, duplicated
I2  one result of a succeeded job, of the row's own fence                  duplicated, stale
I3  a viewer's steps have no gap and no way back, and end like a fresh one lost, stale
I4  nothing that was acknowledged is missing                               lost
I5  nothing was seen without the right                                     unauthorised
I6  memory, files and rows are back where they were                        leftover
I7  what has a deadline kept it                                            late
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.system.faults.history import Fact
from tests.system.faults.rows import JobRow, Rows

FINAL = frozenset({"succeeded", "failed", "cancelled"})
SUCCEEDED = "succeeded"


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold: `kind` is the word of the last line, `who` saw it."""

    invariant: str
    kind: str
    detail: str
    job: str = ""
    who: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a history came to."""

    jobs: int
    faults: int
    violations: tuple[Violation, ...]

    def count(self, kind: str) -> int:
        """How many things (jobs, or facts without one) were lost, duplicated, …"""
        return len({one.job or one.detail for one in self.violations if one.kind == kind})

    @property
    def is_clean(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.violations

    def summary(self) -> str:
        """The last line of a campaign."""
        words = " ".join(f"{kind}={self.count(kind)}" for kind in ("lost", "duplicated", "stale"))
        return f"jobs={self.jobs} faults={self.faults} {words}"

    def beside(self) -> str:
        """What else was looked at."""
        return " ".join(f"{kind}={self.count(kind)}" for kind in ("unauthorised", "leftover", "late"))


Rule = Callable[[Sequence[Fact], Rows], Iterable[Violation]]


def check(history: Sequence[Fact], rows: Rows) -> Verdict:
    """Every rule over the whole history."""
    violations = tuple(found for rule in RULES for found in rule(history, rows))
    accepted = {fact.job for fact in history if fact.kind == "accepted"}
    faults = sum(fact.kind == "fault" for fact in history)
    return Verdict(jobs=len(accepted), faults=faults, violations=violations)


# ── I1 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def accepted_jobs_end_once(history: Sequence[Fact], rows: Rows) -> Iterator[Violation]:
    """A 202 without an end is lost; one with two ends happened twice."""
    for job_id in dict.fromkeys(fact.job for fact in history if fact.kind == "accepted"):
        row = rows.jobs.get(job_id)
        if row is None:
            yield Violation("I1", "lost", "the job was accepted and is not there", job_id)
        elif row.state not in FINAL:
            yield Violation("I1", "lost", f"the job was accepted and is still {row.state}", job_id)


def logs_are_whole(_: Sequence[Fact], rows: Rows) -> Iterator[Violation]:
    """A log runs from 1 without a gap, ends once, and goes on no further then."""
    for row in rows.jobs.values():
        if [line.seq for line in row.log] != list(range(1, row.seq + 1)):
            yield Violation("I1", "lost", "the log has a gap", row.id)
        ends = [line for line in row.log if line.kind in FINAL]
        if len(ends) > 1:
            yield Violation("I1", "duplicated", f"the job ended {len(ends)} times", row.id)
        if row.state in FINAL and not ends:
            yield Violation("I1", "lost", f"no event tells that the job {row.state}", row.id)
        if ends and row.log[-1].kind not in FINAL:
            yield Violation("I1", "stale", f"{row.log[-1].kind} came after the end", row.id)


def clicks_make_one_job(history: Sequence[Fact], _: Rows) -> Iterator[Violation]:
    """A click that was sent again under the same key is the same job."""
    made: dict[str, set[str]] = {}
    for fact in history:
        if fact.kind == "accepted" and fact["click"]:
            made.setdefault(fact["click"], set()).add(fact.job)
    for click, jobs in made.items():
        if len(jobs) > 1:
            yield Violation("I1", "duplicated", f"click {click} became {len(jobs)} jobs", sorted(jobs)[1])


# ── I2 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def results_are_single_and_current(_: Sequence[Fact], rows: Rows) -> Iterator[Violation]:
    """One mask for a job that succeeded, none for another, and it is the newest attempt's."""
    for row in rows.jobs.values():
        if len(row.masks) > 1:
            yield Violation("I2", "duplicated", f"{len(row.masks)} masks are stored", row.id)
        if row.state == SUCCEEDED and not row.masks:
            yield Violation("I2", "lost", "the job succeeded and has no mask", row.id)
        if row.state != SUCCEEDED and row.masks:
            yield Violation("I2", "stale", f"a mask is stored and the job is {row.state}", row.id)
        if row.state == SUCCEEDED and row.mask_fence not in {None, row.fence}:
            yield Violation("I2", "stale", f"the mask is of fence {row.mask_fence}, the row of {row.fence}", row.id)


def masks_are_the_stored_ones(history: Sequence[Fact], rows: Rows) -> Iterator[Violation]:
    """Whoever saw a mask, or its digest, saw the one that counts."""
    for fact in history:
        row = rows.jobs.get(fact.job)
        seen = fact["sha256"]
        if row is None or not seen or fact.kind not in {"mask", "event", "snapshot", "opened"}:
            continue
        if seen not in row.masks:
            yield Violation("I2", "stale", f"a mask was seen by {fact.kind} that is not the job's", row.id, fact.who)


# ── I3 ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Seat:
    """Where one viewer stands in one job's log."""

    who: str
    row: JobRow
    epoch: str | None = None
    seq: int = -1
    state: str | None = None
    has_mask: bool = False
    follows: bool = False

    def wrong(self, fact: Fact) -> str | None:
        """Take the fact in, and answer what is wrong with it."""
        if fact.kind == "mask":
            self.has_mask = True
            return None
        problem = self._step(fact)
        states = {line.seq: line.state for line in self.row.log}
        expected = states.get(fact["seq"], fact["state"])
        if fact["epoch"] == self.row.epoch and fact.kind != "opened" and fact["state"] != expected:
            problem = problem or f"{fact['state']} was seen at {fact['seq']}, where the log says {expected}"
        return problem

    def _step(self, fact: Fact) -> str | None:
        before, is_same_life = self.seq, fact["epoch"] == self.epoch
        self.epoch, self.seq = fact["epoch"], fact["seq"]
        if fact.kind == "opened":
            self.follows = True
            if fact["recovered"]:
                is_kept = fact["asked"] in {None, fact["seq"]}
                return None if is_kept else f"recovered at {fact['seq']} instead of {fact['asked']}"
            self.state = fact["state"]
            return (
                f"a new snapshot goes back from {before} to {self.seq}" if is_same_life and self.seq < before else None
            )
        if fact.kind == "event":
            self.state = fact["state"]
            return None if is_same_life and self.seq == before + 1 else f"{self.seq} came after {before}"
        if is_same_life and self.seq < before:
            return f"a read goes back from {before} to {self.seq}"
        return None


def viewers_see_every_step(history: Sequence[Fact], rows: Rows) -> Iterator[Violation]:
    """No gap, no way back, and at the end what a fresh viewer sees. A read stands beside a subscription."""
    seats: dict[tuple[str, str, bool], _Seat] = {}
    for fact in history:
        row = rows.jobs.get(fact.job)
        if row is None or fact.kind not in {"opened", "event", "snapshot", "mask"}:
            continue
        is_read = fact.kind == "snapshot"
        seat = seats.setdefault((fact.who, fact.job, is_read), _Seat(fact.who, row))
        problem = seat.wrong(fact)
        if problem:
            yield Violation("I3", "stale", problem, fact.job, fact.who)
    for seat in seats.values():
        yield from _wrong_at_the_end(seat)


def _wrong_at_the_end(seat: _Seat) -> Iterator[Violation]:
    row = seat.row
    if not seat.follows:
        return
    if (seat.state, seat.seq) != (row.state, row.seq):
        seen = f"the viewer ended with {seat.state} at {seat.seq}, the job with {row.state} at {row.seq}"
        yield Violation("I3", "stale", seen, row.id, seat.who)
    if row.state == SUCCEEDED and not seat.has_mask:
        yield Violation("I3", "lost", "the viewer never got the mask", row.id, seat.who)


# ── I4 to I7 ────────────────────────────────────────────────────────────────────────────────────────────────────


def acknowledged_is_kept(history: Sequence[Fact], rows: Rows) -> Iterator[Violation]:
    """A cancel that was answered `cancelled` stays so; what was uploaded is there."""
    for fact in history:
        row = rows.jobs.get(fact.job)
        if fact.kind == "wasted":
            yield Violation("I4", "lost", f"the finished result of fence {fact['fence']} was thrown away", fact.job)
        if row is None:
            pass
        elif fact.kind == "acknowledged" and row.state == SUCCEEDED and row.result_id != fact["result_id"]:
            yield Violation("I4", "lost", f"result {fact['result_id']} was acknowledged and is not kept", row.id)
        elif fact.kind == "cancelled" and fact["state"] in FINAL and row.state != fact["state"]:
            yield Violation("I4", "lost", f"the cancel was answered {fact['state']}, the job {row.state}", row.id)
        if fact.kind == "uploaded":
            missing = set(fact["series"]) - rows.series
            for one in sorted(missing):
                yield Violation("I4", "lost", f"series {one} was acknowledged and is not there")


def strangers_see_nothing(history: Sequence[Fact], _: Rows) -> Iterator[Violation]:
    """Not an answer, not an event, not a byte."""
    for fact in history:
        if fact.kind == "leaked":
            yield Violation("I5", "unauthorised", str(fact["what"]), fact.job, fact.who)


def nothing_is_left_over(history: Sequence[Fact], _: Rows) -> Iterator[Violation]:
    """Figures at the end are within what is allowed."""
    for fact in history:
        if fact.kind == "measured" and fact["value"] > fact["allowed"]:
            yield Violation("I6", "leftover", f"{fact['what']}: {fact['value']:g}, allowed {fact['allowed']:g}")


def deadlines_hold(history: Sequence[Fact], _: Rows) -> Iterator[Violation]:
    """What took longer than stated."""
    for fact in history:
        if fact.kind == "took" and fact["seconds"] > fact["allowed"]:
            told = f"{fact['what']}: {fact['seconds']:.1f} s, allowed {fact['allowed']:g} s"
            yield Violation("I7", "late", told, fact.job)


def faults_by_name(history: Sequence[Fact]) -> Counter[str]:
    """How often each fault was made."""
    return Counter(str(fact["what"]) for fact in history if fact.kind == "fault")


RULES: tuple[Rule, ...] = (
    accepted_jobs_end_once,
    logs_are_whole,
    clicks_make_one_job,
    results_are_single_and_current,
    masks_are_the_stored_ones,
    viewers_see_every_step,
    acknowledged_is_kept,
    strangers_see_nothing,
    nothing_is_left_over,
    deadlines_hold,
)
