"""One worker's conversation, from the challenge to the bye.

The consumer only puts things down here (`take`, never awaited); one task picks them up in order, asks the services
on the socket's own thread, and answers. Everything that matters is in the rows, so a conversation may end anywhere.

Flow: 4 push
"""

import asyncio
import base64
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from django.conf import settings

from server.core.reconcile import Hold, Ruling
from server.dispatch import keys, selectors, sessions, translate, wakeups
from server.dispatch.beats import IdleBeat, gathering
from server.dispatch.enrolment import WORKERS_TOPIC
from server.dispatch.models import Worker
from server.dispatch.node import NODE
from server.dispatch.reports import Reports
from server.dispatch.threads import in_thread
from server.jobs.epoch import current_epoch
from server.topics import pokes
from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_worker
from worker_client.protocol.errors import CloseCode, ProtocolError, UnknownType
from worker_client.protocol.identity import NONCE_BYTES, challenge_text

log = structlog.get_logger(__name__)

PING_SECONDS = 10.0
LATE_SECONDS = 5.0
PROBE_SECONDS = 5.0
COPY_RETRY_SECONDS = 60.0
SUPERSEDED_RETRY_SECONDS = 30.0
MOST_WAITING = 300
"""How many frames a worker may be ahead of its server."""


class Line(Protocol):
    """The socket: where messages go out, and the name under which other sockets reach it."""

    channel_name: str

    async def say(self, message: m.Message) -> None:
        """Send a message."""


@dataclass(frozen=True)
class Frame:
    """A text frame of the worker."""

    text: str


@dataclass(frozen=True)
class Note:
    """A word from another part of the server, by way of the channel layer."""

    kind: str
    reply_to: str = ""


class Farewell(Exception):
    """The conversation ends; `bye` is still to be said, unless the socket is gone (None)."""

    def __init__(self, bye: m.Bye | None, *, is_orderly: bool) -> None:
        self.bye = bye
        self.is_orderly = is_orderly
        super().__init__(bye.reason if bye else "the socket is gone")


GONE = Farewell(None, is_orderly=False)


def farewell(
    code: CloseCode,
    reason: str,
    *,
    retry_seconds: float = 0.0,
    jitter_seconds: float = 0.0,
    is_passing: bool = False,
) -> Farewell:
    """The end for this reason. Whether the worker may come back by itself follows from the code, unless it passes."""
    bye = m.Bye(
        code=code,
        reason=reason,
        reconnect=is_passing or code.may_reconnect,
        retry_after_s=retry_seconds,
        jitter_s=jitter_seconds,
    )
    return Farewell(bye, is_orderly=code is not CloseCode.HEARTBEAT_LOST)


