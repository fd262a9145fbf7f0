"""A worker's key is replaced without a moment in which neither counts."""

from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from server.dispatch import enrolment
from server.dispatch.models import Worker
from tests.server.dispatch.fakes import Machine, Talk, base64_of
from tests.server.dispatch.talks import at_work, in_db, settled
from worker_client.protocol import messages as m
from worker_client.protocol.identity import rotate_text

pytestmark = pytest.mark.django_db(transaction=True)


def rotation(machine: Machine, fresh: Machine, worker: Worker, *, session: int = 1, **changes) -> m.RotateKey:
    text = rotate_text(worker_id=worker.pk, session=session, public_key=fresh.public_key)
    sig, proof = base64_of(machine.key.sign(text)), base64_of(fresh.key.sign(text))
    return m.RotateKey(**{"id": 9, "public_key": fresh.public_key, "sig": sig, "proof": proof, **changes})


def wish(message: m.RotateKey, worker: Worker, *, session: int = 1) -> enrolment.NewKey:
    return enrolment.NewKey(
        worker_id=worker.pk, session=session, public_key=message.public_key, sig=message.sig, proof=message.proof
    )


async def signs_in(machine: Machine, worker: Worker):
    talk = await Talk(machine).open()
    answer = await talk.sign_in(worker.pk)
    await talk.hang_up()
    return answer


async def test_an_administrator_asks_for_a_key_and_both_count_for_a_while(machine, enrolled, settings):
    fresh = Machine()
    talk = await at_work(machine, enrolled)
    await in_db(enrolment.want_new_key)(enrolled)
    asked = await talk.hear()

    await talk.say(rotation(machine, fresh, enrolled))
    answer = await talk.hear()
    await settled(talk)
    await talk.hang_up()

    assert isinstance(asked, m.RotateKeyWanted)
    assert (answer.re, answer.public_key, answer.old_key_seconds) == (9, fresh.public_key, 600.0)
    assert isinstance(await signs_in(fresh, enrolled), m.Welcome)
    assert isinstance(await signs_in(machine, enrolled), m.Welcome)


async def test_the_old_key_is_worth_nothing_after_its_time(machine, enrolled):
    fresh = Machine()
    await in_db(enrolment.rotate_key)(wish(rotation(machine, fresh, enrolled), enrolled))
    past = timezone.now() - timedelta(seconds=1)
    await sync_to_async(Worker.objects.filter(pk=enrolled.pk).update)(old_key_until=past)

    bye = await signs_in(machine, enrolled)

    assert bye.code == 4501
    assert isinstance(await signs_in(fresh, enrolled), m.Welcome)


async def test_a_key_that_is_old_is_asked_for_at_sign_in(machine, enrolled):
    made = timezone.now() - timedelta(days=91)
    await sync_to_async(Worker.objects.filter(pk=enrolled.pk).update)(key_made_at=made)
    talk = await Talk(machine).open()

    await talk.sign_in(enrolled.pk)

    assert isinstance(await talk.hear(), m.RotateKeyWanted)
    await talk.hang_up()


async def test_the_same_wish_after_a_lost_answer_is_granted_again(machine, enrolled):
    message = rotation(machine, Machine(), enrolled)
    talk = await at_work(machine, enrolled)

    await talk.say(message)
    first = await talk.hear()
    await talk.say(message)

    assert (type(first), await talk.hear()) == (m.RotateKeyOk, m.RotateKeyOk(id=first.id + 1, re=9, **shown(first)))
    await talk.hang_up()


def shown(answer: m.RotateKeyOk) -> dict[str, object]:
    return {"public_key": answer.public_key, "old_key_seconds": answer.old_key_seconds}


async def test_a_key_that_is_not_proven_is_refused(machine, enrolled):
    talk = await at_work(machine, enrolled)
    thief = Machine()

    await talk.say(rotation(thief, thief, enrolled))

    error = await talk.hear()
    assert (error.code, error.re, error.temporary) == ("key_refused", 9, False)
    await talk.hang_up()


@pytest.mark.parametrize("changes", [{"proof": base64_of(bytes(64))}, {"sig": "no base64"}, {"public_key": "AAAA"}])
def test_both_keys_must_have_signed(machine, enrolled, changes):
    message = rotation(machine, Machine(), enrolled, **changes)

    assert not enrolment.rotate_key(wish(message, enrolled))


def test_a_wish_of_another_session_is_worth_nothing(machine, enrolled):
    message = rotation(machine, Machine(), enrolled, session=1)

    assert not enrolment.rotate_key(wish(message, enrolled, session=2))


def test_a_key_of_another_worker_is_not_free(machine, enrolled):
    other = Machine()
    other.enrolled(name="lab-2")

    assert not enrolment.rotate_key(wish(rotation(machine, other, enrolled), enrolled))


def test_a_revoked_worker_takes_no_new_key(machine, enrolled):
    enrolment.set_state(enrolled, Worker.State.REVOKED)

    assert not enrolment.rotate_key(wish(rotation(machine, Machine(), enrolled), enrolled))
