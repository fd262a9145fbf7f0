"""What goes on with archives beside the requests: sending, fetching, watching, each archive by itself.

One thread looks every two seconds, or when the bell is rung, and gives the work to a few others. An archive has at most
one of each kind of work under way in a process, so that one which is down or slow keeps its own threads and no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

import structlog
from django.db import connections
from django.utils import timezone

from server.pacs import deliveries, pulls, services, watching
from server.pacs.archives import Opener, open_archive

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
THREADS = 8
RECENT = timedelta(minutes=10)
"""Longer than a transaction lasts between a mask's id and its commit."""
WHOLE_LOOK_SECONDS = 600.0
EVER = timedelta(days=365)

bell = threading.Event()
"""Set when there is something to do; by a request, or by a job's success."""


class Errands:
    """The thread that looks, and those that do. `start` once, `stop` once, then `join`."""

    def __init__(self, *, opener: Opener = open_archive) -> None:
        self._opener = opener
        self._stopping = threading.Event()
        self._under_way: dict[Hashable, Future[None]] = {}
        self._thread = threading.Thread(target=self._run, name="pacs", daemon=True)
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="pacs")
        self._whole_look_at = 0.0

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more; what is under way ends at its next step."""
        self._stopping.set()
        bell.set()

    def join(self, seconds: float) -> bool:
        """Wait until all threads have ended; whether they have."""
        until = time.monotonic() + seconds
        if self._thread.ident is not None:
            self._thread.join(seconds)
        for work in list(self._under_way.values()):
            try:
                work.result(max(0.0, until - time.monotonic()))
            except TimeoutError:
                return False
        return not self._thread.is_alive()

    def is_stopping(self) -> bool:
        """Whether whoever works for this shall end."""
        return self._stopping.is_set()

    def look(self) -> None:
        """One look: give out what is to be done."""
        now = time.monotonic()
        is_whole = now >= self._whole_look_at
        if is_whole:
            services.know_default()
            watching.forget()
            self._whole_look_at = now + WHOLE_LOOK_SECONDS
        deliveries.write_owed(since=timezone.now() - (EVER if is_whole else RECENT))
        given = {"opener": self._opener, "is_stopping": self.is_stopping}
        for server in deliveries.due_servers():
            self._give(("send", server.pk), lambda key=server.pk: deliveries.send_due(key, **given))
        for key in pulls.due_servers():
            self._give(("pull", key), lambda key=key: pulls.fetch_next(key, **given) and bell.set())
        for key in watching.due_servers():
            self._give(("watch", key), lambda key=key: watching.look(key, **given) and bell.set())
        watching.advance()

    def _run(self) -> None:
        while not self.is_stopping():
            bell.clear()
            try:
                self.look()
            except Exception:
                # A locked or absent database passes; archives must not be forgotten for it.
                log.exception("could not look what is to be done for the archives")
            finally:
                connections.close_all()
            bell.wait(LOOK_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _give(self, key: Hashable, work: Callable[[], object]) -> None:
        before = self._under_way.get(key)
        if (before is None or before.done()) and not self.is_stopping():
            self._under_way[key] = self._threads.submit(_guarded, work)


def _guarded(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:
        log.exception("work for an archive failed")
    finally:
        connections.close_all()
