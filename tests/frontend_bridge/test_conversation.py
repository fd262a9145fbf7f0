"""One browser's socket: nothing missed, nothing twice, nothing it may not see. No Django, no socket, no real clock."""

import asyncio

import pytest

from frontend_bridge import messages as m
from frontend_bridge.feeds import MaskFile
from tests.frontend_bridge import samples
from tests.frontend_bridge.fakes import JOB, FakeLibrary, Socket

MASK = MaskFile(content=bytes(range(256)) * 3, sha256=samples.SHA)


def kinds(frames):
    return [frame["t"] if isinstance(frame, dict) else len(frame) for frame in frames]


def seqs(frames):
    return [frame["seq"] for frame in frames if isinstance(frame, dict) and frame["t"] == "event"]


async def test_a_subscription_starts_with_the_snapshot():
    async with Socket() as socket:
        got = await socket.says(t="sub", topic=JOB, id="s1")

    (answer,) = got
    assert answer["t"] == "sub.ok"
    assert (answer["id"], answer["epoch"], answer["seq"], answer["recovered"]) == ("s1", "e1", 1, False)
    assert answer["snapshot"]["id"] == "01JOB"


async def test_a_change_between_joining_and_reading_is_not_lost():
    """The group is joined before the log is read; a poke that comes in between finds nothing new, or a new event."""
    library = FakeLibrary()
    async with Socket(library) as socket:
        socket.conversation.take_frame('{"t":"sub","topic":"job:01JOB"}')
        seq = library.add()
        socket.conversation.take_poke(JOB, seq)
        got = await socket.served()
        got += await socket.after(0)

    assert [frame["seq"] for frame in got] == [2]


async def test_pokes_that_are_lost_doubled_or_late_change_nothing():
    library = FakeLibrary()
    async with Socket(library) as socket:
        await socket.says(t="sub", topic=JOB)
        for _ in range(3):
            library.add()
        for seq in (3, 3, 2, 4, 1):
            socket.conversation.take_poke(JOB, seq)
        got = await socket.served()
        socket.conversation.take_poke(JOB, 4)
        got += await socket.served()

    assert seqs(got) == [2, 3, 4]


async def test_a_poke_that_comes_while_the_log_is_read_is_not_forgotten():
    """The flag is cleared before reading; cleared after it, the change would wait for the position check."""
    library = FakeLibrary()
    async with Socket(library) as socket:
        await socket.says(t="sub", topic=JOB)
        socket.conversation.take_poke(JOB, library.add())
        await asyncio.sleep(0)  # now the log is being read
        reads = library.reads
        socket.conversation.take_poke(JOB, library.add())
        got = await socket.served()

    assert reads == 1
    assert seqs(got) == [2, 3]


async def test_a_change_whose_poke_was_lost_is_found_by_the_position_check():
    library = FakeLibrary()
    async with Socket(library) as socket:
        await socket.says(t="sub", topic=JOB)
        library.add()
        early = await socket.after(1.0)
        late = await socket.after(8.0)

    assert seqs(early) == []
    assert seqs(late) == [2]


async def test_a_browser_that_comes_back_gets_exactly_what_it_missed():
    library = FakeLibrary()
    for _ in range(3):
        library.add()
    async with Socket(library) as socket:
        got = await socket.says(t="sub", topic=JOB, epoch="e1", seq=2)

    assert (got[0]["recovered"], got[0]["seq"]) == (True, 2)
    assert seqs(got) == [3, 4]


@pytest.mark.parametrize(
    ("known", "trimmed"),
    [({"epoch": "e0", "seq": 2}, 0), ({"epoch": "e1", "seq": 2}, 3), ({"epoch": "e1", "seq": 9}, 0)],
)
async def test_a_recovery_is_whole_or_there_is_none(known, trimmed):
    """Another life of the log, a log that does not reach back, a seq that never was: a new snapshot, no events."""
    library = FakeLibrary(trimmed=trimmed)
    for _ in range(4):
        library.add()
    async with Socket(library) as socket:
        got = await socket.says(t="sub", topic=JOB, **known)

    assert kinds(got) == ["sub.ok"]
    assert (got[0]["recovered"], got[0]["seq"]) == (False, 5)


