"""The life of one server process: the tasks beside the web server, and an orderly end."""

from __future__ import annotations

import asyncio
import signal
from typing import Protocol

import structlog

from server.dispatch import clock
from server.launcher.local_worker import STOP_SECONDS, LocalWorker
from server.pacs.loop import Errands
from server.topics.sockets import farewell_to_all

log = structlog.get_logger(__name__)

FAREWELL_SECONDS = 5.0
ANSWER_SECONDS = 5.0
LOOK_SECONDS = 0.05
ERRANDS_SECONDS = 2.0
BACKGROUND_SECONDS = STOP_SECONDS + 2.0  # the own worker is ended, by force if need be, before the server is gone


class Web(Protocol):
    """The web server, as far as its end is concerned."""

    def stop_listening(self) -> None:
        """Take no new connection."""

    def unfinished(self) -> int:
        """How many requests have not been answered yet."""

    def stop(self) -> None:
        """End at once."""


class Life:
    """Starts the dispatcher's clock and the own worker with the loop, and ends them in order on a signal."""

    def __init__(self, *, local_worker: LocalWorker, web: Web, errands: Errands | None = None) -> None:
        self.local_worker = local_worker
        self.web = web
        self.errands = errands or Errands()
        self.stopping = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self.is_broken = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call on the loop's thread before it runs."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._on_signal, loop))
        work = clock.run(stop=self.stopping, on_server_job=self.local_worker.want)
        self.tasks = [loop.create_task(work), loop.create_task(self.local_worker.keep(self.stopping))]
        self.tasks[0].add_done_callback(self._on_clock_end)
        self.errands.start()

    def _on_clock_end(self, task: asyncio.Task[None]) -> None:
        if not self.stopping.is_set() and not task.cancelled():
            self.is_broken = True
            cause = task.exception()
            log.critical("the dispatcher has stopped; the server ends so that it is started again", exc_info=cause)
            self._on_signal(task.get_loop())

    def _on_signal(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.stopping.is_set():
            return
        self.stopping.set()
        self._end = loop.create_task(self._wind_down())

    async def _wind_down(self) -> None:
        """Everybody is told to come back; running jobs keep running on the workers."""
        try:
            # First: who is sent away and comes back at once must find another server, or this one's successor.
            self.web.stop_listening()
            self.errands.stop()
            said = await farewell_to_all(within_seconds=FAREWELL_SECONDS)
            log.info("said goodbye to the connected sockets", sockets=said)
            await self._answer_requests()
            await asyncio.wait(self.tasks, timeout=BACKGROUND_SECONDS)
            if not await asyncio.to_thread(self.errands.join, ERRANDS_SECONDS):
                log.info("what is under way for the archives is done once more later")
        finally:
            self.web.stop()

    async def _answer_requests(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while self.web.unfinished():  # noqa: ASYNC110  (the web server tells nobody when it has answered)
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            log.info("some requests were not answered", requests=self.web.unfinished())
