"""One job at a time per slot: fetch the inputs, let the child process compute, hand over the mask's file.

Flow: 6 run
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from inference.contract import Order, Outcome, Preview, Progress
from inference.errors import Cancelled, InferenceError, InputInvalid
from worker_client.answers import Failure, Key, Result
from worker_client.cache import Cache
from worker_client.errors import LeaseGone, TransferError
from worker_client.patience import DataToken
from worker_client.protocol.messages import InputArtifact, JobOffer, JobPreview
from worker_client.transfer import Transfer
from worker_client.translate import failure_of, key_of, order_of, preview_of, result_of

logger = logging.getLogger(__name__)

CANCEL_AGAIN_SECONDS = 1.0
CLOSE_AGAIN_SECONDS = 0.1

News = Progress | Preview


class Box(Protocol):
    """The parent's handle of one child process with a warm model: inference.isolate.Sandbox. Every call blocks."""

    @property
    def alive(self) -> bool:
        """Whether the child is there."""

    @property
    def device(self) -> str:
        """What the child computes on, once it has started."""

    def start(self) -> None:
        """Start the child."""

    def segment(self, order: Order, on_news: Callable[[News], None]) -> Outcome:
        """Do one analysis; `on_news` is called from this thread. Starts the child if there is none."""

    def cancel(self, grace_seconds: float) -> None:
        """End the analysis from another thread, killing the child after `grace_seconds`."""

    def close(self) -> None:
        """End the child."""


class Audience(Protocol):
    """Who hears how a job gets on; called on the event loop."""

    def heard(self, key: Key, news: Progress | JobPreview) -> None:
        """Something new about a job."""

    def fetched(self, key: Key, *, fraction: float) -> None:
        """How much of the inputs is here, 0 to 1."""


@dataclass(frozen=True)
class Computed:
    """A result whose packed mask lies at `mask`, to be moved into the outbox."""

    result: Result
    mask: Path