async def test_a_log_that_starts_a_new_life_is_told_as_a_new_snapshot():
    library = FakeLibrary()
    async with Socket(library) as socket:
        await socket.says(t="sub", topic=JOB, id=7)
        library.epoch = "e2"
        got = await socket.after(8.0)

    assert kinds(got) == ["sub.ok"]
    assert (got[0]["epoch"], got[0]["id"], got[0]["recovered"]) == ("e2", 7, False)


async def test_only_the_newest_progress_waits_for_a_slow_moment():
    async with Socket() as socket:
        await socket.says(t="sub", topic=JOB)
        for hundredth in range(100):
            socket.conversation.take_news(JOB, "progress", {"stage": "inference", "progress": hundredth / 100})
        first = await socket.served()
        for hundredth in range(100):
            socket.conversation.take_news(JOB, "progress", {"stage": "inference", "progress": hundredth / 100})
        at_once = await socket.served()
        later = await socket.after(0.25)

    assert [frame["progress"] for frame in first + later] == [0.99, 0.99]
    assert at_once == []


async def test_news_that_breaks_the_contract_costs_nothing():
    async with Socket() as socket:
        await socket.says(t="sub", topic=JOB)
        socket.conversation.take_news(JOB, "progress", {"progress": "half"})
        socket.conversation.take_news(JOB, "gossip", {})
        got = await socket.served()
        pong = await socket.says(t="ping", ts=1)

    assert got == []
    assert kinds(pong) == ["pong"]


async def test_the_mask_follows_the_event_that_ends_the_job():
    library = FakeLibrary(mask=MASK)
    async with Socket(library, mask_frame_bytes=256) as socket:
        await socket.says(t="sub", topic=JOB, id="s1")
        library.log.append(samples.finished(seq=2))
        socket.conversation.take_poke(JOB, 2)
        got = await socket.served()

    assert kinds(got) == ["event", "mask.begin", 256, 256, 256, "mask.end"]
    assert got[1] == {
        "t": "mask.begin",
        "id": "s1",
        "job": "01JOB",
        "size": 768,
        "sha256": samples.SHA,
        "frames": 3,
        "format": "nii.gz",
    }
    assert b"".join(got[2:5]) == MASK.content


async def test_other_messages_pass_between_the_frames_of_a_mask():
    library = FakeLibrary(mask=MASK)
    async with Socket(library, mask_frame_bytes=1) as socket:
        library.log.append(samples.finished(seq=2))
        first = await socket.says(t="sub", topic=JOB)
        pong = await socket.says(t="ping")

    assert "mask.end" not in kinds(first)
    assert kinds(pong)[:3].count("pong") == 1


@pytest.mark.parametrize("known", [{}, {"epoch": "e1", "seq": 1}, {"epoch": "e1", "seq": 2}])
async def test_a_browser_that_comes_after_the_end_gets_the_mask_once(known):
    library = FakeLibrary(mask=MASK)
    library.log.append(samples.finished(seq=2))
    async with Socket(library) as socket:
        got = await socket.says(t="sub", topic=JOB, **known)

    assert kinds(got).count("mask.begin") == 1
    assert got[0]["snapshot"]["state"] == "succeeded"


async def test_who_asked_for_the_address_only_gets_no_bytes():
    library = FakeLibrary(mask=MASK)
    library.log.append(samples.finished(seq=2))
    async with Socket(library) as socket:
        got = await socket.says(t="sub", topic=JOB, mask="url")

    assert kinds(got) == ["sub.ok"]


async def test_a_topic_one_may_not_see_looks_like_one_that_is_not_there():
    async with Socket() as socket:
        got = await socket.says(t="sub", topic="job:OTHER", id="s1")
        socket.conversation.take_news("job:OTHER", "progress", {"progress": 0.5})
        after = await socket.served()

    assert [(frame["t"], frame["code"], frame["id"]) for frame in got] == [("error", "not_found", "s1")]
    assert after == []
    assert "job:OTHER" not in socket.wire.groups


