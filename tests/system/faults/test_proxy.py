"""The proxy itself: what it says it does to connections, it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidMessage

from tests.system.faults.frames import MessageMeter
from tests.system.faults.proxy import CAPTIVE_PORTAL, Cut, Proxy, Weather

HEAD = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[Proxy]:
    """A WebSocket server that repeats what it hears, behind a proxy."""

    async def repeat(socket: ServerConnection) -> None:
        async for message in socket:
            await socket.send(message)

    async with serve(repeat, "127.0.0.1", 0, compression=None, close_timeout=0.2) as server:
        with Proxy(server.sockets[0].getsockname()[1]) as proxy:
            yield proxy


def dial(proxy: Proxy) -> connect:
    return connect(proxy.url.replace("http", "ws"), compression=None, close_timeout=0.2)


async def answers_until_cut(proxy: Proxy, *, most: int) -> int:
    answered = 0
    try:
        async with dial(proxy) as socket:
            for number in range(most):
                await socket.send(str(number))
                await socket.recv()
                answered += 1
    except ConnectionClosed:
        pass
    return answered


async def test_messages_pass_in_fair_weather(echo):
    assert await answers_until_cut(echo, most=5) == 5


@pytest.mark.parametrize("by_reset", [True, False])
async def test_a_connection_is_cut_right_after_the_message_that_was_named(echo, by_reset):
    """The handshake's answer is the first message that comes down."""
    echo.plan_cuts(lambda number: Cut(after=4, direction="down", by_reset=by_reset))

    assert await answers_until_cut(echo, most=9) == 3


async def test_open_connections_are_cut_at_once(echo):
    async with dial(echo) as socket:
        cut = await asyncio.to_thread(echo.cut_all)

        with pytest.raises(ConnectionClosed):
            await socket.recv()
    assert cut == 1


async def test_a_held_direction_delivers_once_it_moves_again(echo):
    async with dial(echo) as socket:
        await asyncio.to_thread(echo.set_weather, Weather(holds=frozenset({"up"})))
        await socket.send("late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await socket.recv()
        await asyncio.to_thread(echo.set_weather, Weather())

        assert await socket.recv() == "late"


async def test_a_lost_direction_stays_lost_for_the_connections_of_that_time(echo):
    async with dial(echo) as socket:
        await asyncio.to_thread(echo.set_weather, Weather(loses=frozenset({"down"})))
        await asyncio.to_thread(echo.set_weather, Weather())
        await socket.send("unheard")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await socket.recv()

        assert await answers_until_cut(echo, most=1) == 1


async def test_frames_arrive_twice_but_not_those_that_sign_in(echo):
    echo.set_weather(Weather(duplicates=1.0))
    async with dial(echo) as socket:
        for word in "abcd":
            await socket.send(word)

        heard = [await socket.recv() for _ in range(5)]

    assert "".join(heard[:3]) == "abc"
    assert heard[3:] == ["d", "d"]


@pytest.mark.parametrize(
    ("weather", "expected"),
    [(Weather(refuses=True), (OSError, InvalidMessage, EOFError)), (Weather(answers=CAPTIVE_PORTAL), Exception)],
)
async def test_new_connections_are_refused_or_answered_by_somebody_else(echo, weather, expected):
    await asyncio.to_thread(echo.set_weather, weather)

    with pytest.raises(expected):
        async with dial(echo):
            pass


async def test_a_captive_portal_answers_with_a_page(echo):
    await asyncio.to_thread(echo.set_weather, Weather(answers=CAPTIVE_PORTAL))

    async with httpx.AsyncClient() as client:
        answer = await client.get(echo.url)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")


async def test_a_narrow_line_takes_its_time(echo):
    loop = asyncio.get_running_loop()
    echo.set_weather(Weather(bytes_per_second=10_000.0))
    async with dial(echo) as socket:
        began = loop.time()
        await socket.send("x" * 2_000)
        await socket.recv()

        # A lower bound only: a busy machine may take longer.
        assert loop.time() - began >= 0.3


def frame(size: int) -> bytes:
    return bytes([0x81, size]) + b"x" * size


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_messages_are_counted_however_the_bytes_are_cut(step: int):
    stream, meter = HEAD + frame(5) + frame(0) + bytes([0x82, 126, 0, 200]) + b"y" * 200, MessageMeter()
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]

    parts = [part for piece in pieces for part in meter.split(piece)]

    assert b"".join(part.octets for part in parts) == stream
    assert sum(part.ends_message for part in parts) == 4


def count_whole(split: Callable[[bytes], list]) -> int:
    return sum(part.is_whole_frame for part in split(frame(5) + frame(6)))


def test_only_frames_that_came_in_one_piece_count_as_whole():
    meter = MessageMeter()
    meter.split(HEAD + frame(9)[:4])
    rest = meter.split(frame(9)[4:])

    assert not any(part.is_whole_frame for part in rest)
    assert count_whole(meter.split) == 2
