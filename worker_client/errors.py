"""What can go wrong on the lab PC, one class per thing that can be done about it.

WorkerError
├── SetUpError               a person must do something first; the sentence says what
│   ├── BadAddress           the server's URL is none, or is not safe to use
│   ├── NotEnrolled          there is no identity in the home folder
│   ├── EnrolRefused         the server did not take the token
│   ├── HomeUnsafe           the key could be read by other users of this machine
│   ├── HomeBusy             another worker runs from the same home folder
│   └── ServerForbids        the server said goodbye and not to come back
├── OutboxDamaged            an entry on disk cannot be read; it is set aside
└── TransferError            bytes did not get through
    ├── Unreachable          the network or the server failed; the same request may succeed later
    ├── ChecksumRefused      bytes changed on the way up; the same chunk may be sent again
    ├── OffsetMoved          the server holds another number of bytes than we thought
    ├── Intercepted          something in between answered in the server's place; it may go away
    ├── TokenRefused         the data token is too old; a new one helps
    ├── LeaseGone            the attempt no longer counts
    ├── DigestMismatch       what arrived is not what was promised
    ├── ForeignPath          the server named a place that is not its own
    └── TransferRefused      the server said no, and will say no again
"""

from __future__ import annotations

from pathlib import Path


class WorkerError(Exception):
    """Anything this package raises on purpose."""


class SetUpError(WorkerError):
    """The worker cannot start until a person has done something. `exit_code` is that of the command."""

    exit_code = 2


class BadAddress(SetUpError):
    """The server's address cannot be used."""

    def __init__(self, url: str, *, why: str) -> None:
        self.url = url
        super().__init__(f"{url!r} cannot be the server's address: {why}")


class NotEnrolled(SetUpError):
    """Nobody has enrolled this worker yet."""

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(
            f"No worker is enrolled in {home}. Ask the server's administrator for a token, then run: "
            "python -m worker_client enrol --server URL --name NAME --token-stdin"
        )


class EnrolRefused(SetUpError):
    """The server did not take the enrolment."""

    def __init__(self, detail: str, *, status: int) -> None:
        self.status = status
        super().__init__(f"The server refused the enrolment ({status}): {detail}")


class HomeUnsafe(SetUpError):
    """Other users of this machine could read the worker's key."""

    def __init__(self, path: Path, *, fix: str) -> None:
        self.path = path
        super().__init__(f"{path} can be read by other users of this machine. Run: {fix}")


class HomeBusy(SetUpError):
    """Another worker already runs from this home folder."""

    exit_code = 3

    def __init__(self, home: Path) -> None:
        self.home = home
        super().__init__(f"Another worker is running from {home}; stop it first, or give this one its own --home.")


class ServerForbids(SetUpError):
    """The server closed the connection for good: revoked, unknown key, or a version it does not speak."""

    exit_code = 4

    def __init__(self, reason: str, *, code: int) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"The server does not take this worker ({code}): {reason}")


class OutboxDamaged(WorkerError):
    """An entry of the outbox cannot be read."""

    def __init__(self, path: Path, *, why: str) -> None:
        self.path = path
        super().__init__(f"The outbox entry {path.name} cannot be read: {why}")


class TransferError(WorkerError):
    """Bytes did not get from one side to the other."""


class Unreachable(TransferError):
    """The network or the server failed for now; `retry_after` seconds if the server named them."""

    def __init__(self, why: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(f"The server could not be reached: {why}")


class ChecksumRefused(TransferError):
    """A chunk arrived changed (460)."""

    def __init__(self) -> None:
        super().__init__("A chunk was damaged on its way to the server.")


class OffsetMoved(TransferError):
    """The server's offset is not ours (409 on an upload)."""

    def __init__(self) -> None:
        super().__init__("The server holds another number of bytes than expected.")


class Intercepted(TransferError):
    """The answer is none of the server's: a proxy or a captive portal spoke in its place."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"Something between here and the server answered in its place ({status}).")


class TokenRefused(TransferError):
    """The data token is not taken (401, 403)."""

    def __init__(self) -> None:
        super().__init__("The server no longer takes the data token.")


class LeaseGone(TransferError):
    """Another attempt counts now, or the job is over (409 stale_lease, 410)."""

    def __init__(self) -> None:
        super().__init__("The attempt no longer counts.")


class UploadVanished(TransferError):
    """There is nothing under this path (404, 410): an upload that expired, or an artifact that is gone."""

    def __init__(self) -> None:
        super().__init__("The server has nothing under this path any more.")


class DigestMismatch(TransferError):
    """What arrived has another size or sha256 than the offer says."""

    def __init__(self, artifact: str) -> None:
        self.artifact = artifact
        super().__init__(f"Artifact {artifact} is not what the offer promised.")


class ForeignPath(TransferError):
    """The server named an address outside itself; it is never fetched."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path!r} is not a path on the enrolled server.")


class TransferRefused(TransferError):
    """The server refused for a reason that will not pass."""

    def __init__(self, status: int, *, code: str = "") -> None:
        self.status = status
        self.code = code
        super().__init__(f"The server refused the transfer ({status} {code}).".replace(" )", ")"))
