"""Who looks over the shoulder of an analysis: times its stages, passes on its progress, and may stop it.

Flow: 7 progress
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from inference.contract import Preview, Progress, Stage
from inference.errors import Cancelled

P = ParamSpec("P")
T = TypeVar("T")

PROGRESS_SECONDS = 0.1
"""Progress is passed on at most this often; the browser cannot show more."""
PREVIEW_SECONDS = 0.5


def _ignore(_news: Progress | Preview) -> None:
    """For an analysis nobody watches."""


def _never() -> bool:
    return False


class Watch:
    """Passed down through one analysis. `news` gets Progress and Preview values, from any of its threads."""

    def __init__(
        self,
        news: Callable[[Progress | Preview], None] = _ignore,
        *,
        is_cancelled: Callable[[], bool] = _never,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stage_seconds: dict[Stage, float] = {}
        self._news = news
        self._is_cancelled = is_cancelled
        self._clock = clock
        self._stage = Stage.PREPROCESS
        self._fraction = 0.0
        self._progress_due = self._preview_due = float("-inf")
        self._lock = threading.Lock()

    def stage(self, stage: Stage, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` as `stage`: timed, announced at 0 and at 1. Raises Cancelled instead of starting if stopped."""
        self.check()
        started = self._clock()
        with self._lock:
            self._stage, self._fraction = stage, 0.0
            self._news(Progress(stage=stage, fraction=0.0))
        done = work(*args, **kwargs)
        with self._lock:
            self.stage_seconds[stage], self._fraction = self._clock() - started, 1.0
            self._news(Progress(stage=stage, fraction=1.0))
        return done

    def advance(self, fraction: float, *, eta_seconds: float | None = None) -> None:
        """The stage is this far, 0 to 1. Never runs backwards. Raises Cancelled if the analysis was stopped."""
        self.check()
        self.expect(fraction, eta_seconds=eta_seconds)

    def expect(self, fraction: float, *, eta_seconds: float | None = None) -> None:
        """Like `advance`, from another thread than the analysis's, which alone may be stopped."""
        with self._lock:
            now = self._clock()
            if fraction <= self._fraction or now < self._progress_due:
                return
            self._fraction, self._progress_due = min(fraction, 1.0), now + PROGRESS_SECONDS
            self._news(Progress(stage=self._stage, fraction=self._fraction, eta_seconds=eta_seconds))

    def show(self, preview: Callable[[], Preview]) -> None:
        """Pass a preview on, at most twice a second; `preview` makes it, and is called only when it will be shown."""
        now = self._clock()
        if now >= self._preview_due:
            self._preview_due = now + PREVIEW_SECONDS
            self._news(preview())

    def check(self) -> None:
        """Raises Cancelled if the analysis was stopped."""
        if self._is_cancelled():
            raise Cancelled

    def now(self) -> float:
        """Seconds on the clock the stages are timed by."""
        return self._clock()
