"""Conversations of a worker with the server that several tests begin with."""

from asgiref.sync import sync_to_async

from server.dispatch import wakeups
from server.dispatch.models import Worker
from tests.server.dispatch.fakes import Machine, Talk
from tests.server.dispatch.scenes import one_round
from worker_client.protocol import messages as m

READY = m.Ready(credits=1)


def in_db(function):
    return sync_to_async(function, thread_sensitive=True)


async def assign() -> None:
    """The assigner looks once, and its pokes go out."""
    found = await in_db(one_round)()
    for channel_name in found.pokes:
        await wakeups.send(channel_name, wakeups.OFFERS)


async def at_work(machine: Machine, worker: Worker, **hello) -> Talk:
    """A worker that is signed in and has said that it has room; its words have arrived."""
    talk = await Talk(machine).open()
    await talk.sign_in(worker.pk, **hello)
    await talk.say(READY)
    await settled(talk)
    return talk


async def settled(talk: Talk) -> None:
    """Everything said so far has been served: messages are served in order."""
    await talk.say(m.Ping(ts=1.0))
    assert isinstance(await talk.hear(), m.Pong)


async def taken(talk: Talk) -> m.JobOffer:
    """The worker is offered a job and takes it."""
    await assign()
    offer = await talk.hear()
    await talk.say(m.JobAccept(re=offer.id, job=offer.job, fence=offer.fence))
    await talk.say(m.Ready(credits=0))
    await settled(talk)
    return offer
