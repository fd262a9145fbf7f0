"""Signing in: a challenge, a signed hello, and the seat that it is given. Nobody is believed before that.

Flow: 4 push
"""

import asyncio
import base64
import secrets
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from django.conf import settings

from server.accounts import throttle
from server.accounts.errors import TooMany
from server.core.reconcile import Hold, Ruling
from server.dispatch import keys, sessions, translate, wakeups
from server.dispatch.farewells import (
    APPROVAL_RETRY_SECONDS,
    COPY_RETRY_SECONDS,
    LATE_SECONDS,
    Farewell,
    farewell,
    revoked,
    too_many,
    unreadable,
)
from server.dispatch.inbox import Frame, Inbox, Note
from server.dispatch.models import Worker
from server.dispatch.node import NODE
from server.dispatch.threads import in_thread
from server.jobs import services as jobs
from server.jobs.epoch import current_epoch
from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_worker
from worker_client.protocol.errors import CloseCode, ProtocolError, UnknownType
from worker_client.protocol.identity import NONCE_BYTES, challenge_text, host_of

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
PROBE_SECONDS = 6.0
"""Longer than a heartbeat takes to come: whoever is alive shows it by then, even if the probe is lost."""


class Line(Protocol):
    """Where messages go out, and the name under which other sockets reach this one.

    `transport` is what the administrator's table says of it: websocket or https. `address` is the client's.
    """

    channel_name: str
    transport: str
    address: str

    async def say(self, message: m.Message) -> None:
        """Send a message."""


@dataclass(frozen=True)
class Admission:
    """A worker that has signed in: the welcome that is due, and the attempts that it has already."""

    worker_id: str
    session: int
    epoch: str
    kept: frozenset[Hold]
    welcome: m.Welcome


@dataclass(frozen=True)
class Identity:
    """What the row says of a worker that wants to sign in; no row is a worker without keys."""

    state: str | None
    keys: tuple[str, str] = ("", "")


async def receive(line: Line, inbox: Inbox, *, hosts: frozenset[str]) -> Admission:
    """Sign the worker at the other end in. `hosts` are the names that this server goes by.

    Raises:
        Farewell: it is not let in.
    """
    nonce = base64.b64encode(secrets.token_bytes(NONCE_BYTES)).decode()
    await line.say(m.Challenge(nonce=nonce, server_time=time.time(), server_id=NODE))
    try:
        async with asyncio.timeout(settings.LIMITS.hello_seconds):
            hello = await _hello(line, inbox)
    except TimeoutError:
        # A machine that was put to sleep just now, or a busy server: nothing that a person must look at.
        raise farewell(CloseCode.BAD_AUTH, "no hello in time", retry_seconds=LATE_SECONDS, is_passing=True) from None
    await _verify(line, hello, nonce=nonce, hosts=hosts)
    await _yield_to_a_living_copy(line, inbox, hello)
    older = await in_thread(sessions.living_channel, hello.worker_id)
    epoch = await in_thread(current_epoch)
    seat = await in_thread(
        sessions.take_seat,
        translate.to_arrival(hello, epoch=epoch),
        node=NODE,
        channel_name=line.channel_name,
        transport=line.transport,
    )
    inbox.welcome()
    if older is not None:
        await wakeups.send(older, {"type": "worker.superseded"})
    return Admission(
        worker_id=hello.worker_id,
        session=seat.session,
        epoch=epoch,
        kept=frozenset(hold for hold, ruling in seat.verdicts if ruling in {Ruling.KEEP, Ruling.SEND_RESULT}),
        welcome=translate.to_welcome(
            session=seat.session, epoch=epoch, verdicts=seat.verdicts, slots=hello.slots, re=hello.id or None
        ),
    )


def hosts_of(called: str) -> frozenset[str]:
    """The names a worker may have signed: the public one, and this machine's own (`called`, the Host header) for a
    worker beside the server."""
    public, name = host_of(settings.PUBLIC_URL), called.lower()
    is_loopback = name.rpartition(":")[0] in LOOPBACK or name in LOOPBACK
    return frozenset({public, name} if is_loopback else {public})


