"""Timing, progress, previews and cancelling, on a clock made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from inference.contract import Grid, Preview, Progress, Stage
from inference.errors import Cancelled
from inference.watch import Watch


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def preview() -> Preview:
    return Preview(labels=np.zeros((1, 1, 1), np.uint8), grid=Grid(shape=(1, 1, 1), affine=np.eye(4)))


def test_a_stage_is_timed_and_announced(clock):
    news: list[Progress | Preview] = []
    watch = Watch(news.append, clock=clock)

    def work(seconds: float) -> str:
        clock.seconds += seconds
        return "done"

    answer = watch.stage(Stage.INFERENCE, work, 4.0)

    assert answer == "done"
    assert watch.stage_seconds == {Stage.INFERENCE: 4.0}
    assert news == [Progress(Stage.INFERENCE, 0.0), Progress(Stage.INFERENCE, 1.0)]


def test_progress_is_passed_on_ten_times_a_second_and_never_runs_back(clock):
    news: list[Progress | Preview] = []
    watch = Watch(news.append, clock=clock)

    for fraction in (0.1, 0.2, 0.3, 0.25, 0.6):
        watch.advance(fraction)
        clock.seconds += 0.06

    assert [item.fraction for item in news] == [0.1, 0.3, 0.6]


def test_previews_are_made_twice_a_second_and_not_more_often(clock):
    made: list[int] = []
    watch = Watch(clock=clock)

    def make() -> Preview:
        made.append(1)
        return preview()

    for _ in range(10):
        watch.show(make)
        clock.seconds += 0.2

    assert len(made) == 4


def test_a_cancelled_analysis_does_not_begin_its_next_stage(clock):
    begun: list[int] = []
    watch = Watch(is_cancelled=lambda: True, clock=clock)

    with pytest.raises(Cancelled):
        watch.stage(Stage.PREPROCESS, begun.append, 1)

    assert begun == []


def test_a_cancelled_analysis_stops_at_its_next_step(clock):
    watch = Watch(is_cancelled=lambda: True, clock=clock)

    with pytest.raises(Cancelled):
        watch.advance(0.5)

    assert watch.stage_seconds == {}
