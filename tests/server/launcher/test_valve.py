"""Sending waits while the other side does not read."""

import asyncio

from twisted.internet.abstract import FileDescriptor

from server.launcher.valve import Valve


class Wire(FileDescriptor):
    """Twisted's own buffer over a kernel that takes `room` bytes."""

    def __init__(self) -> None:
        super().__init__(reactor=self)
        self.connected = 1
        self.room = 0
        self.registerProducer(object(), True)

    def addWriter(self, _: object) -> None:
        """Nobody polls here."""

    removeWriter = removeReader = addWriter

    def writeSomeData(self, data: bytes) -> int:
        taken, self.room = min(self.room, len(data)), self.room - min(self.room, len(data))
        return taken


async def is_open(valve: Valve) -> bool:
    try:
        async with asyncio.timeout(0.01):
            await valve.passable()
    except TimeoutError:
        return False
    return True


async def test_a_small_message_never_waits():
    wire = Wire()
    valve = Valve(wire)

    wire.write(b"x" * 1000)

    assert await is_open(valve)


async def test_sending_waits_until_the_buffer_is_empty_again():
    wire = Wire()
    valve = Valve(wire)

    wire.write(b"x" * 100_000)
    full = await is_open(valve)
    wire.room = 50_000
    wire.doWrite()
    half = await is_open(valve)
    wire.room = 50_000
    wire.doWrite()

    assert (full, half, await is_open(valve)) == (False, False, True)


async def test_nobody_waits_for_a_connection_that_has_ended():
    wire = Wire()
    valve = Valve(wire)
    wire.write(b"x" * 100_000)

    wire.connectionLost(None)

    assert await is_open(valve)
