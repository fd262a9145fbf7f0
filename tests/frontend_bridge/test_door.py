"""Who comes without a session: one ticket, in time, and short."""

import json

import pytest

from frontend_bridge.door import Door
from frontend_bridge.ports import Farewell, Rhythm

QUICK = Rhythm(sign_in_seconds=0.01)
TICKET = json.dumps({"t": "auth", "ticket": "segt_abc"})


async def test_the_first_frame_shows_the_ticket():
    door = Door(QUICK)
    door.take_frame(TICKET)

    assert await door.ticket(()) == "segt_abc"


async def test_a_subprotocol_may_show_it_too():
    assert await Door(QUICK).ticket(("seg.browser.v1", "seg.bearer.segt_abc")) == "segt_abc"


async def test_what_is_said_behind_the_ticket_waits_in_order():
    door = Door(QUICK)
    for text in (TICKET, "one", "two"):
        door.take_frame(text)

    await door.ticket(())

    assert door.held() == ["one", "two"]


async def test_silence_ends_in_a_word():
    with pytest.raises(Farewell) as parting:
        await Door(QUICK).ticket(())

    assert parting.value.bye.code == 4501
    assert parting.value.error.code == "unauthenticated"


@pytest.mark.parametrize(
    ("text", "code", "error"),
    [
        ('{"t":"sub","topic":"workers"}', 4501, "unauthenticated"),
        ('{"t":"ping"}', 4501, "unauthenticated"),
        ("nonsense", 4501, "unauthenticated"),
        ("[" * 4000, 4501, "unauthenticated"),
        (None, 4503, None),
        (json.dumps({"t": "auth", "ticket": "x" * 4096}), 4503, None),
        (json.dumps({"t": "auth", "ticket": "한" * 1400}, ensure_ascii=False), 4503, None),
    ],
)
async def test_anything_else_ends_it(text, code, error):
    door = Door(QUICK)
    door.take_frame(text)

    with pytest.raises(Farewell) as parting:
        await door.ticket(())

    assert (parting.value.bye.code, parting.value.bye.reconnect) == (code, False)
    assert getattr(parting.value.error, "code", None) == error


@pytest.mark.parametrize("flood", [["x"] * 100, ["x" * 60_000] * 2, [None]])
async def test_nobody_unknown_fills_the_memory(flood):
    door = Door(Rhythm())
    door.take_frame(TICKET)
    for text in flood:
        door.take_frame(text)

    with pytest.raises(Farewell):
        door.held()
