"""A token bucket lets a burst through and then a steady trickle."""

from server.core.bucket import Bucket


def _allowed(bucket: Bucket, times: list[float]) -> list[bool]:
    answers = []
    for at in times:
        bucket, is_allowed = bucket.take(at)
        answers.append(is_allowed)
    return answers


def test_a_burst_passes_and_the_next_one_waits_its_turn() -> None:
    bucket = Bucket.full(per_second=2.0, burst=3, at=0.0)

    assert _allowed(bucket, [0.0, 0.0, 0.0, 0.0, 0.5, 0.5]) == [True, True, True, False, True, False]


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    bucket = Bucket.full(per_second=1.0, burst=1, at=10.0)

    assert _allowed(bucket, [10.0, 5.0, 10.5, 11.0]) == [True, False, False, True]
