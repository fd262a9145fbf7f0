"""A worker that talks too much or says nothing: it is stopped, and costs the others nothing."""

import json
import tracemalloc

import pytest

from server.dispatch.farewells import Farewell
from server.dispatch.inbox import Frame, Inbox, Refusal
from server.topics.sockets import lobby
from tests.server.dispatch.fakes import Machine, Talk
from tests.server.dispatch.talks import at_work, in_db, settled
from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_server

BIG = '{"t":"job.progress","id":%d,"x":"' + "x" * 50_000 + '"}'


@pytest.mark.django_db(transaction=True)
async def test_a_flood_is_refused_by_name_and_then_ended(machine, enrolled):
    other = Machine()
    bystander = await at_work(other, await in_db(other.enrolled)(name="lab-2"))
    talk = await at_work(machine, enrolled)

    for number in range(1, 2001):
        await talk.socket.send_to(text_data=json.dumps({"t": "pong", "id": number, "ts": 1.0}))
    heard = [await talk.hear()]
    while not isinstance(heard[-1], m.Bye):
        heard.append(await talk.hear())
    await settled(bystander)

    refusals, bye = heard[:-1], heard[-1]
    assert (bye.code, bye.reconnect, bye.retry_after_s > 0) == (4429, True, True)
    assert {(error.code, error.temporary) for error in refusals} == {("rate", True)}
    assert 1 <= len(refusals) <= 62
    assert refusals[0].re == refusals[1].re - 1
    await bystander.hang_up()


@pytest.mark.django_db(transaction=True)
async def test_a_worker_may_say_sixty_things_at_once(machine, enrolled):
    talk = await at_work(machine, enrolled)

    for _ in range(50):
        await talk.say(m.Error(code="nothing"))

    await settled(talk)
    await talk.hang_up()


async def test_a_flood_of_large_frames_keeps_memory_bounded():
    """10,000 frames of 50 KB are 500 MB; kept are a burst of them and the numbers of as many."""
    inbox = Inbox()
    inbox.welcome()
    tracemalloc.start()

    for number in range(10_000):
        inbox.put(Frame(BIG % number))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    items = [await inbox.get() for _ in range(inbox._queue.qsize())]
    assert peak < 8 * 1024 * 1024
    assert isinstance(items[-1], Farewell)
    assert sum(isinstance(item, Frame) for item in items) <= 62
    assert sum(isinstance(item, Refusal) for item in items) <= 62


async def test_a_stranger_may_say_hello_and_little_else():
    inbox = Inbox()

    for number in range(100):
        inbox.put(Frame(BIG % number))

    items = [await inbox.get() for _ in range(inbox._queue.qsize())]
    assert [type(item) for item in items] == [Frame] * 4 + [Farewell]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("size", [5_000, 60_000])
async def test_a_stranger_sends_only_short_frames(machine, enrolled, size):
    talk = await Talk(machine).open()
    await talk.hear()

    await talk.socket.send_to(text_data='{"t":"greetings","x":"' + "x" * size + '"}')

    assert (await talk.heard_bye()).code == 4503


@pytest.mark.django_db(transaction=True)
async def test_a_hello_may_be_long_since_it_lists_what_the_worker_owes(machine, enrolled):
    owed = tuple(m.Kept(job=f"job-{number}", fence=1, kind="result", sha256="b" * 64) for number in range(64))
    talk = await Talk(machine).open()

    welcome = await talk.sign_in(enrolled.pk, outbox=owed)

    assert {verdict.verdict for verdict in welcome.resume} == {"revoke"}
    await talk.hang_up()


@pytest.mark.django_db(transaction=True)
async def test_an_address_may_have_only_so_many_silent_sockets(machine, enrolled, settings):
    settings.LIMITS = type(settings.LIMITS)(unknown_sockets_per_address=3)
    before = lobby.count("")
    silent = [await Talk(machine).open() for _ in range(3 - before)]
    for talk in silent:
        await talk.hear()

    refused = await Talk(machine).open()
    bye = await refused.heard_bye()
    await silent[0].say(machine.hello("no nonce", enrolled.pk))
    await silent[0].heard_bye()
    await silent[0].hang_up()
    let_in = await Talk(machine).open()

    assert (bye.code, bye.reconnect) == (4429, True)
    assert isinstance(await let_in.hear(), m.Challenge)
    for talk in (*silent[1:], let_in):
        await talk.hang_up()
    assert lobby.count("") == before


@pytest.mark.django_db(transaction=True)
async def test_whoever_signs_in_is_no_stranger_any_more(machine, enrolled, settings):
    settings.LIMITS = type(settings.LIMITS)(unknown_sockets_per_address=1)
    talk = await at_work(machine, enrolled)

    again = await Talk(machine).open()

    assert isinstance(await again.hear(), m.Challenge)
    await again.hang_up()
    await talk.hang_up()


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def enrolled(transactional_db, machine):
    return machine.enrolled()


def test_the_worker_understands_a_refusal():
    frame = '{"t":"error","id":4,"re":70,"code":"rate","temporary":true,"detail":"not so fast"}'

    assert decode_from_server(frame) == m.Error(id=4, re=70, code="rate", temporary=True, detail="not so fast")
