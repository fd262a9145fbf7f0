"""What a user is told when a job fails: a safe sentence for each code. The cause itself is for operators."""

from collections.abc import Mapping, Sequence
from typing import Any

SENTENCES: Mapping[str, str] = {
    "input_invalid": "The images could not be used for the analysis.",
    "oom": "The worker did not have enough memory for these images.",
    "model_error": "The model could not be run on the worker.",
    "internal": "The analysis stopped because of an error on the worker.",
    "result_invalid": "The worker's mask did not pass the server's checks, so it is not offered.",
    "lease_expired": "The worker stopped answering.",
    "worker_restarted": "The worker restarted.",
    "worker_revoked": "The worker may no longer work for this server.",
    "shutdown": "The worker was shut down.",
    "oom_guard": "The worker did not have enough memory for these images.",
    "owner": "The worker gave the job back.",
}
UNKNOWN = "The analysis failed."


def failure(code: str, causes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The `error` of a snapshot."""
    if code != "attempts_exhausted":
        return {"code": code, "message": SENTENCES.get(code, UNKNOWN)}
    last = SENTENCES.get(str(causes[-1]["code"]), UNKNOWN) if causes else UNKNOWN
    return {"code": code, "message": f"No attempt came to a result. The last one: {last}"}
