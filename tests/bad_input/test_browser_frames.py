"""Every broken frame of a browser is answered with its code, and nobody else notices."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.bad_input.browser_frames import Case, cases
from tests.frontend_bridge.fakes import Socket
from tests.frontend_bridge.sockets import connected, heard, in_thread, says
from tests.server.shelf import a_user

ALL = list(cases())
ENDING = [case for case in ALL if case.bye]
GOING_ON = [case for case in ALL if not case.bye]


@pytest.mark.parametrize("case", GOING_ON, ids=lambda case: case.name)
async def test_a_broken_frame_has_its_code_and_costs_the_socket_nothing(case: Case):
    async with Socket() as socket:
        socket.library.allowed = set()
        socket.conversation.take_frame(case.text)
        answer = await socket.served()
        pong = await socket.says(t="ping", ts=1)

    assert [(frame["t"], frame["code"]) for frame in answer] == [("error", case.error)]
    assert len(json.dumps(answer)) < 4096, "an answer does not grow with the question"
    assert pong == [{"t": "pong", "ts": 1.0}]


@pytest.mark.parametrize("case", ENDING, ids=lambda case: case.name)
async def test_what_no_page_sends_ends_the_socket(case: Case):
    async with Socket() as socket:
        socket.conversation.take_frame(case.text)
        bye = await socket.parted()

    assert (bye.code, bye.reconnect) == (case.bye, False)


@pytest.mark.django_db(transaction=True)
async def test_on_the_real_application_a_neighbour_notices_nothing(settings):
    """The whole corpus over the real application, and after each frame the neighbour is answered as before."""
    settings.LIMITS = replace(settings.LIMITS, socket_messages_burst=1000)
    vandal, neighbour = await in_thread(a_user)("vandal"), await in_thread(a_user)("neighbour")
    wrong: list[tuple[str, Any]] = []
    async with connected(neighbour) as good:
        async with connected(vandal) as bad:
            for case in GOING_ON:
                await bad.send_input({"type": "websocket.receive", "text": case.text})
                (answer,) = await heard(bad, None)
                if answer.get("code") != case.error:
                    wrong.append((case.name, answer))
        for case in ENDING:
            async with connected(vandal) as bad:
                await bad.send_input({"type": "websocket.receive", "text": case.text})
                answers = await heard(bad, "close")
                if [answer["code"] for answer in answers] != [case.bye, case.bye]:
                    wrong.append((case.name, answers))
        await says(good, t="ping", ts=3)
        (pong,) = await heard(good, None)

    assert wrong == []
    assert pong == {"t": "pong", "ts": 3.0}
