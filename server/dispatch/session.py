"""One worker's conversation, from the challenge to the bye.

The line only puts things down here (`take`, never awaited); one task picks them up in order, asks the services on
database threads, and answers. Everything that matters is in the rows, so a conversation may end anywhere.

Flow: 4 push
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from django.conf import settings

from server.core.reconcile import Hold
from server.dispatch import enrolment, keys, selectors, sessions, standing, translate, wakeups
from server.dispatch.beats import IdleBeat, gathering
from server.dispatch.enrolment import WORKERS_TOPIC
from server.dispatch.farewells import Farewell, farewell, first_of, revoked, superseded, unreadable
from server.dispatch.inbox import Frame, Inbox, Item, Note, Refusal
from server.dispatch.models import Worker
from server.dispatch.reception import Line, receive, tell_unknown
from server.dispatch.reports import Reports
from server.dispatch.standing import standings
from server.dispatch.threads import in_thread
from server.topics import pokes
from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_worker
from worker_client.protocol.errors import CloseCode, ProtocolError, UnknownType

log = structlog.get_logger(__name__)

PING_SECONDS = 10.0
SLOW_SECONDS = 25.0
"""A worker that answers no ping for so long does not read, and Daphne would keep what is said to it without bounds."""
LOOK_SECONDS = 2.0
"""How often the rows are asked what a lost poke would have said."""


class Session:
    """One connection of one worker. `hosts` are the names this server goes by."""

    def __init__(self, line: Line, *, hosts: frozenset[str], on_known: Callable[[], None] = lambda: None) -> None:
        self.line = line
        self.hosts = hosts
        self.worker_id = ""
        self.number = 0
        self._on_known = on_known
        self._inbox = Inbox()
        self._heard_at = time.monotonic()
        self._ping_at = self._look_at = 0.0
        self._unread_since: float | None = None
        self._probed_by = ""
        self._epoch = ""
        self._rtt_ms: float | None = None
        self._offered: set[Hold] = set()
        self._told_drain = self._told_new_key = False
        self._answers: dict[type[Any], Callable[[Any], Awaitable[None]]] = {
            m.Ready: self._take_ready,
            m.Heartbeat: self._take_heartbeat,
            m.Drain: self._take_drain,
            m.RotateKey: self._take_key,
            m.Ping: self._take_ping,
            m.Pong: self._take_pong,
            m.Bye: self._take_bye,
            m.Error: self._take_error,
        }

    # ── put down by the line ────────────────────────────────────────────────────────────────────────────────────

    def take(self, item: Frame | Note | Farewell) -> None:
        """Put something down for the conversation."""
        self._inbox.put(item)

    # ── picked up by the one task ───────────────────────────────────────────────────────────────────────────────

    async def run(self) -> Farewell:
        """Talk until there is a reason to part, and answer it; the last word is still to be said."""
        ending = farewell(CloseCode.GOING_AWAY, "the server met an error", retry_seconds=1.0, jitter_seconds=4.0)
        try:
            await self._talk()
        except* Farewell as group:
            ending = first_of(group)
        except* Exception:
            # Without a word the worker would only see a cut; the rows tell it the rest when it is back.
            log.exception("a worker's conversation broke", worker=self.worker_id)
        finally:
            await asyncio.shield(self._leave(ending))
        return ending

    async def _talk(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            admission = await receive(self.line, self._inbox, hosts=self.hosts)
            self.worker_id, self.number, self._epoch = admission.worker_id, admission.session, admission.epoch
            self._on_known()
            standings.follow(self.worker_id)
            wakeups.doors.open(self.line.channel_name, self._inbox.put)
            self.reports = Reports(self.line, worker_id=self.worker_id, session=self.number, tasks=tasks)
            self._answers |= self.reports.answers
            self._offered = set(admission.kept)
            await self.line.say(admission.welcome)
            await self._look()
            self._heard_at = time.monotonic()
            # Not all workers of a restarted server at the same moment.
            self._look_at = self._heard_at + LOOK_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311  (no secret)
            await self._measure_round_trip()
            while True:
                await self._serve(await self._next())

    async def _leave(self, ending: Farewell) -> None:
        if self.number:
            standings.forget(self.worker_id)
            wakeups.doors.close(self.line.channel_name)
            await in_thread(sessions.leave, self.worker_id, self.number, is_orderly=ending.is_orderly)
            wakeups.bell.ring()

    async def _next(self) -> Item | None:
        """What is to be served next; None when it is time to look around. Raises Farewell."""
        now = time.monotonic()
        silent_at = self._heard_at + settings.POLICY.silence_seconds
        try:
            async with asyncio.timeout(max(0.0, min(silent_at, self._ping_at, self._look_at) - now)):
                item = await self._inbox.get()
        except TimeoutError:
            if time.monotonic() >= silent_at:
                raise farewell(CloseCode.HEARTBEAT_LOST, "nothing was heard for too long") from None
            return None
        if isinstance(item, Farewell):
            raise item
        return item

    async def _serve(self, item: Item | None) -> None:
        match item:
            case None:
                await self._keep_up()
            case Frame(text=text):
                self._heard_at = time.monotonic()
                await self._answer(text)
            case Refusal(number=number):
                await self.line.say(m.Error(re=number or None, code="rate", temporary=True, detail="not so fast"))
            case selectors.Offer() | Note(kind="worker.offers"):
                is_here = isinstance(item, selectors.Offer)
                await self._say_offers([item] if is_here else await in_thread(selectors.offers_for, self.worker_id))
            case Note(kind="worker.poke"):
                await self._look()
            case Note(kind="worker.probe", reply_to=channel):
                self._probed_by = channel
                await self._measure_round_trip()
            case Note(kind="worker.superseded"):
                raise superseded()

    async def _keep_up(self) -> None:
        """Ask the worker whether it is there, and the rows whether a poke was lost, each at its time."""
        now = time.monotonic()
        if self._unread_since is not None and now - self._unread_since > SLOW_SECONDS:
            raise farewell(CloseCode.TOO_SLOW, "pings are not answered", retry_seconds=5.0)
        if now >= self._ping_at:
            await self._measure_round_trip()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            await self._look_around()

    async def _look_around(self) -> None:
        found = await standings.of(self.worker_id)
        if found is None or found.session < self.number:
            return
        self._check_state(found.state)
        if found.session != self.number:
            raise superseded()
        is_news = found.wants_drain is not self._told_drain or (found.wants_new_key and not self._told_new_key)
        if found.is_awaited or is_news:
            await self._look()

    async def _measure_round_trip(self) -> None:
        now = time.monotonic()
        self._ping_at = now + PING_SECONDS
        self._unread_since = self._unread_since or now
        await self.line.say(m.Ping(ts=now))

    async def _answer(self, text: str) -> None:
        try:
            message = decode_from_worker(text)
        except UnknownType as unknown:
            await tell_unknown(self.line, unknown)
            return
        except ProtocolError as error:
            raise unreadable(error.code) from error
        answer = self._answers.get(type(message))
        if answer is None:
            raise farewell(CloseCode.PROTOCOL_ERROR, "hello comes once")
        try:
            await answer(message)
        except sessions.WorkerRevoked as error:
            raise revoked() from error
        except sessions.SessionOver as over:
            raise superseded() from over

    # ── what the worker is told unasked ─────────────────────────────────────────────────────────────────────────

    async def _look(self) -> None:
        """Say what the rows have for this worker: offers that were not said yet, stops, and wishes."""
        due = await in_thread(standing.due_for, self.worker_id)
        self._check_state(due.state)
        await self._say_offers(due.offers)
        await self._say_stops(due.stops)
        if due.wants_drain is not self._told_drain:
            self._told_drain = due.wants_drain
            await self.line.say(m.Drain(deadline=due.drain_seconds, is_over=not due.wants_drain))
        if due.wants_new_key and not self._told_new_key:
            self._told_new_key = True
            await self.line.say(m.RotateKeyWanted())

    async def _say_offers(self, offers: Iterable[selectors.Offer]) -> None:
        for offer in offers:
            hold = Hold(offer.job_id, offer.fence)
            if hold not in self._offered:
                self._offered.add(hold)
                claim = translate.to_claim(offer, worker_id=self.worker_id)
                await self.line.say(translate.to_offer(offer, epoch=self._epoch, token=keys.data_token(claim)))

    async def _say_stops(self, stops: Iterable[Hold]) -> None:
        for hold in stops:
            self.reports.forget(hold)
            await self.line.say(m.JobCancel(job=hold.job_id, fence=hold.fence, reason="cancelled"))

    def _check_state(self, state: str | None) -> None:
        if state in {None, Worker.State.REVOKED}:
            raise revoked()

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
        re = heartbeat.id or None
        if not holds and not progress:
            # It waits for those of others, and an offer must not wait for it.
            self._tasks.create_task(self._beat_with_others(IdleBeat(self.worker_id, self.number, pulse), re=re))
            return
        beat = await in_thread(sessions.beat, self.worker_id, self.number, holds=holds, pulse=pulse, progress=progress)
        await self._tell_beat(beat, re=re)

    async def _beat_with_others(self, idle: IdleBeat, *, re: int | None) -> None:
        try:
            beat = await gathering.heard(idle)
        except sessions.SessionOver as over:
            raise superseded() from over
        await self._tell_beat(beat, re=re)

    async def _tell_beat(self, beat: sessions.Beat, *, re: int | None) -> None:
        self._check_state(beat.state)
        lost = translate.from_holds(beat.lost)
        await self.line.say(m.HeartbeatOk(re=re, server_time=time.time(), lost=lost))
        await self._say_stops(beat.stops)
        await pokes.anews(WORKERS_TOPIC, kind="telemetry", body={"id": self.worker_id, "worker": beat.snapshot})

    async def _take_drain(self, drain: m.Drain) -> None:
        await in_thread(sessions.note_draining, self.worker_id, self.number, is_over=drain.is_over)

    async def _take_key(self, wish: m.RotateKey) -> None:
        change = enrolment.NewKey(
            worker_id=self.worker_id, session=self.number, public_key=wish.public_key, sig=wish.sig, proof=wish.proof
        )
        re = wish.id or None
        if not await in_thread(enrolment.rotate_key, change):
            await self.line.say(m.Error(re=re, code="key_refused", detail="the new key is not proven or not free"))
            return
        self._told_new_key = False
        seconds = settings.LIMITS.old_key_seconds
        await self.line.say(m.RotateKeyOk(re=re, public_key=wish.public_key, old_key_seconds=seconds))

    async def _take_ping(self, ping: m.Ping) -> None:
        await self.line.say(m.Pong(re=ping.id or None, ts=ping.ts))

    async def _take_pong(self, pong: m.Pong) -> None:
        self._unread_since = None
        self._rtt_ms = round(max(0.0, time.monotonic() - pong.ts) * 1000.0, 1)
        if self._probed_by:
            await wakeups.send(self._probed_by, {"type": "worker.alive"})
            self._probed_by = ""

    async def _take_bye(self, bye: m.Bye) -> None:
        raise Farewell(None, is_orderly=True)

    async def _take_error(self, error: m.Error) -> None:
        log.warning("a worker could not serve a frame", worker=self.worker_id, code=error.code, re=error.re)