async def test_a_permission_that_ends_ends_the_subscription():
    library = FakeLibrary()
    async with Socket(library) as socket:
        await socket.says(t="sub", topic=JOB)
        library.allowed.clear()
        early = await socket.after(100)
        late = await socket.after(200)

    assert kinds(early) == []
    assert [(frame["t"], frame["code"]) for frame in late] == [("error", "not_found")]
    assert JOB not in socket.wire.groups


async def test_signing_out_ends_the_sockets_of_that_session_and_no_others():
    """Django tells of it while the session still exists, so the socket must not ask whether it does."""
    async with Socket() as socket:
        socket.conversation.session = "this-one"
        socket.conversation.take_news("user:1", "signed_out", {"session": "another"})
        pong = await socket.says(t="ping")
        socket.conversation.take_news("user:1", "signed_out", {"session": "this-one"})
        bye = await socket.parted()

    assert kinds(pong) == ["pong"]
    assert (bye.code, bye.reconnect) == (4501, False)


async def test_who_signed_out_during_the_handshake_is_not_let_in():
    library = FakeLibrary(user=None)
    async with Socket(library) as socket:
        bye = await socket.parted()

    assert (bye.code, bye.reconnect) == (4501, False)


async def test_a_poke_at_the_user_looks_at_the_permissions_at_once():
    library = FakeLibrary()
    async with Socket(library) as socket:
        library.user = None
        socket.conversation.take_poke("user:1", 0)
        bye = await socket.parted()

    assert (bye.code, bye.reconnect) == (4501, False)


async def test_group_membership_is_renewed_before_a_layer_forgets_it():
    async with Socket() as socket:
        await socket.says(t="sub", topic=JOB)
        before = socket.wire.joins
        await socket.after(600)

    assert socket.wire.joins == before + 2


async def test_a_layer_that_is_away_makes_changes_late_and_never_lost():
    library = FakeLibrary()
    async with Socket(library) as socket:
        socket.wire.is_layer_away = True
        await socket.says(t="sub", topic=JOB)
        library.add()
        late = await socket.after(8)
        socket.wire.is_layer_away = False
        await socket.after(8)

    assert seqs(late) == [2]
    assert JOB in socket.wire.groups


async def test_after_unsub_nothing_of_the_topic_comes():
    library = FakeLibrary()
    async with Socket(library) as socket:
        await socket.says(t="sub", topic=JOB)
        await socket.says(t="unsub", topic=JOB)
        socket.conversation.take_poke(JOB, library.add())
        got = await socket.served()

    assert got == []
    assert JOB not in socket.wire.groups


async def test_trouble_with_the_database_ends_with_a_word_and_an_invitation():
    library = FakeLibrary(breaks=True)
    async with Socket(library) as socket:
        socket.conversation.take_frame('{"t":"sub","topic":"job:01JOB"}')
        bye = await socket.parted()

    assert (bye.code, bye.reconnect) == (4000, True)
    assert "database" not in bye.reason


async def test_no_order_of_drops_and_doubles_makes_a_gap():
    """A hundred changes, pokes lost or doubled by a pattern: the browser sees each once, in order."""
    library = FakeLibrary()
    async with Socket(library) as socket:
        got = await socket.says(t="sub", topic=JOB)
        for turn in range(100):
            seq = library.add()
            for _ in range(turn % 3):
                socket.conversation.take_poke(JOB, seq - turn % 2)
            if turn % 7 == 0:
                got += await socket.served()
        got += await socket.after(8)

    assert seqs(got) == list(range(2, 102))


async def test_dismissing_says_why():
    async with Socket() as socket:
        socket.conversation.dismiss(m.Bye(code=4000, reason="The server restarts.", reconnect=True, retry_after_s=1.0))
        bye = await asyncio.wait_for(socket.parted(), timeout=2)

    assert bye.retry_after_s == 1.0
