"""Why an analysis could not be finished: one class for each thing a caller can do about it.

    InferenceError
    ├── InputInvalid       the scans cannot be analysed; `code` says what is wrong; trying again is pointless
    ├── ModelError         the model cannot be used on this machine
    │   ├── ModelMissing       it is not in the registry
    │   ├── WeightsMismatch    its weights are not the ones its name and version stand for
    │   └── ModelFailed        it ran and gave something that cannot be a segmentation
    ├── OutOfMemory        this machine is too small for this case; another may do
    ├── DeviceUnavailable  the device asked for is not there
    ├── DiskFailed         this machine's disk is full or broken
    ├── Unforeseen         something nobody thought of; another machine may not meet it
    ├── ChildDied          the analysis process ended without an answer
    │   └── ChildSilent        it stopped talking and was killed by the watchdog
    └── Cancelled          somebody asked for it

Each sentence is safe to show to a user: no path beyond a file name, no patient data, no traceback.
"""

from __future__ import annotations

from typing import ClassVar


class InferenceError(Exception):
    """An analysis ended without a mask. `code` names the failure for programs, `str(error)` for people."""

    code: str = "internal"
    family: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, sentence: str, *, code: str | None = None) -> None:
        super().__init__(sentence)
        if code is not None:
            self.code = code


class InputInvalid(InferenceError):
    """The scans cannot be analysed. `subject` names the file or the sequence at fault, if one is.

    Codes: not_found, not_nifti, truncated, not_3d, not_real, not_finite, no_orientation, affine_singular,
    too_thin, too_large, constant, empty, no_overlap, sequence_missing, size_mismatch, digest_mismatch, corrupt.
    """

    code = "input_invalid"
    family = "input_invalid"

    def __init__(self, code: str, sentence: str, *, subject: str | None = None) -> None:
        super().__init__(f"{subject}: {sentence}" if subject else sentence, code=code)
        self.sentence = sentence
        self.subject = subject

    def about(self, subject: str) -> InputInvalid:
        """The same failure with the file or sequence it belongs to, for a caller who knows its name."""
        return InputInvalid(self.code, self.sentence, subject=subject)


class ModelError(InferenceError):
    """The model cannot be used on this machine."""

    code = "model_error"
    family = "model_error"


class ModelMissing(ModelError):
    """The registry has no such model."""

    code = "model_missing"

    def __init__(self, name: str = "", *, sentence: str | None = None) -> None:
        super().__init__(sentence or f"There is no model {name!r} on this machine.")
        self.name = name


class WeightsMismatch(ModelError):
    """The weights file is not the one that the model's name and version stand for."""

    code = "weights_mismatch"

    def __init__(self, name: str, *, expected: str, found: str) -> None:
        super().__init__(f"The weights of {name} have the digest {found[:12]}…, not {expected[:12]}….")
        self.name = name
        self.expected = expected
        self.found = found


class ModelFailed(ModelError):
    """The network ran and gave something that cannot be a segmentation (wrong shape, not a number)."""

    code = "model_failed"


class OutOfMemory(InferenceError):
    """The case does not fit into this machine's memory; a larger one may do."""

    code = "oom"
    family = "oom"
    retryable = True


class DeviceUnavailable(InferenceError):
    """The device that was asked for is not there."""

    code = "device_unavailable"
    retryable = True


class DiskFailed(InferenceError):
    """This machine's disk is full or broken; another machine's is not."""

    code = "disk"
    retryable = True


class Unforeseen(InferenceError):
    """Something nobody thought of went wrong inside the analysis."""

    code = "internal"
    retryable = True


class ChildDied(InferenceError):
    """The analysis process ended without an answer. `exit_code` as the system gave it, negative for a signal."""

    code = "child_died"
    retryable = True

    def __init__(self, sentence: str, *, exit_code: int | None = None) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class ChildSilent(ChildDied):
    """The analysis process gave no sign of life for too long and was killed."""

    code = "child_silent"


class Cancelled(InferenceError):
    """The analysis was stopped because somebody asked for it."""

    code = "cancelled"

    def __init__(self, sentence: str = "The analysis was cancelled.") -> None:
        super().__init__(sentence)


def is_retryable(error: BaseException) -> bool:
    """Whether another try, perhaps on another machine, may do better.

    Yes: OutOfMemory, DeviceUnavailable, DiskFailed, ChildDied, ChildSilent, MemoryError, and any error we did not
    foresee (Unforeseen, when it happened in a child process).
    No: InputInvalid, ModelError and its kinds, Cancelled: the same again would end the same way.
    """
    return error.retryable if isinstance(error, InferenceError) else True
