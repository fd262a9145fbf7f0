"""The chain of hashes over the audit log, and what its breaks mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from server.audit.models import Entry, Seal

LATE = timedelta(hours=1)
"""Longer than any transaction: an entry that a round of sealing missed by more was not there then."""


class Break(StrEnum):
    """What is wrong with a place in the chain."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    UNANCHORED = "unanchored"


@dataclass(frozen=True)
class Finding:
    """A break at the seal `number`, with a sentence for the operator."""

    what: Break
    number: int
    sentence: str


def canonical(entry: Entry) -> dict[str, object]:
    """An entry as it is hashed and exported."""
    return {
        "action": entry.action,
        "actor": entry.actor,
        "address": entry.address,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "ids": dict(sorted(entry.ids.items())),
    }


def digest_of(entry: Entry, *, number: int, previous: str) -> str:
    """The sha256 (hex) that seals an entry at its place: over JSON with sorted keys and no spaces."""
    sealed = {"entry": canonical(entry), "number": number, "previous": previous}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def breaks(seals: Iterable[Seal], *, anchors: dict[int, str]) -> Iterator[Finding]:
    """Every break in a chain that is given from its first seal on, in order.

    `anchors` are hashes by number that were kept outside the database: without one, a chain that was cut off at its
    end or written anew as a whole looks whole.
    """
    expected, previous, missing = 1, "", dict(anchors)
    rounds = _Rounds()
    for seal in seals:
        if seal.number != expected:
            yield Finding(Break.REMOVED, expected, f"{seal.number - expected} in the place of {expected} are gone")
        elif seal.previous != previous:
            yield Finding(Break.REMOVED, seal.number, "it does not follow the one before it")
        if seal.sha256 != digest_of(seal.entry, number=seal.number, previous=seal.previous):
            yield Finding(Break.CHANGED, seal.number, "the entry or its seal was changed")
        if rounds.missed(seal):
            yield Finding(Break.INSERTED, seal.number, "it is older than a sealing that should have seen it")
        if missing.pop(seal.number, seal.sha256) != seal.sha256:
            yield Finding(Break.UNANCHORED, seal.number, "its hash is not the one that was kept")
        expected, previous = seal.number + 1, seal.sha256
    for number in missing:
        yield Finding(Break.REMOVED, number, "a hash of it was kept, and it is not there")


class _Rounds:
    """When sealing went on before the round that is being looked at."""

    def __init__(self) -> None:
        self._current: datetime | None = None
        self._before: datetime | None = None

    def missed(self, seal: Seal) -> bool:
        """Whether an earlier round should have sealed this entry."""
        if seal.sealed_at != self._current:
            self._before, self._current = self._current, seal.sealed_at
        return self._before is not None and self._before - seal.entry.at > LATE