class Session:
    """One connection of one worker. `hosts` are the names this server goes by."""

    def __init__(self, line: Line, *, hosts: frozenset[str]) -> None:
        self.line = line
        self.hosts = hosts
        self.worker_id = ""
        self.number = 0
        self._inbox: asyncio.Queue[Frame | Note | Farewell] = asyncio.Queue()
        self._heard_at = time.monotonic()
        self._ping_at = 0.0
        self._probed_by = ""
        self._epoch = ""
        self._rtt_ms: float | None = None
        self._offered: set[Hold] = set()
        self._answers: dict[type[Any], Callable[[Any], Awaitable[None]]] = {
            m.Ready: self._take_ready,
            m.Heartbeat: self._take_heartbeat,
            m.Drain: self._take_drain,
            m.Ping: self._take_ping,
            m.Pong: self._take_pong,
            m.Bye: self._take_bye,
            m.Error: self._take_error,
        }

    # ── put down by the consumer ────────────────────────────────────────────────────────────────────────────────

    def take(self, item: Frame | Note | Farewell) -> None:
        """Put something down for the conversation."""
        if self._inbox.qsize() >= MOST_WAITING and not isinstance(item, Farewell):
            item = farewell(CloseCode.TOO_MANY_MESSAGES, "too many messages at once", retry_seconds=10.0)
        self._inbox.put_nowait(item)

    # ── picked up by the one task ───────────────────────────────────────────────────────────────────────────────

    async def run(self) -> Farewell:
        """Talk until there is a reason to part, and answer it; the last word is still to be said."""
        ending = farewell(CloseCode.GOING_AWAY, "the server met an error", retry_seconds=1.0, jitter_seconds=4.0)
        try:
            await self._talk()
        except* Farewell as group:
            ending = _first(group)
        except* Exception:
            # Without a word the worker would only see a cut; the rows tell it the rest when it is back.
            log.exception("a worker's conversation broke", worker=self.worker_id)
        finally:
            await asyncio.shield(self._leave(ending))
        return ending

    async def _talk(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            welcome, kept = await self._sign_in()
            self.reports = Reports(self.line, worker_id=self.worker_id, session=self.number, tasks=tasks)
            self._answers |= self.reports.answers
            self._offered = kept
            await self.line.say(welcome)
            await self._look()
            self._heard_at = time.monotonic()
            await self._measure_round_trip()
            while True:
                await self._serve(await self._next())

    async def _leave(self, ending: Farewell) -> None:
        if self.number:
            await in_thread(sessions.leave, self.worker_id, self.number, is_orderly=ending.is_orderly)
            wakeups.bell.ring()

    async def _next(self) -> Frame | Note | None:
        """What is to be served next; None when it is time for a ping. Raises Farewell."""
        now = time.monotonic()
        silent_at = self._heard_at + settings.POLICY.silence_seconds
        try:
            async with asyncio.timeout(max(0.0, min(silent_at, self._ping_at) - now)):
                item = await self._inbox.get()
        except TimeoutError:
            if time.monotonic() >= silent_at:
                raise farewell(CloseCode.HEARTBEAT_LOST, "nothing was heard for too long") from None
            return None
        if isinstance(item, Farewell):
            raise item
        return item

    async def _serve(self, item: Frame | Note | None) -> None:
        match item:
            case None:
                await self._measure_round_trip()
            case Frame(text=text):
                self._heard_at = time.monotonic()
                await self._answer(text)
            case Note(kind="worker.offers"):
                await self._say_offers(await in_thread(selectors.offers_for, self.worker_id))
            case Note(kind="worker.poke"):
                await self._look()
            case Note(kind="worker.probe", reply_to=channel):
                self._probed_by = channel
                await self._measure_round_trip()
            case Note(kind="worker.superseded"):
                raise farewell(
                    CloseCode.SUPERSEDED, "a newer session has taken over", retry_seconds=SUPERSEDED_RETRY_SECONDS
                )

    async def _measure_round_trip(self) -> None:
        self._ping_at = time.monotonic() + PING_SECONDS
        await self.line.say(m.Ping(ts=time.monotonic()))

    async def _answer(self, text: str) -> None:
        try:
            message = decode_from_worker(text)
        except UnknownType as unknown:
            await self._tell_unknown(unknown)
            return
        except ProtocolError as error:
            raise farewell(CloseCode.PROTOCOL_ERROR, f"a frame could not be read: {error.code}") from error
        answer = self._answers.get(type(message))
        if answer is None:
            raise farewell(CloseCode.PROTOCOL_ERROR, "hello comes once")
        try:
            await answer(message)
        except sessions.SessionOver as over:
            raise farewell(
                CloseCode.SUPERSEDED, "a newer session has taken over", retry_seconds=SUPERSEDED_RETRY_SECONDS
            ) from over

    async def _tell_unknown(self, unknown: UnknownType) -> None:
        await self.line.say(m.Error(re=unknown.re, code=unknown.code, detail="this type is not known here"))

    # ── signing in ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _sign_in(self) -> tuple[m.Welcome, set[Hold]]:
        """The welcome that is due, and the attempts the worker has already."""
        nonce = base64.b64encode(secrets.token_bytes(NONCE_BYTES)).decode()
        await self.line.say(m.Challenge(nonce=nonce, server_time=time.time(), server_id=NODE))
        try:
            async with asyncio.timeout(settings.LIMITS.hello_seconds):
                hello = await self._hello()
        except TimeoutError:
            # A machine that was put to sleep just now, or a busy server: nothing that a person must look at.
            raise farewell(
                CloseCode.BAD_AUTH, "no hello in time", retry_seconds=LATE_SECONDS, is_passing=True
            ) from None
        worker = await in_thread(_worker_of, hello.worker_id)
        self._check(hello, worker, nonce)
        await self._yield_to_a_living_copy(hello)
        older = await in_thread(sessions.living_channel, hello.worker_id)
        self._epoch = await in_thread(current_epoch)
        arrival = translate.to_arrival(hello, epoch=self._epoch)
        seat = await in_thread(sessions.take_seat, arrival, node=NODE, channel_name=self.line.channel_name)
        self.worker_id, self.number = hello.worker_id, seat.session
        if older is not None:
            await wakeups.send(older, {"type": "worker.superseded"})
        kept = {hold for hold, ruling in seat.verdicts if ruling in {Ruling.KEEP, Ruling.SEND_RESULT}}
        re = hello.id or None
        return translate.to_welcome(session=seat.session, epoch=self._epoch, verdicts=seat.verdicts, re=re), kept

    async def _hello(self) -> m.Hello:
        while True:
            item = await self._inbox.get()
            if isinstance(item, Farewell):
                raise item
            if isinstance(item, Note):
                continue
            try:
                message = decode_from_worker(item.text)
            except UnknownType as unknown:
                await self._tell_unknown(unknown)
                continue
            except ProtocolError as error:
                raise farewell(CloseCode.PROTOCOL_ERROR, f"a frame could not be read: {error.code}") from error
            if not isinstance(message, m.Hello):
                raise farewell(CloseCode.BAD_AUTH, "hello comes first")
            return message

    def _check(self, hello: m.Hello, worker: Worker | None, nonce: str) -> None:
        texts = [
            challenge_text(nonce=nonce, host=host, worker_id=hello.worker_id, boot_id=hello.boot_id)
            for host in sorted(self.hosts)
        ]
        key = worker.public_key if worker else ""
        has_signed = [keys.has_signed(public_key=key, signature=hello.sig, text=text) for text in texts]
        if worker is None or not any(has_signed):
            raise farewell(CloseCode.BAD_AUTH, "the key or the signature is not valid here")
        if worker.state == Worker.State.REVOKED:
            raise farewell(CloseCode.REVOKED, "this worker may no longer work for this server")
        if worker.state == Worker.State.PENDING:
            raise farewell(CloseCode.BAD_AUTH, "this worker has not been approved yet")

    async def _yield_to_a_living_copy(self, hello: m.Hello) -> None:
        """Another boot with this key that still answers keeps its place, so a copied key cannot tear jobs away."""
        other = await in_thread(sessions.other_session, hello.worker_id, boot_id=hello.boot_id)
        if other is None:
            return
        await wakeups.send(other.channel_name, {"type": "worker.probe", "reply_to": self.line.channel_name})
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                while (item := await self._inbox.get()) != Note("worker.alive"):
                    if isinstance(item, Farewell):
                        raise item
        except TimeoutError:
            return
        raise farewell(CloseCode.ALREADY_CONNECTED, "connected already", retry_seconds=COPY_RETRY_SECONDS)

    # ── what the worker is told unasked ─────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        """Say what the rows have for this worker: offers that were not said yet, and stops."""
        state, offers, stops = await in_thread(_due, self.worker_id)
        self._check_state(state)
        await self._say_offers(offers)
        await self._say_stops(stops)

    async def _say_offers(self, offers: Iterable[selectors.Offer]) -> None:
        for offer in offers:
            hold = Hold(offer.job_id, offer.fence)
            if hold not in self._offered:
                self._offered.add(hold)
                claim = keys.DataClaim(job=offer.job_id, fence=offer.fence, worker=self.worker_id)
                await self.line.say(translate.to_offer(offer, epoch=self._epoch, token=keys.data_token(claim)))

    async def _say_stops(self, stops: Iterable[Hold]) -> None:
        for hold in stops:
            self.reports.forget(hold)
            await self.line.say(m.JobCancel(job=hold.job_id, fence=hold.fence, reason="cancelled"))

    def _check_state(self, state: str | None) -> None:
        if state in {None, Worker.State.REVOKED}:
            raise farewell(CloseCode.REVOKED, "this worker may no longer work for this server")

    # ── what the worker says of itself ──────────────────────────────────────────────────────────────────────────

    async def _take_ready(self, ready: m.Ready) -> None:
        await in_thread(
            sessions.note_ready,
            self.worker_id,
            self.number,
            credits=ready.credits,
            pulse=translate.to_pulse(ready),
            is_draining=ready.draining,
        )
        if ready.credits and not ready.draining:
            wakeups.bell.ring()

    async def _take_heartbeat(self, heartbeat: m.Heartbeat) -> None:
        holds, progress = translate.to_holds(heartbeat.jobs), self.reports.unsaved()
        pulse = translate.to_pulse(heartbeat, rtt_ms=self._rtt_ms)
        if holds or progress:
            beat = await in_thread(
                sessions.beat, self.worker_id, self.number, holds=holds, pulse=pulse, progress=progress
            )
        else:
            beat = await gathering.heard(IdleBeat(self.worker_id, self.number, pulse))
        self._check_state(beat.state)
        lost = translate.from_holds(beat.lost)
        await self.line.say(m.HeartbeatOk(re=heartbeat.id or None, server_time=time.time(), lost=lost))
        await self._say_stops(beat.stops)
        await pokes.anews(WORKERS_TOPIC, kind="telemetry", body={"id": self.worker_id, "worker": beat.snapshot})

    async def _take_drain(self, drain: m.Drain) -> None:
        await in_thread(sessions.note_draining, self.worker_id, self.number)

    async def _take_ping(self, ping: m.Ping) -> None:
        await self.line.say(m.Pong(re=ping.id or None, ts=ping.ts))

    async def _take_pong(self, pong: m.Pong) -> None:
        self._rtt_ms = round(max(0.0, time.monotonic() - pong.ts) * 1000.0, 1)
        if self._probed_by:
            await wakeups.send(self._probed_by, {"type": "worker.alive"})
            self._probed_by = ""

    async def _take_bye(self, bye: m.Bye) -> None:
        raise Farewell(None, is_orderly=True)

    async def _take_error(self, error: m.Error) -> None:
        log.warning("a worker could not serve a frame", worker=self.worker_id, code=error.code, re=error.re)


def _worker_of(worker_id: str) -> Worker | None:
    return Worker.objects.filter(pk=worker_id).first()


def _due(worker_id: str) -> tuple[str | None, list[selectors.Offer], list[Hold]]:
    state = Worker.objects.values_list("state", flat=True).filter(pk=worker_id).first()
    return state, selectors.offers_for(worker_id), selectors.stops_for(worker_id)


def _first(group: BaseExceptionGroup[Any]) -> Farewell:
    """The one reason among those that several tasks gave."""
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
