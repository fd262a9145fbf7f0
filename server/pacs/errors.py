"""What can go wrong between us and an archive, each with its HTTP status.

Problem
├── ArchiveFailure            an archive did not do what it was asked for
│   ├── ArchiveAway      503  no connection, no answer in time, or "come again later": another try may go well
│   ├── ArchiveDenied    502  it wants other credentials: another try goes well once an administrator has given them
│   ├── ArchiveBusy      502  it failed over this one request; a few more tries
│   ├── ArchiveRefused   502  it will not do this, and will not do it later
│   ├── ArchiveUnclear   502  its answer is not what the standard says
│   └── ArchiveTooMuch   502  its answer is larger than is accepted
├── SecretLost           503  a stored password cannot be read under this SECRET_KEY
├── NotInArchive         404  no such study there
├── ServerNotFound, PullNotFound   404
├── SearchTooWide        422  what is looked for would match half of the archive
├── CannotSearch         409  the archive is not one that can be searched
└── NothingToSend        409  the result has no DICOM objects
Stopping                 not a problem: the process ends, and the work is done later
"""

from __future__ import annotations

from server.core.errors import Problem


class ArchiveFailure(Problem):
    """Something went wrong there, not here. `retry_after_seconds`: when the archive itself says to come again."""

    status = 502
    code = "archive_failed"
    title = "The archive did not do it"

    def __init__(self, detail: str = "", *, retry_after_seconds: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class ArchiveAway(ArchiveFailure):
    """Nobody answers, or not now."""

    status = 503
    code = "archive_away"
    title = "The archive does not answer"


class ArchiveDenied(ArchiveFailure):
    """It does not know us."""

    code = "archive_denied"
    title = "The archive does not accept our name or password"


class ArchiveBusy(ArchiveFailure):
    """It failed in a way that may pass."""

    code = "archive_busy"
    title = "The archive failed over the request"


class ArchiveRefused(ArchiveFailure):
    """It will not."""

    code = "archive_refused"
    title = "The archive refused the request"


class ArchiveUnclear(ArchiveFailure):
    """It answered something else."""

    code = "archive_unclear"
    title = "The archive's answer cannot be understood"


class ArchiveTooMuch(ArchiveFailure):
    """It answered more than is accepted."""

    code = "archive_too_much"
    title = "The archive's answer is larger than is accepted"


class SecretLost(ArchiveFailure):
    """SECRET_KEY has changed since."""

    status = 503
    code = "archive_secret_lost"
    title = "The archive's password cannot be read any more"

    def __init__(self) -> None:
        super().__init__(
            "SECRET_KEY has changed since the archive's password was entered; enter it again in the admin."
        )


class NotInArchive(Problem):
    """There is no such study."""

    status = 404
    code = "not_in_archive"
    title = "The archive has no such study"


class ServerNotFound(Problem):
    """No archive of that name."""

    status = 404
    code = "archive_not_found"
    title = "Archive not found"

    def __init__(self) -> None:
        super().__init__("There is no archive of that name.")


class PullNotFound(Problem):
    """No such pull, or not of this user."""

    status = 404
    code = "pull_not_found"
    title = "Pull not found"

    def __init__(self) -> None:
        super().__init__("There is no such pull that you may see.")


class SearchTooWide(Problem):
    """More is to be named."""

    status = 422
    code = "search_too_wide"
    title = "Say more of what you look for"


class CannotSearch(Problem):
    """A listener of C-STORE, or an archive that an administrator has taken out."""

    status = 409
    code = "archive_cannot_search"
    title = "This archive cannot be searched"


class NothingToSend(Problem):
    """The scans came as NIfTI, so there is no DICOM to send."""

    status = 409
    code = "nothing_to_send"
    title = "The result has no DICOM objects"


class Stopping(Exception):
    """The process is about to end; nothing went wrong."""


def is_passing(failure: Problem) -> bool:
    """Whether another try can go well without anybody changing the study: ArchiveAway, ArchiveDenied, ArchiveBusy,
    SecretLost (once an administrator has acted), and a disk here that is full (507) or away (503)."""
    return isinstance(failure, ArchiveAway | ArchiveDenied | ArchiveBusy | SecretLost) or failure.status in (503, 507)


def concerns_all(failure: Problem) -> bool:
    """Whether everything else for the same archive would fail in the same way now: ArchiveAway, ArchiveDenied,
    SecretLost."""
    return isinstance(failure, ArchiveAway | ArchiveDenied | SecretLost)
