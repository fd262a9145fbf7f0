"""The checker against histories that are wrong in one way each: a checker that finds nothing proves nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.system.faults.checker import Verdict, check
from tests.system.faults.history import Fact, Recorder, read
from tests.system.faults.rows import JobRow, Line, Rows, of_text

EPOCH = "e1"
MASK = "a" * 64
LOG = (
    Line(1, "queued", "queued"),
    Line(2, "leased", "leased"),
    Line(3, "started", "running"),
    Line(4, "succeeded", "succeeded", MASK),
)
ROW = JobRow(id="j", state="succeeded", fence=1, seq=4, epoch=EPOCH, result_id="r", masks=(MASK,), log=LOG)
CANCELLED = replace(
    ROW,
    state="cancelled",
    seq=2,
    masks=(),
    log=(Line(1, "queued", "queued"), Line(2, "cancelled", "cancelled")),
)


def fact(kind: str, **said: object) -> Fact:
    return Fact(kind, who="page", job="j", said=said)


def opened(seq: int, state: str, *, recovered: bool = False, **said: object) -> Fact:
    return fact("opened", epoch=EPOCH, seq=seq, state=state, recovered=recovered, **said)


def event(seq: int, state: str, **said: object) -> Fact:
    return fact("event", epoch=EPOCH, seq=seq, state=state, **said)


ACCEPTED = fact("accepted", click="c", state="queued")
SEEN = (
    ACCEPTED,
    opened(1, "queued"),
    event(2, "leased"),
    event(3, "running"),
    event(4, "succeeded", sha256=MASK),
    fact("mask", sha256=MASK, via="pushed"),
)


def judged(history: tuple[Fact, ...] = SEEN, row: JobRow | None = ROW) -> Verdict:
    return check(history, Rows({} if row is None else {row.id: row}, frozenset({"s1"})))


def kinds(verdict: Verdict) -> set[tuple[str, str]]:
    return {(one.invariant, one.kind) for one in verdict.violations}


def test_a_history_without_a_flaw_is_clean():
    verdict = judged()

    assert verdict.violations == ()
    assert verdict.summary() == "jobs=1 faults=0 lost=0 duplicated=0 stale=0"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (None, ("I1", "lost")),
        (replace(ROW, state="running", log=LOG[:3], seq=3, masks=()), ("I1", "lost")),
        (replace(ROW, log=LOG[:2] + LOG[3:]), ("I1", "lost")),
        (replace(ROW, log=LOG[:3], seq=3), ("I1", "lost")),
        (replace(ROW, log=(*LOG, Line(5, "succeeded", "succeeded")), seq=5), ("I1", "duplicated")),
        (replace(ROW, log=(*LOG, Line(5, "queued", "queued")), seq=5), ("I1", "stale")),
        (replace(ROW, masks=(MASK, "b" * 64)), ("I2", "duplicated")),
        (replace(ROW, masks=()), ("I2", "lost")),
        (replace(ROW, state="failed"), ("I2", "stale")),
        (replace(ROW, mask_fence=1, fence=2), ("I2", "stale")),
    ],
    ids=["no row", "no end", "gap", "end untold", "two ends", "after the end", "two masks", "no mask", "why", "fence"],
)
def test_rows_that_break_the_promise_are_found(row, expected):
    assert expected in kinds(judged(row=row))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ((*SEEN[:2], *SEEN[3:]), ("I3", "stale")),
        ((*SEEN[:3], SEEN[2], *SEEN[3:]), ("I3", "stale")),
        ((*SEEN[:4], SEEN[2]), ("I3", "stale")),
        (SEEN[:4], ("I3", "stale")),
        ((*SEEN[:3], event(3, "queued"), *SEEN[4:]), ("I3", "stale")),
        ((*SEEN[:4], opened(1, "queued"), *SEEN[2:]), ("I3", "stale")),
        ((*SEEN[:3], opened(1, "running", recovered=True, asked=2), *SEEN[2:]), ("I3", "stale")),
        (SEEN[:5], ("I3", "lost")),
        ((*SEEN, fact("mask", sha256="b" * 64, via="fetched")), ("I2", "stale")),
        ((*SEEN, fact("snapshot", epoch=EPOCH, seq=4, state="running")), ("I3", "stale")),
        ((*SEEN, fact("accepted", click="c", state="queued"), Fact("accepted", job="k", said={"click": "c"})), None),
        ((*SEEN, Fact("leaked", who="stranger", job="j", said={"what": "200"})), ("I5", "unauthorised")),
        ((*SEEN, fact("measured", what="files", value=9, allowed=3)), ("I6", "leftover")),
        ((*SEEN, fact("took", what="reassigned", seconds=16.0, allowed=15.0)), ("I7", "late")),
        ((*SEEN, fact("uploaded", series=["s1", "s2"])), ("I4", "lost")),
    ],
    ids=[
        "gap",
        "twice",
        "back",
        "never the end",
        "another state than the log",
        "an old snapshot",
        "recovered elsewhere",
        "no mask",
        "another mask",
        "a read of an older state",
        "one click, two jobs",
        "leak",
        "leftover",
        "late",
        "upload gone",
    ],
)
def test_histories_that_break_the_promise_are_found(history, expected):
    assert (expected or ("I1", "duplicated")) in kinds(judged(history))


def test_a_cancel_that_was_answered_and_did_not_hold_is_lost():
    cancelled = fact("cancelled", state="cancelled")

    assert ("I4", "lost") in kinds(judged((*SEEN, cancelled)))
    assert judged((ACCEPTED, cancelled), CANCELLED).is_clean


def test_a_viewer_that_comes_back_where_it_was_has_missed_nothing():
    history = (*SEEN[:3], opened(2, "succeeded", recovered=True, asked=2), *SEEN[3:])

    assert judged(history).is_clean


def test_a_new_life_of_the_database_begins_with_a_new_snapshot():
    """After a restored backup seqs are given out a second time; a viewer starts anew and does not compare them."""
    before = (fact("opened", epoch="e0", seq=9, state="running"), fact("event", epoch="e0", seq=10, state="queued"))

    assert judged((ACCEPTED, *before, *SEEN[1:])).is_clean


def test_a_history_comes_back_from_its_file(tmp_path):
    recorder = Recorder(tmp_path / "history.jsonl", clock=iter([0.0, 1.5]).__next__)

    written = recorder.note("event", who="page", job="j", seq=3, state="running")
    recorder.close()

    assert read(tmp_path / "history.jsonl") == [written]
    assert written.at == 1.5


def test_rows_come_back_from_their_text():
    text = (
        '{"jobs": [{"id": "j", "state": "queued", "fence": 0, "seq": 1, "epoch": "e1", "result_id": null,'
        ' "masks": [], "mask_fence": null, "log": [{"seq": 1, "kind": "queued", "state": "queued", "sha256": null}]}],'
        ' "series": ["s1"]}'
    )

    rows = of_text(text)

    assert rows.jobs["j"].log == (Line(1, "queued", "queued"),)
    assert rows.series == {"s1"}
