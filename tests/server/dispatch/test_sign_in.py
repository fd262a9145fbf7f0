"""The worker's WebSocket: signing in, and who is let go."""

import asyncio

import pytest

from server.dispatch import reception, session, wakeups
from server.dispatch.enrolment import set_state
from server.dispatch.models import Worker
from tests.server.dispatch.fakes import Machine, Talk
from tests.server.dispatch.scenes import session_of
from tests.server.dispatch.talks import at_work, in_db, settled
from worker_client.protocol import messages as m

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_worker_signs_in_with_its_key(machine, enrolled):
    talk = await Talk(machine).open()

    challenge = await talk.hear()
    await talk.say(machine.hello(challenge.nonce, enrolled.pk))
    welcome = await talk.hear()

    assert talk.subprotocol == "seg.worker.v1"
    assert (challenge.id, welcome.id, welcome.re) == (1, 2, 1)
    assert (welcome.session, welcome.hb_interval, welcome.lease_ttl) == (1, 5.0, 20.0)
    await talk.hang_up()


async def test_a_worker_beside_the_server_signs_the_name_it_calls_it_by(machine, enrolled):
    talk = await Talk(machine, headers=((b"host", b"127.0.0.1:8000"),)).open()

    welcome = await talk.sign_in(enrolled.pk, host="127.0.0.1:8000")

    assert isinstance(welcome, m.Welcome)
    await talk.hang_up()


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1:8000"])
async def test_a_signature_for_another_host_is_refused(machine, enrolled, host):
    talk = await Talk(machine).open()
    challenge = await talk.hear()

    await talk.say(machine.hello(challenge.nonce, enrolled.pk, host=host))

    bye = await talk.heard_bye()
    assert (bye.code, bye.reconnect) == (4501, False)


async def test_a_replayed_hello_is_refused(machine, enrolled):
    first = await Talk(machine).open()
    hello = machine.hello((await first.hear()).nonce, enrolled.pk)
    second = await Talk(machine).open()
    await second.hear()

    await second.say(hello)

    assert (await second.heard_bye()).code == 4501
    await first.hang_up()


async def test_an_unknown_worker_is_refused_like_a_wrong_signature(machine, enrolled):
    talk = await Talk(machine).open()
    challenge = await talk.hear()

    await talk.say(machine.hello(challenge.nonce, "nobody"))

    bye = await talk.heard_bye()
    assert (bye.code, bye.reason) == (4501, "the key or the signature is not valid here")


async def test_a_revoked_worker_is_told_so(machine, enrolled):
    await in_db(set_state)(enrolled, Worker.State.REVOKED)
    talk = await Talk(machine).open()
    challenge = await talk.hear()

    await talk.say(machine.hello(challenge.nonce, enrolled.pk))

    assert (await talk.heard_bye()).code == 4510


async def test_whoever_does_not_say_hello_in_time_may_come_back_and_try_again(machine, enrolled, settings):
    settings.LIMITS = type(settings.LIMITS)(hello_seconds=0.01)
    talk = await Talk(machine).open()
    await talk.hear()

    bye = await talk.heard_bye()
    assert (bye.code, bye.reconnect) == (4501, True)


async def test_a_type_that_is_not_known_before_hello_is_answered_and_not_the_end(machine, enrolled):
    talk = await Talk(machine).open()
    challenge = await talk.hear()

    await talk.socket.send_to(text_data='{"t":"greetings","id":7}')
    error = await talk.hear()
    await talk.say(machine.hello(challenge.nonce, enrolled.pk))

    assert (error.code, error.re) == ("unknown_type", 7)
    assert isinstance(await talk.hear(), m.Welcome)
    await talk.hang_up()


@pytest.mark.parametrize("header", [(b"origin", b"http://testserver"), (b"cookie", b"sessionid=x")])
async def test_a_browser_has_no_business_here(machine, header):
    talk = await Talk(machine, headers=(header,)).open()

    assert (await talk.hear()).code == "not_a_browser_endpoint"
    assert (await talk.heard_bye()).code == 4501


async def test_another_version_is_told_which_ones_are_spoken(machine):
    talk = await Talk(machine, versions=("seg.worker.v9",)).open()

    error = await talk.hear()

    assert (talk.subprotocol, error.code, error.supported) == (
        "seg.worker.v9",
        "unsupported_version",
        ("seg.worker.v1",),
    )
    assert (await talk.heard_bye()).code == 4506


async def test_a_worker_of_a_later_version_speaks_the_one_that_both_know(machine, enrolled):
    talk = await Talk(machine, versions=("seg.worker.v2", "seg.worker.v1")).open()

    welcome = await talk.sign_in(enrolled.pk, features=("preview", "something.new"))

    assert (talk.subprotocol, welcome.features) == ("seg.worker.v1", ("preview",))
    await talk.hang_up()


