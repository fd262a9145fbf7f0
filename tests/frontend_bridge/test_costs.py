"""What one browser may cost: floods, broken frames, slow readers, many masks. No Django, no socket, no real clock."""

import pytest

from frontend_bridge.feeds import MaskFile
from tests.frontend_bridge import samples
from tests.frontend_bridge.fakes import JOB, FakeLibrary, Socket

MASK = MaskFile(content=bytes(range(256)) * 3, sha256=samples.SHA)


def kinds(frames):
    return [frame["t"] if isinstance(frame, dict) else len(frame) for frame in frames]


def seqs(frames):
    return [frame["seq"] for frame in frames if isinstance(frame, dict) and frame["t"] == "event"]


async def test_a_mask_that_may_not_be_seen_any_more_stops_in_the_middle():
    library = FakeLibrary(mask=MASK)
    library.log.append(samples.finished(seq=2))
    async with Socket(library, mask_frame_bytes=1) as socket:
        first = await socket.says(t="sub", topic=JOB)
        library.allowed.clear()
        socket.conversation.take_poke("user:1", 0)
        await socket.served()
        after = await socket.served()

    assert "mask.end" not in kinds(first)
    assert after == []
    assert not socket.conversation._masks.is_busy


async def test_masks_are_read_one_after_the_other():
    """Sixty-four finished jobs on one slow socket would hold sixty-four masks in memory."""
    library = FakeLibrary(mask=MASK, allowed={JOB, "job:B"})
    library.log.append(samples.finished(seq=2))
    async with Socket(library, mask_frame_bytes=256) as socket:
        socket.wire.takes.clear()
        for topic in (JOB, "job:B"):
            socket.conversation.take_frame(f'{{"t":"sub","topic":"{topic}"}}')
        await socket.served()
        reads = library.mask_reads
        socket.wire.takes.set()
        await socket.served()

    assert reads == 0
    assert library.mask_reads == 2


@pytest.mark.parametrize(
    ("text", "code"),
    [("nonsense", "bad_frame"), ('{"t":"dance"}', "unknown_type"), ('{"t":"auth","ticket":"x"}', "already_signed_in")],
)
async def test_a_frame_that_cannot_be_served_is_answered_and_costs_nothing(text, code):
    async with Socket() as socket:
        socket.conversation.take_frame(text)
        got = await socket.served()
        pong = await socket.says(t="ping", ts=3)

    assert [(frame["t"], frame["code"]) for frame in got] == [("error", code)]
    assert pong == [{"t": "pong", "ts": 3.0}]


async def test_a_flood_that_goes_on_ends_the_socket():
    async with Socket(frame_burst=3) as socket:
        for _ in range(8):
            socket.conversation.take_frame('{"t":"ping"}')
        bye = await socket.parted()

    assert kinds(socket.wire.got) == ["pong"] * 3 + ["error"] * 3
    assert (bye.code, bye.reconnect) == (4429, True)


async def test_one_quick_moment_now_and_then_is_no_flood():
    async with Socket(frame_burst=3) as socket:
        for _ in range(5):
            for _ in range(5):
                socket.conversation.take_frame('{"t":"ping"}')
            got = await socket.served()
            socket.clock.now += 1.0

    assert kinds(got) == ["pong", "pong", "pong", "error", "error"]


async def test_frames_that_nobody_has_read_yet_take_bounded_room():
    async with Socket(frame_bytes=1000) as socket:
        socket.wire.takes.clear()
        for _ in range(10):
            socket.conversation.take_frame('{"t":"ping"}'.ljust(900))
        socket.wire.takes.set()
        bye = await socket.parted()

    assert bye.code == 4429


async def test_a_flood_is_told_to_slow_down():
    async with Socket(frame_burst=3) as socket:
        for _ in range(5):
            socket.conversation.take_frame('{"t":"ping"}')
        got = await socket.served()
        socket.clock.now += 1.0
        pong = await socket.says(t="ping")

    assert kinds(got) == ["pong", "pong", "pong", "error", "error"]
    assert kinds(pong) == ["pong"]


@pytest.mark.parametrize(("frame", "code"), [(None, 4503), ("x" * 70_000, 4503)])
async def test_what_no_browser_of_ours_sends_ends_the_socket(frame, code):
    async with Socket() as socket:
        socket.conversation.take_frame(frame)
        bye = await socket.parted()

    assert (bye.code, bye.reconnect) == (code, False)


async def test_a_browser_that_takes_nothing_costs_no_memory_and_is_let_go():
    """A thousand changes and ten thousand news while sending waits: what waits is one page and the newest news."""
    library = FakeLibrary()
    async with Socket(library, silence_seconds=0.05, page=10) as socket:
        await socket.says(t="sub", topic=JOB)
        socket.wire.takes.clear()
        for turn in range(1000):
            socket.conversation.take_poke(JOB, library.add())
            for _ in range(10):
                socket.conversation.take_news(JOB, "progress", {"progress": turn / 1000})
        sent = await socket.served()
        (followed,) = socket.conversation._subscriptions.values()
        bye = await socket.parted()

    assert seqs(sent) == [2], "one frame is on its way, nothing behind it"
    assert library.reads == 1
    assert len(followed.news) == 1
    assert (bye.code, bye.reconnect) == (4413, True)


async def test_a_slow_browser_gets_every_change_once_it_reads_again():
    library = FakeLibrary()
    async with Socket(library, page=10) as socket:
        await socket.says(t="sub", topic=JOB)
        socket.wire.takes.clear()
        for _ in range(100):
            socket.conversation.take_poke(JOB, library.add())
        got = await socket.served()
        socket.wire.takes.set()
        for _ in range(20):
            got += await socket.served()

    assert seqs(got) == list(range(2, 102))


async def test_a_browser_that_stops_reading_is_let_go():
    async with Socket() as socket:
        await socket.says(t="ping", ts=1)
        asked = await socket.after(9)
        socket.clock.now += 26
        socket.conversation.take_poke("nobody", 0)
        bye = await socket.parted()

    assert kinds(asked) == ["ping"]
    assert (bye.code, bye.reconnect) == (4413, True)


async def test_a_browser_that_answers_the_ping_stays():
    async with Socket() as socket:
        await socket.says(t="ping", ts=1)
        (asked,) = await socket.after(9)
        await socket.says(t="pong", ts=asked["ts"])
        again = await socket.after(26)

    assert kinds(again) == ["ping"]


async def test_a_plain_program_that_never_pings_is_never_asked():
    async with Socket() as socket:
        await socket.says(t="sub", topic=JOB)
        got = await socket.after(9) + await socket.after(60)

    assert got == []


async def test_a_socket_follows_a_bounded_number_of_topics():
    library = FakeLibrary(allowed={JOB, "job:B"})
    async with Socket(library, topics=1) as socket:
        await socket.says(t="sub", topic=JOB)
        got = await socket.says(t="sub", topic="job:B")

    assert [frame["code"] for frame in got] == ["too_many_topics"]
