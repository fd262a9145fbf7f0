"""What can be wrong with a request for a segmentation.

Problem
├── JobNotFound         404
├── SequencesUnclear    422  too many, not distinct, not of one study, or which is which cannot be told
├── SequenceMissing     422  fewer than four, and no model is declared for those alone
├── KeyReused           422  an Idempotency-Key with another request
├── QueueFull           503  as many jobs wait as may
├── ResultNotReady      409  the job has not succeeded
├── SegNotAvailable     404  the reference series is not DICOM
└── FileNotAvailable    404  no such file beside the mask
"""

from collections.abc import Sequence
from types import MappingProxyType

from server.core.errors import Problem


class JobNotFound(Problem):
    """No such job, or not for this user."""

    status = 404
    code = "job_not_found"
    title = "Job not found"

    def __init__(self) -> None:
        super().__init__("There is no such job that you may see.")


class SequencesUnclear(Problem):
    """Four different sequences of one study are needed; the sentence says what is off."""

    status = 422
    code = "sequences_unclear"
    title = "The four sequences are not clear"


class SequenceMissing(Problem):
    """A sequence is not there, and no model works without it."""

    status = 422
    code = "sequence_missing"
    title = "A sequence is missing"

    def __init__(self, missing: Sequence[str], *, given: Sequence[str], model: str = "") -> None:
        who = f"the model {model}" if model else "any model of this route"
        are = "is" if len(missing) == 1 else "are"
        super().__init__(
            f"{_listed(missing)} {are} missing, and neither a worker here nor one that is away has {who} "
            f"for {_listed(given)} alone.",
            extra={"missing": list(missing)},
        )


class KeyReused(Problem):
    """An Idempotency-Key stands for one request."""

    status = 422
    code = "idempotency_key_reused"
    title = "Idempotency-Key used before"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another request; make a new one.")


class QueueFull(Problem):
    """As many jobs wait as may; nothing was stored."""

    status = 503
    code = "queue_full"
    title = "The queue is full"
    headers = MappingProxyType({"Retry-After": "60"})

    def __init__(self) -> None:
        super().__init__("As many analyses wait as this server takes; ask again in a minute.")


class ResultNotReady(Problem):
    """There is nothing to download."""

    status = 409
    code = "result_not_ready"
    title = "No result"

    def __init__(self, state: str) -> None:
        super().__init__(f"The job is {state}; a result is there once it has succeeded.")


class SegNotAvailable(Problem):
    """NIfTI input has no DICOM headers to write a SEG from."""

    status = 404
    code = "seg_not_available"
    title = "No DICOM SEG"

    def __init__(self) -> None:
        super().__init__("The reference series is not DICOM, so there is no DICOM SEG; take the NIfTI mask.")


class FileNotAvailable(Problem):
    """The result has no such file: it came from NIfTI, or the file could not be made."""

    status = 404
    code = "file_not_available"
    title = "No such file of the result"

    def __init__(self, name: str) -> None:
        super().__init__(f"The result has no {name}; report.json says why.")


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
