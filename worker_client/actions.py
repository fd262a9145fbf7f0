"""What a session asks its surroundings to do, as values.

Flow: 5 receive
"""

from __future__ import annotations

from dataclasses import dataclass

from worker_client.answers import Answer, Key
from worker_client.protocol.messages import FromWorker, JobOffer


@dataclass(frozen=True)
class Send:
    """Put this on the socket."""

    message: FromWorker


@dataclass(frozen=True)
class HangUp:
    """Close the socket, once everything before it is sent."""

    code: int
    reason: str


@dataclass(frozen=True)
class Begin:
    """Start computing an offer that was accepted."""

    offer: JobOffer


@dataclass(frozen=True)
class Halt:
    """Stop computing within `grace_seconds`; say `stopped` afterwards."""

    key: Key
    grace_seconds: float


@dataclass(frozen=True)
class Upload:
    """Bring this result's mask to the server, or go on with it; say `uploaded` afterwards."""

    answer: Answer
    token: str


@dataclass(frozen=True)
class UseToken:
    """From now on this data token speaks for the attempt."""

    key: Key
    token: str


@dataclass(frozen=True)
class Forget:
    """The outbox entry may go, and an upload of it stops."""

    key: Key


@dataclass(frozen=True)
class GiveUp:
    """The server will never take this answer: put a failure in its place, and say `computed` afterwards."""

    answer: Answer
    why: str


@dataclass(frozen=True)
class MakeKey:
    """Make a new key and keep it beside the old one, on the disk; say `key_made` afterwards."""


@dataclass(frozen=True)
class AdoptKey:
    """The newer key is the one that counts; the old one may go."""


@dataclass(frozen=True)
class Leave:
    """Drained: nothing is left to do, and the worker may end."""


Action = Send | HangUp | Begin | Halt | Upload | UseToken | Forget | GiveUp | MakeKey | AdoptKey | Leave