async def test_whoever_fails_to_be_a_worker_too_often_waits_and_the_worker_elsewhere_does_not(machine, enrolled):
    thief, codes = Machine(), []
    for _ in range(6):
        talk = await Talk(thief).open()
        await talk.say(thief.hello((await talk.hear()).nonce, enrolled.pk))
        bye = await talk.heard_bye()
        codes.append((bye.code, bye.retry_after_s > 0))

    other = Machine()
    neighbour = await in_db(other.enrolled)(name="lab-2")
    talk = await Talk(other).open()

    assert codes == [(4501, False)] * 5 + [(4429, True)]
    assert isinstance(await talk.sign_in(neighbour.pk), m.Welcome)
    await talk.hang_up()


async def test_a_worker_that_waits_for_approval_comes_back_by_itself(machine, enrolled):
    await in_db(set_state)(enrolled, Worker.State.PENDING)
    talk = await Talk(machine).open()
    challenge = await talk.hear()

    await talk.say(machine.hello(challenge.nonce, enrolled.pk))

    bye = await talk.heard_bye()
    assert (bye.code, bye.reconnect, bye.retry_after_s) == (4501, True, 30.0)


async def test_a_copied_key_cannot_tear_a_living_session_away(machine, enrolled):
    talk = await at_work(machine, enrolled)
    copy = Machine(key=machine.key, boot_id="boot-2")
    thief = await Talk(copy).open()
    challenge = await thief.hear()

    await thief.say(copy.hello(challenge.nonce, enrolled.pk))
    async with asyncio.TaskGroup() as tasks:
        answering = tasks.create_task(talk.hear())
        bye = await thief.heard_bye()
        await talk.say(m.Ping(ts=2.0))

    assert (bye.code, bye.retry_after_s) == (4511, 60.0)
    assert answering.result().ts == 2.0
    await talk.hang_up()


async def test_another_boot_takes_over_when_the_old_session_does_not_answer(machine, enrolled, monkeypatch):
    monkeypatch.setattr(reception, "PROBE_SECONDS", 0.01)
    silent = await at_work(machine, enrolled)
    again = Machine(key=machine.key, boot_id="boot-2")
    talk = await Talk(again).open()

    welcome = await talk.sign_in(enrolled.pk)

    assert welcome.session == 2
    assert (await silent.heard_bye()).code == 4409
    await talk.hang_up()


async def test_a_newer_session_of_the_same_boot_takes_over_at_once(machine, enrolled):
    old = await at_work(machine, enrolled)
    new = await Talk(machine).open()

    welcome = await new.sign_in(enrolled.pk)

    bye = await old.heard_bye()
    assert (welcome.session, bye.code, bye.retry_after_s) == (2, 4409, 30.0)
    assert (await in_db(session_of)(enrolled)).closed_at is None
    await new.hang_up()


async def test_an_unknown_type_is_answered_and_nothing_more(machine, enrolled):
    talk = await at_work(machine, enrolled)

    await talk.socket.send_to(text_data='{"t":"job.teleport","id":9}')

    error = await talk.hear()
    assert (error.code, error.re) == ("unknown_type", 9)
    await settled(talk)
    await talk.hang_up()


@pytest.mark.parametrize(
    "text", ["no json", '{"t":"ready","credits":-1}', "[" * 10_000, '{"t":"hb"' + " " * 70_000 + "}"]
)
async def test_a_frame_that_cannot_be_read_ends_the_conversation(machine, enrolled, text):
    talk = await at_work(machine, enrolled)

    await talk.socket.send_to(text_data=text)

    bye = await talk.heard_bye()
    assert (bye.code, bye.reconnect) == (4503, False)


async def test_binary_frames_are_not_for_this_socket(machine, enrolled):
    talk = await at_work(machine, enrolled)

    await talk.socket.send_to(bytes_data=b"voxels")

    assert (await talk.heard_bye()).code == 4503


async def test_an_unknown_channel_message_breaks_nothing(machine, enrolled):
    """Any consumer without a handler for a group's message would end with 1011, and every member with it."""
    talk = await at_work(machine, enrolled)
    channel_name = (await in_db(session_of)(enrolled)).channel_name

    await wakeups.send(channel_name, {"type": "something.new"})

    await settled(talk)
    await talk.hang_up()


async def test_a_handler_that_fails_says_goodbye(machine, enrolled, monkeypatch):
    talk = await at_work(machine, enrolled)

    async def fail(beat):
        raise OSError("the database is away")

    monkeypatch.setattr(session.gathering, "heard", fail)
    await talk.say(m.Heartbeat(session=1))

    bye = await talk.heard_bye()
    assert (bye.code, bye.reconnect) == (4000, True)


async def test_a_worker_that_falls_silent_is_let_go(machine, enrolled, settings):
    settings.POLICY = type(settings.POLICY)(silence_seconds=0.05)
    talk = await Talk(machine).open()
    await talk.sign_in(enrolled.pk)

    while (heard := await talk.socket.receive_output(timeout=5))["type"] != "websocket.close":
        pass

    assert heard["code"] == 4408
