"""What can be refused to a worker.

Problem
├── EnrolRefused       403  unknown, used or expired token, or a proof that does not fit
├── DataTokenRefused   401  no data token, a forged one, or one that has run out
├── AttemptOver        409  the attempt the token speaks for no longer counts
└── ArtifactNotFound   404  no such artifact of this job
"""

from server.core.errors import Problem


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
