"""The same question asked by many sockets at once is read once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Question:
    """One question with the newest answer. Whoever waits for the lock may find that somebody else has read."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: int = 0
    read_at: int = -1
    answer: Any = None


class SharedReads:
    """Nobody gets an answer that was read before the question was asked, so no change in between is missed."""

    def __init__(self) -> None:
        self._ticks = itertools.count()
        self._questions: dict[Hashable, _Question] = {}

    async def ask(self, key: Hashable, read: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of `read`, our own or that of somebody who began to read after we had asked."""
        asked_at = next(self._ticks)
        question = self._questions.setdefault(key, _Question())
        question.asking += 1
        try:
            async with question.lock:
                if question.read_at < asked_at:
                    started_at = next(self._ticks)
                    question.answer = await read()
                    question.read_at = started_at
                return question.answer
        finally:
            question.asking -= 1
            if not question.asking:
                self._questions.pop(key, None)
