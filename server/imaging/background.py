"""Work that a request starts and does not wait for. It may die with the process; rows say what has to be done again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from django.db import connections

log = structlog.get_logger(__name__)


def start(work: Callable[[], None], *, name: str) -> None:
    """Run `work` in a thread that does not keep the process from ending."""
    threading.Thread(target=_run, args=(work, name), name=name, daemon=True).start()


def _run(work: Callable[[], None], name: str) -> None:
    try:
        work()
    except Exception:
        log.exception("work in the background failed", work=name)
        raise
    finally:
        connections.close_all()