@dataclass
class _Active:
    is_halted: bool = False
    fetching: asyncio.Task[dict[str, Path]] | None = None
    box: Box | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Runner:
    """The slots of this worker. `new_id` makes result ids; `artifact_max` caps the size of one input."""

    def __init__(
        self,
        boxes: tuple[Box, ...],
        *,
        transfer: Transfer,
        cache: Cache,
        work: Path,
        new_id: Callable[[], str],
        artifact_max: int = 256 << 20,
    ) -> None:
        self._boxes = boxes
        self._transfer = transfer
        self._cache = cache
        self._work = work
        self._new_id = new_id
        self._artifact_max = artifact_max
        self._free: asyncio.Queue[Box] = asyncio.Queue()
        for box in boxes:
            self._free.put_nowait(box)
        self._active: dict[Key, _Active] = {}
        self._warming: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._threads = 0
        self._threads_changed = threading.Condition()

    def clean(self) -> None:
        """Remove what a crash left in the work folder. Blocks."""
        for leftover in self._work.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)

    def tidy(self, key: Key) -> None:
        """Remove what a job left in the work folder. Blocks."""
        shutil.rmtree(self._folder(key), ignore_errors=True)

    def warm(self) -> None:
        """Start the child processes, so that the first job does not wait for them. Blocks."""
        with self._at_work():
            for box in self._boxes:
                box.start()

    def close(self) -> None:
        """End the child processes, those too that a thread is starting at this very moment. Blocks."""
        self._is_closed = True
        while True:
            for box in self._boxes:
                box.close()
            with self._threads_changed:
                if self._threads_changed.wait_for(lambda: self._threads == 0, timeout=CLOSE_AGAIN_SECONDS):
                    return

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """A thread uses a child process. Raises Cancelled once everything is closed."""
        with self._threads_changed:
            self._threads += 1
        try:
            if self._is_closed:
                raise Cancelled
            yield
        finally:
            with self._threads_changed:
                self._threads -= 1
                self._threads_changed.notify_all()

    async def run(self, offer: JobOffer, *, token: DataToken, audience: Audience) -> Computed | Failure | None:
        """Do a job: its mask, why there is none, or None when it was halted."""
        key = key_of(offer)
        active = self._active[key] = _Active()
        try:
            return await self._run(offer, active, token=token, audience=audience)
        except (LeaseGone, Cancelled):
            return None
        except Exception as error:  # whatever breaks one job must be told to the server, not end the worker
            if active.is_halted:
                return None
            is_foreseen = isinstance(error, InferenceError | TransferError)
            cause = None if is_foreseen else error
            logger.warning("A job failed: %s", type(error).__name__, extra=key._asdict(), exc_info=cause)
            return failure_of(offer, error)
        finally:
            active.over.set()
            del self._active[key]

    async def halt(self, key: Key, *, grace_seconds: float) -> None:
        """End a job without an answer; returns when it has ended. The child is killed if it does not listen."""
        active = self._active.get(key)
        if active is None:
            return
        active.is_halted = True
        if active.fetching is not None:
            active.fetching.cancel()
        while not active.over.is_set():
            # Said again: the analysis may begin in its thread a moment after the first word.
            if active.box is not None:
                await asyncio.to_thread(active.box.cancel, grace_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_AGAIN_SECONDS):
                    await active.over.wait()

    async def _run(self, offer: JobOffer, active: _Active, *, token: DataToken, audience: Audience) -> Computed | None:
        self._check(offer)
        with self._cache.in_use([item.sha256 for item in offer.inputs]):
            active.fetching = asyncio.create_task(self._fetch(offer, token=token, audience=audience))
            try:
                files = await active.fetching
            except asyncio.CancelledError:
                if not active.is_halted:
                    raise
                return None
            folder = self._folder(key_of(offer))
            folder.mkdir(exist_ok=True)
            order = order_of(offer, files=files, output=folder / "mask.packed")
            computed = await self._compute(order, active, key=key_of(offer), audience=audience)
        if computed is None:
            return None
        outcome, device = computed
        return Computed(result_of(offer, outcome, result_id=self._new_id(), device=device), mask=order.output)

    def _folder(self, key: Key) -> Path:
        return self._work / f"{key.job}.{key.fence}"

    def _check(self, offer: JobOffer) -> None:
        roles = [item.role for item in offer.inputs]
        if len(set(roles)) != len(roles) or not roles:
            raise InputInvalid("sequence_missing", "The offer does not name each sequence once.")
        if any(not 0 < item.size <= self._artifact_max for item in offer.inputs):
            raise InputInvalid("too_large", "An input is larger than this worker takes.")

    async def _fetch(self, offer: JobOffer, *, token: DataToken, audience: Audience) -> dict[str, Path]:
        items = {item.sha256: item for item in offer.inputs}
        total = sum(item.size for item in items.values())
        came = 0

        def count(more: int) -> None:
            nonlocal came
            came += more
            audience.fetched(key_of(offer), fraction=came / total)

        async def fetch(item: InputArtifact) -> Path:
            return await self._transfer.fetch(item, token=token, count=count)

        count(0)
        tasks: dict[str, asyncio.Task[Path]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {sha256: group.create_task(fetch(item)) for sha256, item in items.items()}
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return {sha256: task.result() for sha256, task in tasks.items()}

    async def _compute(
        self, order: Order, active: _Active, *, key: Key, audience: Audience
    ) -> tuple[Outcome, str] | None:
        loop = asyncio.get_running_loop()

        def on_news(news: News) -> None:
            light = preview_of(key, news) if isinstance(news, Preview) else news
            loop.call_soon_threadsafe(audience.heard, key, light)

        def segment(box: Box) -> Outcome:
            with self._at_work():
                return box.segment(order, on_news)

        box = await self._free.get()
        try:
            if active.is_halted:
                return None
            active.box = box
            return await asyncio.to_thread(segment, box), box.device
        finally:
            active.box = None
            self._give_back(box)

    def _give_back(self, box: Box) -> None:
        """The box is free for the next job; one whose child was killed is warmed first, beside whatever goes on."""
        if box.alive or self._is_closed:
            self._free.put_nowait(box)
            return
        warming = asyncio.create_task(self._warm_again(box))
        self._warming.add(warming)
        warming.add_done_callback(self._warming.discard)

    async def _warm_again(self, box: Box) -> None:
        def start() -> None:
            with self._at_work():
                box.start()

        try:
            await asyncio.to_thread(start)
        except (InferenceError, OSError) as error:
            logger.warning("An analysis process could not be started anew; the next job tries", exc_info=error)
        finally:
            self._free.put_nowait(box)
