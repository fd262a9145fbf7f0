"""What clients saw, as it happened: an append-only list of facts, one JSON object a line.

Nothing is judged here. Viewers, clickers and faults write; `checker` reads afterwards.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True)
class Fact:
    """Something that somebody saw. `at` in seconds since the beginning; `who` saw it, `job` it is about.

    requested   a click is about to be sent                  click
    accepted    202 (or the job of a repeated click)         click, state, seq
    refused     any other answer                             what, status, code
    cancelled   a cancel was answered 202                    state
    opened      a subscription or a long-poll has begun      epoch, seq, recovered, asked, state, sha256
    event       one durable change                           epoch, seq, state, sha256
    snapshot    the job was read                             epoch, seq, state, sha256
    mask        the bytes of a mask came                     sha256 (of the bytes), via
    acknowledged  a worker was told that its result is kept  fence, result_id
    wasted      a worker let go of a result that still counts  fence
    uploaded    an upload was answered 201                   series
    leaked      somebody without the right saw something     what
    measured    a figure at the end, and what is allowed     what, value, allowed
    took        how long something took, and what is allowed what, seconds, allowed
    fault       a fault was made                             what, target
    healed      everything is whole again
    """

    kind: str
    at: float = 0.0
    who: str = ""
    job: str = ""
    said: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.said.get(name)

    def as_line(self) -> str:
        """One line of JSON."""
        return json.dumps({"at": round(self.at, 4), "kind": self.kind, "who": self.who, "job": self.job, **self.said})

    @classmethod
    def of_line(cls, line: str) -> Fact:
        """The fact that a line tells."""
        said = json.loads(line)
        return cls(*(said.pop(name) for name in ("kind", "at", "who", "job")), said=said)


class Recorder:
    """Takes facts from any thread, in the order in which they come, and writes each to the file at once."""

    def __init__(self, file: Path | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.facts: list[Fact] = []
        self._clock = clock
        self._began_at = clock()
        self._turn = threading.Lock()
        self._out: TextIO | None = file.open("a", buffering=1) if file is not None else None

    def note(self, kind: str, *, who: str = "", job: str = "", **said: Any) -> Fact:
        """Write a fact down."""
        with self._turn:
            fact = Fact(kind, at=self._clock() - self._began_at, who=who, job=job, said=said)
            self.facts.append(fact)
            if self._out is not None:
                self._out.write(fact.as_line() + "\n")
        return fact

    def of(self, kind: str) -> Iterator[Fact]:
        """The facts of one kind so far."""
        return (fact for fact in list(self.facts) if fact.kind == kind)

    def close(self) -> None:
        """No more facts."""
        if self._out is not None:
            self._out.close()


def view_of(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What matters of a job's snapshot: where in which log it stands, the state, and the digest of its mask."""
    result = snapshot.get("result") or {}
    return {
        "epoch": snapshot["epoch"],
        "seq": snapshot["seq"],
        "state": snapshot["state"],
        "sha256": result.get("sha256"),
    }


def read(file: Path) -> list[Fact]:
    """A history that was written before."""
    return [Fact.of_line(line) for line in file.read_text().splitlines()]
