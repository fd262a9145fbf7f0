"""Starting the parser child and hearing its answer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import msgspec
import structlog
from django.conf import settings

from server.imaging.parser.orders import Answer, Bounds, Order

log = structlog.get_logger(__name__)

_AT_ONCE = threading.BoundedSemaphore(2)
_ANSWER_BYTES = 64 << 20


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

    At most two run at a time. The child gets no environment but what Python needs, so no secret of the server.

    Raises:
        ParserDied: there is no answer.
    """
    with _AT_ONCE:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "server.imaging.parser"],
                input=msgspec.json.encode(order),
                capture_output=True,
                timeout=settings.LIMITS.parser_seconds,
                cwd=settings.BASE_DIR,
                env=_bare_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ParserDied("time") from error
    if done.returncode != 0 or len(done.stdout) > _ANSWER_BYTES:
        # The last line of a traceback names the exception; its message may hold a patient's data.
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2].partition(":")[0]
        log.warning("the parser child died", exit_code=done.returncode, cause=last[:80])
        raise ParserDied(last)
    try:
        return msgspec.json.decode(done.stdout, type=Answer)
    except msgspec.MsgspecError as error:
        raise ParserDied("answer") from error


def _bare_environment() -> dict[str, str]:
    # One BLAS thread: each would reserve address space that the memory fence counts.
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