async def tell_unknown(line: Line, unknown: UnknownType) -> None:
    """A type from the future is answered, and nothing more."""
    await line.say(m.Error(re=unknown.re, code=unknown.code, detail="this type is not known here"))


async def _hello(line: Line, inbox: Inbox) -> m.Hello:
    while True:
        item = await inbox.get()
        if isinstance(item, Farewell):
            raise item
        if not isinstance(item, Frame):
            continue
        try:
            message = decode_from_worker(item.text)
        except UnknownType as unknown:
            _check_size(item.text)
            await tell_unknown(line, unknown)
            continue
        except ProtocolError as error:
            raise unreadable(error.code) from error
        if not isinstance(message, m.Hello):
            raise farewell(CloseCode.BAD_AUTH, "hello comes first")
        return message


def _check_size(text: str) -> None:
    """Only a hello may be long, since it lists what the worker owes."""
    if len(text) > settings.LIMITS.unknown_frame_bytes:
        raise unreadable("frame_too_large")


async def _verify(line: Line, hello: m.Hello, *, nonce: str, hosts: frozenset[str]) -> None:
    """Believe the worker, unless this address has failed to be believed as it too often."""
    scope = f"hello:{hello.worker_id}"
    try:
        await in_thread(throttle.check_failures, scope, line.address)
    except TooMany as many:
        raise too_many("too many hellos that were not valid", retry_seconds=many.retry_after_seconds) from many
    identity = await in_thread(_identity_of, hello.worker_id)
    if not _has_signed(hello, identity, nonce=nonce, hosts=hosts):
        await in_thread(throttle.failed, scope, line.address)
        raise farewell(CloseCode.BAD_AUTH, "the key or the signature is not valid here")
    _check_state(identity)


def _has_signed(hello: m.Hello, identity: Identity, *, nonce: str, hosts: frozenset[str]) -> bool:
    texts = [
        challenge_text(nonce=nonce, host=host, worker_id=hello.worker_id, boot_id=hello.boot_id)
        for host in sorted(hosts)
    ]
    # Every text against every key, so that an unknown worker is refused as slowly as one with a wrong key.
    has_signed = [
        keys.has_signed(public_key=key, signature=hello.sig, text=text) for text in texts for key in identity.keys
    ]
    return any(has_signed)


def _check_state(identity: Identity) -> None:
    if identity.state == Worker.State.REVOKED:
        raise revoked()
    if identity.state == Worker.State.PENDING:
        raise farewell(
            CloseCode.BAD_AUTH,
            "this worker has not been approved yet",
            retry_seconds=APPROVAL_RETRY_SECONDS,
            is_passing=True,
        )


async def _yield_to_a_living_copy(line: Line, inbox: Inbox, hello: m.Hello) -> None:
    """Another boot with this key that still answers keeps its place, so a copied key cannot tear jobs away."""
    other = await in_thread(sessions.other_session, hello.worker_id, boot_id=hello.boot_id)
    if other is None:
        return
    await wakeups.send(other.channel_name, {"type": "worker.probe", "reply_to": line.channel_name})
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            while (item := await inbox.get()) != Note("worker.alive"):
                if isinstance(item, Farewell):
                    raise item
    except TimeoutError:
        # The channel layer may be away; the rows show whether a heartbeat came meanwhile.
        if not await in_thread(_was_heard_since, other.worker_id, other.session, other.lease_until):
            return
    raise farewell(CloseCode.ALREADY_CONNECTED, "connected already", retry_seconds=COPY_RETRY_SECONDS)


def _identity_of(worker_id: str) -> Identity:
    worker = Worker.objects.filter(pk=worker_id).first()
    if worker is None:
        return Identity(state=None)
    is_old_good = worker.old_key_until is not None and worker.old_key_until > jobs.now()
    return Identity(str(worker.state), (worker.public_key, worker.old_public_key if is_old_good else ""))


def _was_heard_since(worker_id: str, session: int, lease_until: datetime) -> bool:
    return sessions.lease_of(worker_id, session) > lease_until
