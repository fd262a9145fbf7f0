"""A stage's fraction as a fraction of the whole job."""

import pytest

from inference.contract import Stage
from server.core.progress import STAGE_SHARES, overall


def test_the_shares_are_a_whole_and_name_every_stage_in_order():
    assert sum(STAGE_SHARES.values()) == pytest.approx(1.0)
    assert list(STAGE_SHARES) == list(Stage)


def test_one_stage_ends_where_the_next_begins():
    ends = [overall(stage, 1.0) for stage in Stage]
    begins = [overall(stage, 0.0) for stage in Stage]

    assert ends[:-1] == begins[1:]


def test_only_a_stored_result_is_all_of_it():
    assert overall(Stage.UPLOAD, 1.0) < 1.0
