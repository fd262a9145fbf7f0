"""A topic's log: no gaps, one epoch, and pokes that never break anything."""

from __future__ import annotations

import asyncio

import pytest
from channels.layers import get_channel_layer
from django.db import transaction

from server.topics import pokes, selectors, services, sockets
from server.topics.models import TopicEvent


@pytest.mark.django_db
def test_events_are_numbered_without_a_gap() -> None:
    numbers = [services.append("study:a", kind="series.added", payload={"n": n}) for n in range(3)]
    other = services.append("study:b", kind="series.added", payload={})

    assert (numbers, other) == ([1, 2, 3], 1)
    assert [event.payload["n"] for event in selectors.events_since("study:a", 1)] == [1, 2]
    assert selectors.position("study:a")[1] == 3


@pytest.mark.django_db
def test_a_topic_keeps_its_epoch_and_another_has_its_own() -> None:
    services.append("workers", kind="connected", payload={})
    first = selectors.position("workers")[0]
    services.append("workers", kind="connected", payload={})
    services.append("study:a", kind="series.added", payload={})

    assert selectors.position("workers")[0] == first
    assert selectors.position("study:a")[0] != first
    assert selectors.position("study:unknown") == ("", 0)


@pytest.mark.django_db
def test_a_change_that_is_rolled_back_leaves_no_event() -> None:
    with transaction.atomic():
        services.append("workers", kind="connected", payload={})
        transaction.set_rollback(True)

    assert not TopicEvent.objects.exists()


async def test_a_poke_wakes_the_group() -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(pokes.group_of("study:a"), channel)

    await pokes.apoke("study:a", seq=4)

    assert await layer.receive(channel) == {"type": "topic.poke", "topic": "study:a", "seq": 4}


async def test_a_layer_that_is_away_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis restarts: the first publish raises, and a request must not answer 500 because of it."""

    class Away:
        async def group_send(self, group: str, message: dict) -> None:
            raise ConnectionError

    monkeypatch.setattr(pokes, "get_channel_layer", Away)

    await pokes.apoke("study:a", seq=1)


async def test_everybody_is_told_goodbye_and_nobody_is_waited_for_long() -> None:
    class Polite:
        said = False

        async def farewell(self) -> None:
            self.said = True

    class Stuck:
        async def farewell(self) -> None:
            await asyncio.Event().wait()

    polite, stuck = Polite(), Stuck()
    sockets.live_sockets.update((polite, stuck))

    told = await sockets.farewell_to_all(within_seconds=0.05)

    assert (told, polite.said) == (2, True)
