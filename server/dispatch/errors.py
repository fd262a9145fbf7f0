"""What can be refused to a worker.

Problem
├── EnrolRefused       403  unknown, used or expired token, or a proof that does not fit
├── DataTokenRefused   401  no data token, a forged one, or one that has run out
├── AttemptOver        409  the attempt the token speaks for no longer counts
├── ArtifactNotFound   404  no such artifact of this job
├── NotABrowserEndpoint 403  a worker sends neither Origin nor cookies
├── BadSync            400  the body of a sync request is not one
├── SyncTooLarge       413  too many frames or bytes in one request
└── TooManyLinks       429  too many links, in all or of one address
"""

from server.core.errors import Problem

RETRY_SECONDS = 10


class EnrolRefused(Problem):
    """All reasons look the same from outside."""

    status = 403
    code = "enrol_refused"
    title = "Enrolment refused"

    def __init__(self) -> None:
        super().__init__("The token is unknown, was used, or has expired, or the proof does not fit.")


class DataTokenRefused(Problem):
    """The bearer token opens nothing."""

    status = 401
    code = "data_token_refused"
    title = "Data token refused"

    def __init__(self) -> None:
        super().__init__("The data token is missing, is not valid here, or has run out; ask for a new one.")


class AttemptOver(Problem):
    """Somebody else has the job now, or it has ended."""

    status = 409
    code = "attempt_over"
    title = "The attempt no longer counts"

    def __init__(self) -> None:
        super().__init__("The job has ended or was given to another worker; stop this attempt.")


class ArtifactNotFound(Problem):
    """Not an input of the job."""

    status = 404
    code = "artifact_not_found"
    title = "Artifact not found"

    def __init__(self) -> None:
        super().__init__("There is no such artifact of this job.")


class NotABrowserEndpoint(Problem):
    """A page in a browser must not be able to speak as a worker."""

    status = 403
    code = "not_a_browser_endpoint"
    title = "Not for browsers"

    def __init__(self) -> None:
        super().__init__("Workers send neither Origin nor cookies.")


class BadSync(Problem):
    """Not a sync request."""

    status = 400
    code = "bad_sync"
    title = "Not a sync request"

    def __init__(self) -> None:
        super().__init__('The body is to be {"session": text or null, "ack": number, "frames": [...]}.')


class SyncTooLarge(Problem):
    """More at once than is taken."""

    status = 413
    code = "sync_too_large"
    title = "Too much in one request"

    def __init__(self) -> None:
        super().__init__("Send fewer frames at once.")


class TooManyLinks(Problem):
    """Whoever opens links and does not sign in is stopped here."""

    status = 429
    code = "too_many_links"
    title = "Too many links"

    def __init__(self) -> None:
        super().__init__("Too many links have not signed in; try again later.", extra={"retry_after": RETRY_SECONDS})
        self.headers = {"Retry-After": str(RETRY_SECONDS)}
