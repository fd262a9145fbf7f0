"""Tickets on the real application: a socket without a cookie, from any page, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from server.accounts import tickets
from server.accounts.models import ApiToken, Ticket
from server.accounts.services import issue_api_token
from server.topics.sockets import lobby
from tests.frontend_bridge.sockets import connected, follow, heard, in_thread, says
from tests.server.shelf import a_study, a_user

pytestmark = pytest.mark.django_db(transaction=True)

ELSEWHERE = "https://viewer.elsewhere.example"


@pytest.fixture
def doctor() -> User:
    return a_user("doctor")


@pytest.fixture
def browser(doctor: User) -> Client:
    """The doctor, signed in over HTTP."""
    client = Client()
    client.force_login(doctor)
    return client


@pytest.fixture
def ticket(doctor: User, browser: Client) -> str:
    return tickets.issue(doctor, session_key=browser.session.session_key)


def a_program(user: User) -> tuple[ApiToken, str]:
    """A program's token, and a ticket it has asked for."""
    token = issue_api_token(user=user)
    answer = Client().post("/api/ws-ticket/", headers={"authorization": f"Bearer {token}"})
    return ApiToken.objects.get(user=user), answer.json()["ticket"]


@pytest.mark.parametrize("origin", [ELSEWHERE, "null", None])
async def test_a_ticket_signs_in_from_any_page_without_a_cookie(doctor, ticket, origin):
    study = await in_thread(a_study)(doctor)
    async with connected(origin=origin) as socket:
        await says(socket, t="auth", ticket=ticket)
        start = await follow(socket, f"study:{study.pk}")

    assert start["snapshot"]["id"] == study.pk


async def test_a_ticket_in_the_subprotocol_signs_in_and_an_offered_protocol_is_chosen(ticket):
    async with connected(origin=ELSEWHERE, subprotocols=["seg.browser.v1", f"seg.bearer.{ticket}"]) as socket:
        await says(socket, t="ping", ts=1)
        (pong,) = await heard(socket, "pong")

    assert pong["ts"] == 1


async def test_a_foreign_page_uses_the_ticket_and_never_the_cookie(ticket):
    """The cookie of another user comes along by itself; what counts is whose ticket it is."""
    other = await in_thread(a_user)("other", is_staff=True)
    async with connected(other, origin=ELSEWHERE) as socket:
        await says(socket, t="auth", ticket=ticket)
        await says(socket, t="sub", topic="workers")
        (error,) = await heard(socket, "error")

    assert error["code"] == "not_allowed"


async def _use(ticket: str) -> None:
    async with connected() as socket:
        await says(socket, t="auth", ticket=ticket)
        await says(socket, t="ping")
        await heard(socket, "pong")


async def _let_run_out(_: str) -> None:
    await in_thread(Ticket.objects.update)(expires_at=timezone.now() - timedelta(seconds=1))


async def _deactivate(_: str) -> None:
    await in_thread(User.objects.update)(is_active=False)


async def _nothing(_: str) -> None:
    return


@pytest.mark.parametrize(
    ("before", "shown"),
    [
        (_use, lambda ticket: ticket),
        (_let_run_out, lambda ticket: ticket),
        (_deactivate, lambda ticket: ticket),
        (_nothing, lambda _: "segt_guessed"),
        (_nothing, lambda _: ""),
        (_nothing, lambda ticket: ticket.upper()),
    ],
    ids=["used", "too old", "inactive user", "guessed", "empty", "other case"],
)
async def test_a_ticket_that_is_not_good_ends_the_socket(ticket, before, shown: Callable[[str], str]):
    await before(ticket)
    async with connected() as socket:
        await says(socket, t="auth", ticket=shown(ticket))
        await says(socket, t="sub", topic="workers")
        frames = await heard(socket, "close")

    assert [frame["t"] for frame in frames] == ["error", "bye", "close"]
    assert frames[0]["code"] == "ticket_invalid"
    assert (frames[1]["code"], frames[1]["reconnect"], frames[2]["code"]) == (4501, False, 4501)


async def test_of_two_sockets_with_one_ticket_one_is_let_in(ticket):
    async with connected() as one, connected() as other:
        for socket in (one, other):
            await says(socket, t="auth", ticket=ticket)
            await says(socket, t="ping")
        ends = await asyncio.gather(*(heard(socket, until) for socket, until in ((one, None), (other, None))))

    assert sorted(frames[0]["t"] for frames in ends) == ["error", "pong"]


async def test_who_guesses_tickets_is_slowed_down(settings):
    settings.LIMITS = replace(settings.LIMITS, failures_per_minute=2)
    codes = []
    for guess in range(3):
        async with connected(address="10.9.9.9") as socket:
            await says(socket, t="auth", ticket=f"segt_{guess}")
            error, bye = (await heard(socket, "bye"))[-2:]
        codes.append((error["code"], bye["code"]))

    assert codes == [("ticket_invalid", 4501), ("ticket_invalid", 4501), ("too_many_requests", 4429)]


async def test_who_says_nothing_takes_one_of_few_places(settings):
    settings.LIMITS = replace(settings.LIMITS, unknown_sockets_per_address=2)
    async with connected(address="10.1.1.1"), connected(address="10.1.1.1"):
        async with connected(address="10.1.1.1") as third, connected(address="10.1.1.2") as neighbour:
            frames = await heard(third, "close")
            await says(neighbour, t="ping")
            answer = (await heard(neighbour, "error"))[0]
        counted = lobby.count("10.1.1.1")

    assert [frame.get("code") for frame in frames] == ["too_many_sockets", 4429, 4429]
    assert answer["code"] == "unauthenticated"
    assert (counted, lobby.count("10.1.1.1")) == (2, 0)


async def test_a_user_has_so_many_sockets_and_the_newest_is_refused(settings, doctor):
    settings.LIMITS = replace(settings.LIMITS, sockets_per_user=2)
    other = await in_thread(a_user)("other")
    async with connected(doctor) as first, connected(doctor), connected(doctor) as third, connected(other) as theirs:
        frames = await heard(third, "close")
        for socket in (first, theirs):
            await says(socket, t="ping")
            await heard(socket, "pong")
    async with connected(doctor) as again:
        await says(again, t="ping")
        pong = await heard(again, "pong")

    assert [frame.get("code") for frame in frames] == ["too_many_sockets", 4429, 4429]
    assert frames[1]["reconnect"] is True
    assert pong[-1]["t"] == "pong"


async def test_signing_out_ends_the_sockets_that_came_by_a_ticket_of_that_session(browser, ticket):
    async with connected(origin=ELSEWHERE) as socket:
        await says(socket, t="auth", ticket=ticket)
        await says(socket, t="ping")
        await heard(socket, "pong")
        await in_thread(browser.post)("/logout/")
        frames = await heard(socket, "close")

    assert [frame.get("code") for frame in frames] == [4501, 4501]


async def test_revoking_an_api_token_ends_the_sockets_that_came_by_its_ticket(doctor):
    token, ticket = await in_thread(a_program)(doctor)
    async with connected(origin=ELSEWHERE) as socket, connected(doctor) as page:
        for one in (socket, page):
            if one is socket:
                await says(one, t="auth", ticket=ticket)
            await says(one, t="ping")
            await heard(one, "pong")
        token.revoked_at = timezone.now()
        await in_thread(token.save)()
        frames = await heard(socket, "close")
        await says(page, t="ping")
        pong = await heard(page, "pong")

    assert [frame.get("code") for frame in frames] == [4501, 4501]
    assert pong[-1]["t"] == "pong"
