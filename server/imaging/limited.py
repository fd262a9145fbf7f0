"""Starting the parser child and hearing its answer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from tempfile import TemporaryFile
from typing import IO

import msgspec
import structlog
from django.conf import settings

from server.imaging import disk
from server.imaging.errors import StorageFailed
from server.imaging.parser.orders import Answer, Bounds, Order, ProveOrder, ReadOrder, Unwritten

log = structlog.get_logger(__name__)

_AT_ONCE = {ReadOrder: threading.BoundedSemaphore(2), ProveOrder: threading.BoundedSemaphore(2)}
"""Children at a time; results do not wait for uploads."""
_ANSWER_BYTES = 64 << 20
_COMPLAINT_BYTES = 4096


class ParserDied(Exception):
    """The child ended without an answer: out of memory or time, or it met bytes that nobody foresaw."""


def bounds() -> Bounds:
    """What a child may use, from the settings."""
    limits = settings.LIMITS
    return Bounds(
        memory_bytes=limits.parser_memory_bytes,
        cpu_seconds=limits.parser_cpu_seconds,
        file_bytes=limits.upload_bytes,
        archive_members=limits.archive_members,
        archive_ratio=limits.archive_ratio,
        archive_bytes=limits.upload_bytes,
    )


def run(order: Order) -> Answer:
    """Have one order done by a fresh child; blocks until it has answered or was killed.

    The child gets no environment but what Python needs, so no secret of the server.

    Raises:
        ParserDied: there is no answer.
        StorageFull, StorageFailed: the child could not write.
    """
    with _AT_ONCE[type(order)], TemporaryFile() as out, TemporaryFile() as complaints:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "server.imaging.parser"],
                input=msgspec.json.encode(order),
                stdout=out,
                stderr=complaints,
                timeout=settings.LIMITS.parser_seconds,
                cwd=settings.BASE_DIR,
                env=_bare_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ParserDied("time") from error
        if done.returncode != 0:
            cause = _cause(_read(complaints, from_end=True))
            log.warning("the parser child died", exit_code=done.returncode, cause=cause)
            raise ParserDied(cause)
        answer = _read(out)
    try:
        found = msgspec.json.decode(answer, type=Answer)
    except msgspec.MsgspecError as error:
        raise ParserDied("answer") from error
    return heard(found)


def heard(answer: Answer) -> Answer:
    """The answer, unless it is that the disk failed.

    Raises:
        StorageFull, StorageFailed.
    """
    if isinstance(answer, Unwritten):
        raise disk.problem_of(answer.number) or StorageFailed()
    return answer


def _read(file: IO[bytes], *, from_end: bool = False) -> bytes:
    """What a child has written, but never more than an answer may have."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _COMPLAINT_BYTES) if from_end else 0)
    return file.read(_ANSWER_BYTES)


def _cause(complaints: bytes) -> str:
    """The exception's name from the last line of a traceback; its message may hold a patient's data."""
    last = complaints.decode(errors="replace").strip().rpartition("\n")[2]
    return last.partition(":")[0][:80]


def _bare_environment() -> dict[str, str]:
    # One BLAS thread: each would reserve address space that the memory fence counts.
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
