"""How often: a window that slides, failures that cost more each time, and a cache that may be away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.redis import RedisCache

from server.accounts import throttle
from server.accounts.errors import TooMany
from server.config import backends
from tests.system.services import redis_server


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The limits' clock and the cache's: one and the same."""
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    return clock


class Absent:
    """A cache whose server is gone."""

    def __init__(self) -> None:
        self.asked = 0

    def __getattr__(self, _: str) -> Any:
        def fails(*_: Any, **__: Any) -> None:
            self.asked += 1
            raise ConnectionError

        return fails


def spent(times: int, *, subject: str = "7", per_minute: int = 60) -> int:
    """How many of so many were allowed."""
    allowed = 0
    for _ in range(times):
        try:
            throttle.spend("segment", subject, per_minute=per_minute)
        except TooMany:
            continue
        allowed += 1
    return allowed


def test_sixty_a_minute_are_allowed_and_no_more(clock: Clock) -> None:
    assert spent(100) == 60


def test_one_user_does_not_use_up_anothers(clock: Clock) -> None:
    spent(60)

    assert spent(1, subject="8") == 1


def test_the_end_of_a_minute_does_not_double_the_allowance(clock: Clock) -> None:
    clock.now += 59
    spent(60)

    clock.now += 2
    assert spent(60) == 1
    clock.now += 30
    assert 25 <= spent(60) <= 32


def test_who_waits_as_told_is_served(clock: Clock) -> None:
    spent(60)
    with pytest.raises(TooMany) as refused:
        throttle.spend("segment", "7", per_minute=60)

    clock.now += refused.value.retry_after_seconds

    assert spent(1) == 1


def failed_until_refused(clock: Clock, address: str) -> float:
    """Fail until there is a wait, and answer its length."""
    for _ in range(5):
        throttle.check_failures("enrol", address)
        throttle.failed("enrol", address)
    with pytest.raises(TooMany) as refused:
        throttle.check_failures("enrol", address)
    return refused.value.retry_after_seconds


def test_each_round_of_failures_doubles_the_wait_up_to_an_hour(clock: Clock) -> None:
    waits = []
    for _ in range(8):
        waits.append(failed_until_refused(clock, "198.51.100.1"))
        clock.now += waits[-1]

    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_a_neighbour_is_not_made_to_wait(clock: Clock) -> None:
    failed_until_refused(clock, "198.51.100.1")

    throttle.check_failures("enrol", "198.51.100.2")
    throttle.check_failures("bearer", "198.51.100.1")


def test_another_ipv6_address_of_the_same_host_waits_too(clock: Clock) -> None:
    failed_until_refused(clock, "2001:db8::1")

    with pytest.raises(TooMany):
        throttle.check_failures("enrol", "2001:db8::2")


def test_without_its_cache_nobody_is_refused_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Absent()
    monkeypatch.setattr(throttle, "cache", absent)
    monkeypatch.setattr(throttle, "_away_until", 0.0)

    assert spent(100, per_minute=1) == 100
    throttle.failed("enrol", "198.51.100.1")
    throttle.check_failures("enrol", "198.51.100.1")

    assert absent.asked == 1
    monkeypatch.setattr(throttle, "_away_until", 0.0)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a connection to a server that is gone
def test_several_servers_count_together_and_a_click_survives_the_loss_of_their_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with redis_server(tmp_path) as redis:
        params = backends.cache(redis.url)
        first, second = (RedisCache(params["LOCATION"], params) for _ in range(2))
        allowed = 0
        for server in (first, second) * 5:
            monkeypatch.setattr(throttle, "cache", server)
            allowed += spent(1, per_minute=6)
        redis.stop()
        alone = spent(10, per_minute=6)

    monkeypatch.setattr(throttle, "_away_until", 0.0)
    assert (allowed, alone) == (6, 10)
