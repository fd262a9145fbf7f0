"""How an analysis shows itself on a terminal: a moving bar where somebody watches, plain lines where a log does."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from inference.contract import Preview, Progress

WORDS = {
    "read": "Reading",
    "start": "Starting",
    "preprocess": "Preparing",
    "inference": "Searching",
    "postprocess": "Finishing",
    "write": "Writing",
    "fetch": "Fetching",
    "convert": "Converting",
}
_LINE_SHARE = 0.25


class Display:
    """Shows one stage after another. Use as a context; writes to `stream` only."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._stage = ""
        self._shown = -1.0
        self._bars: Bars | None = None
        self._bar: TaskID | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description:<10}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
            self._bars = self._open.enter_context(Bars(*columns, TimeElapsedColumn(), console=self._console))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def news(self, news: Progress | Preview) -> None:
        """What the analysis tells; previews are not for terminals."""
        if isinstance(news, Progress):
            self.show(str(news.stage), news.fraction)

    def show(self, stage: str, fraction: float) -> None:
        """The stage is this far, 0 to 1."""
        if self._bars is not None:
            self._move(self._bars, stage, fraction)
        elif stage != self._stage or fraction >= self._shown + _LINE_SHARE:
            self._console.print(f"{WORDS.get(stage, stage)} {fraction:.0%}", highlight=False)
            self._shown = fraction
        self._stage = stage

    def _move(self, bars: Bars, stage: str, fraction: float) -> None:
        if stage != self._stage or self._bar is None:
            if self._bar is not None:
                bars.update(self._bar, completed=1.0)
            self._bar = bars.add_task(WORDS.get(stage, stage), total=1.0)
        bars.update(self._bar, completed=fraction)
