"""The finished answer to a job, as it lies in the outbox and is told to the server.

Flow: 7 progress
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

from worker_client.protocol.messages import GridSpec, JobFailed, JobResult, Kept, Metrics, ResultArtifact

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Key(NamedTuple):
    """One attempt at one job. The fence is what makes a late word of an older attempt harmless."""

    job: str
    fence: int

    @property
    def is_plain(self) -> bool:
        """Whether it can name a folder: letters, digits, hyphen and underscore only."""
        return _PLAIN.fullmatch(self.job) is not None


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """A mask that was computed: the facts of its packed file, and where the server wants it.

    `size`, `sha256` and `encoding` are those of the compressed file; `grid` is the mask's, RAS+ mm.
    `result_id` is made once, so that the server knows a repetition.
    """

    job: str
    fence: int
    epoch: str
    result_id: str
    upload_url: str
    size: int
    sha256: str
    encoding: Literal["zstd", "gzip"]
    grid: GridSpec
    metrics: Metrics

    @property
    def key(self) -> Key:
        """The attempt that this answers."""
        return Key(self.job, self.fence)

    def as_kept(self) -> Kept:
        """How `hello` lists it."""
        return Kept(job=self.job, fence=self.fence, kind="result", sha256=self.sha256, epoch=self.epoch)

    def as_message(self, *, artifact: str) -> JobResult:
        """What announces it, once the mask is on the server as `artifact`."""
        mask = ResultArtifact(
            role="mask",
            artifact=artifact,
            size=self.size,
            sha256=self.sha256,
            encoding=self.encoding,
            dtype="uint8",
            grid=self.grid,
        )
        return JobResult(
            job=self.job,
            fence=self.fence,
            epoch=self.epoch,
            result_id=self.result_id,
            artifacts=(mask,),
            metrics=self.metrics,
        )


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """Why there is no mask. `detail` is a sentence for the person and names no patient, path or token."""

    job: str
    fence: int
    epoch: str
    code: Literal["input_invalid", "oom", "model_error", "internal"]
    retryable: bool
    detail: str = ""

    @property
    def key(self) -> Key:
        """The attempt that this answers."""
        return Key(self.job, self.fence)

    def as_kept(self) -> Kept:
        """How `hello` lists it."""
        return Kept(job=self.job, fence=self.fence, kind="failed", epoch=self.epoch)

    def as_message(self) -> JobFailed:
        """What announces it."""
        return JobFailed(
            job=self.job,
            fence=self.fence,
            epoch=self.epoch,
            code=self.code,
            retryable=self.retryable,
            detail=self.detail,
        )


Answer = Result | Failure
