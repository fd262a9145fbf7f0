"""How long a worker takes, and what that means for those who wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.contract import Stage
from server.core.pace import REMEMBERED, Pace, Service

FIRST = {Stage.FETCH: 2.0, Stage.INFERENCE: 10.0}


def test_the_first_job_is_the_pace():
    pace = Pace().after(FIRST)

    assert (pace.seconds, pace.jobs) == (12.0, 1)


def test_what_is_left_is_the_rest_of_this_stage_and_all_later_ones():
    pace = Pace().after(FIRST | {Stage.UPLOAD: 1.0})

    assert pace.left(Stage.FETCH, 0.5) == 12.0
    assert pace.left(Stage.PREPROCESS, 0.5) == 11.0
    assert pace.left(Stage.INFERENCE, 0.9) == pytest.approx(2.0)
    assert pace.left(Stage.UPLOAD, 1.0) == 0.0


def test_a_stage_that_a_job_did_not_show_keeps_what_was_known():
    pace = Pace().after(FIRST).after({Stage.INFERENCE: 20.0})

    assert pace.stages == {Stage.FETCH: 2.0, Stage.INFERENCE: 15.0}


@given(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=40))
def test_the_pace_lies_between_the_quickest_and_the_slowest(seconds):
    pace = Pace()
    for one in seconds:
        pace = pace.after({Stage.INFERENCE: one})

    assert min(seconds) - 1e-9 <= pace.seconds <= max(seconds) + 1e-9


def test_a_worker_that_got_a_faster_card_is_believed_within_some_jobs():
    pace = Pace()
    for _ in range(50):
        pace = pace.after({Stage.INFERENCE: 100.0})
    for _ in range(3 * REMEMBERED):
        pace = pace.after({Stage.INFERENCE: 10.0})

    assert pace.seconds < 15.0


@pytest.mark.parametrize(
    ("service", "place", "eta"),
    [
        (Service(slots=1, seconds_each=10.0), 1, 10.0),
        (Service(slots=1, seconds_each=10.0, seconds_begun=4.0), 1, 14.0),
        (Service(slots=1, seconds_each=10.0, seconds_begun=4.0), 3, 34.0),
        (Service(slots=2, seconds_each=10.0, seconds_begun=4.0), 3, 22.0),
        (Service(slots=0, seconds_each=10.0), 1, None),
        (Service(slots=1, seconds_each=None), 1, None),
    ],
)
def test_who_waits_learns_when_it_will_be_done(service, place, eta):
    assert service.eta(place) == eta
