"""One browser's socket: what it asks for, answered in order by one task.

The consumer only puts things down here (`take_…`, never awaited); `run` picks them up. Pokes are hints: what is
sent comes from the log, read page by page from the last seq that was sent. Newest-only news replace each other while
they wait, and sending waits until the browser takes what was sent before, so a slow reader costs no memory.

Flow: 9 browser
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from msgspec import UNSET

from frontend_bridge import messages as m
from frontend_bridge import relay
from frontend_bridge.feeds import Change, Opening
from frontend_bridge.inbox import Inbox
from frontend_bridge.masks import MaskPost
from frontend_bridge.ports import (
    RATE,
    SIGNED_OUT,
    TOO_SLOW,
    TROUBLE,
    Farewell,
    Library,
    Rhythm,
    Wire,
)
from frontend_bridge.subscription import Subscription, finished_job, is_contiguous
from server.core.bucket import Bucket
from server.core.errors import Problem

log = structlog.get_logger(__name__)


@dataclass
class _Duty:
    """Something that is done again and again. Times in seconds of the conversation's clock."""

    act: Callable[[], Awaitable[None]]
    every: float
    due: float


class Conversation:
    """What one signed-in browser is owed. All sending happens in `run`.

    `session` is the name of its session. `spread` (0 to 1) moves its permission checks away from those of others that
    came at the same moment.
    """

    def __init__(
        self,
        user: Any,
        *,
        wire: Wire,
        library: Library,
        session: str = "",
        rhythm: Rhythm | None = None,
        clock: Callable[[], float] = time.monotonic,
        spread: float = 0.0,
    ) -> None:
        self.user = user
        self.wire = wire
        self.library = library
        self.session = session
        self.rhythm = rhythm or Rhythm()
        self.clock = clock
        self._wake = asyncio.Event()
        self._inbox = Inbox(frames=4 * self.rhythm.frame_burst, total_bytes=4 * self.rhythm.frame_bytes)
        self._subscriptions: dict[str, Subscription] = {}
        self._bye: m.Bye | None = None
        self._masks = MaskPost(
            frame_bytes=self.rhythm.mask_frame_bytes,
            send=self._send,
            send_bytes=self._send_bytes,
            read=library.mask_file,
        )
        now = clock()
        self._budget = Bucket.full(per_second=self.rhythm.frames_per_second, burst=self.rhythm.frame_burst, at=now)
        self._refused = 0
        self._position_duty = _Duty(self._check_positions, every=self.rhythm.position_seconds, due=now)
        self._permission_duty = _Duty(self._check_permission, every=self.rhythm.permission_seconds, due=now)
        self._group_duty = _Duty(self._join_again, every=self.rhythm.group_seconds, due=now)
        self._silence_duty = _Duty(self._ask_whether_it_reads, every=self.rhythm.position_seconds, due=now)
        self._duties = (self._position_duty, self._permission_duty, self._group_duty, self._silence_duty)
        for duty in self._duties:
            duty.due += duty.every
        self._permission_duty.due -= spread * self._permission_duty.every / 2
        self._pings = False
        self._heard_at = now
        self._asked_at: float | None = None

    # ── put down by the consumer ────────────────────────────────────────────────────────────────────────────────

    def take_frame(self, text: str | None) -> None:
        """A frame of the browser; None for a binary one."""
        bye = self._inbox.put(text, frame_bytes=self.rhythm.frame_bytes)
        if bye is not None:
            self.dismiss(bye)
        self._wake.set()

    def take_poke(self, topic: str, seq: int) -> None:
        """The log of `topic` may have reached `seq`."""
        if topic == self._own_topic:
            self._permission_duty.due = self.clock()
        elif topic in self._subscriptions:
            self._subscriptions[topic].note_poke(seq)
        self._wake.set()

    def take_news(self, topic: str, kind: str, body: dict[str, Any]) -> None:
        """Something of which only the newest counts."""
        if topic == self._own_topic and kind == "signed_out" and body["session"] == self.session:
            self.dismiss(SIGNED_OUT)
        elif topic in self._subscriptions:
            self._subscriptions[topic].note_news(kind, body)
            self._wake.set()

    def dismiss(self, bye: m.Bye) -> None:
        """End the conversation with this `bye`."""
        self._bye = self._bye or bye
        self._wake.set()

    @property
    def topics(self) -> list[str]:
        """Everything that is followed now, the user's own topic included."""
        return [self._own_topic, *self._subscriptions]

    # ── picked up by the one task ───────────────────────────────────────────────────────────────────────────────

    async def run(self) -> m.Bye:
        """Serve until there is a reason to part, and answer that reason; the last frame is still to be sent."""
        try:
            # First the group, then the look: a sign-out since the handshake is in one of the two.
            await self._join(self._own_topic)
            await self._check_permission()
            while True:
                await self._serve_once()
                await self._rest()
        except Farewell as farewell:
            return farewell.bye
        except Exception:  # the socket must part with a word, whatever went wrong
            log.exception("a browser's conversation broke")
            return TROUBLE

    async def _serve_once(self) -> None:
        self._wake.clear()
        self._check_bye()
        while self._inbox:
            await self._answer(self._inbox.take())
            self._check_bye()
        await self._look_after()
        for subscription in list(self._subscriptions.values()):
            await self._catch_up(subscription)
            await self._tell_news(subscription)
        await self._masks.send_frame()

    def _check_bye(self) -> None:
        if self._bye is not None:
            raise Farewell(self._bye)

    async def _rest(self) -> None:
        if self._masks.is_busy or any(one.is_behind for one in self._subscriptions.values()):
            await asyncio.sleep(0)
            return
        waits = [duty.due - self.clock() for duty in self._duties]
        waits += [one.news_due - self.clock() for one in self._subscriptions.values() if one.news]
        try:
            async with asyncio.timeout(max(0.0, min(waits))):
                await self._wake.wait()
        except TimeoutError:
            return

    # frames

    async def _answer(self, text: str) -> None:
        self._heard_at, self._asked_at = self.clock(), None
        self._budget, is_allowed = self._budget.take(self.clock())
        if not is_allowed:
            await self._slow_down()
            return
        if self._budget.level >= self.rhythm.frame_burst - 1:
            self._refused = 0
        try:
            request = m.decode(text)
        except msgspec.DecodeError as error:
            code = "unknown_type" if "Invalid value" in str(error) and "$.t" in str(error) else "bad_frame"
            await self._refuse(code, str(error))
            return
        match request:
            case m.Sub():
                await self._subscribe(request)
            case m.Unsub():
                await self._unsubscribe(request.topic)
            case m.Ping():
                self._pings = True
                await self._send(m.ServerPong(ts=request.ts))
            case m.Auth():
                await self._refuse("already_signed_in", "A ticket is only read as the first frame.")

    async def _slow_down(self) -> None:
        """Say so, and part with a browser that goes on as if nothing had been said."""
        self._refused += 1
        if self._refused > self.rhythm.frame_burst:
            raise Farewell(RATE)
        await self._refuse("rate", "Too many frames; slow down.")

    async def _subscribe(self, request: m.Sub) -> None:
        topic = request.topic
        if topic not in self._subscriptions and len(self._subscriptions) >= self.rhythm.topics:
            await self._refuse("too_many_topics", "This socket follows too many topics.", request=request)
            return
        subscription = Subscription(topic=topic, epoch="", seq=0, id=request.id, wants_mask=request.mask == "push")
        try:
            await self.library.admit(self.user, topic)
            await self._forget_mask(topic)
            # First the group, then the log: a change in between is in one of the two.
            self._subscriptions[topic] = subscription
            await self._join(topic)
            opening = await self.library.opening(self.user, topic)
        except Problem as problem:
            await self._drop(topic)
            await self._refuse(problem.code, problem.detail, request=request)
            return
        missed = await self._missed(request, opening)
        recovered = missed is not None
        subscription.epoch = opening.epoch
        subscription.seq = (request.seq or 0) if recovered else opening.seq
        await self._send(
            m.SubOk(
                topic=topic,
                epoch=opening.epoch,
                seq=subscription.seq,
                recovered=recovered,
                snapshot=opening.snapshot,
                id=request.id,
            )
        )
        await self._tell_changes(subscription, missed or [])
        if not any(finished_job(change) for change in missed or []):
            self._post_mask(subscription, opening.snapshot)

    async def _missed(self, request: m.Sub, opening: Opening) -> list[Change] | None:
        """What the browser has missed since its own position; None when that position does not hold."""
        if request.seq is None or request.epoch not in {None, opening.epoch}:
            return None
        behind = opening.seq - request.seq
        if not 0 <= behind <= self.rhythm.replay:
            return None
        changes = await self.library.since(request.topic, request.seq, limit=behind) if behind else []
        reaches = len(changes) == behind and is_contiguous(changes, after=request.seq)
        return changes if reaches else None

    async def _unsubscribe(self, topic: str | None) -> None:
        for name in [topic] if topic is not None else list(self._subscriptions):
            await self._drop(name)

    async def _drop(self, topic: str) -> None:
        if self._subscriptions.pop(topic, None) is not None:
            await self.wire.leave(topic)
            await self._forget_mask(topic)

    # changes and news

    async def _catch_up(self, subscription: Subscription) -> None:
        if not subscription.is_behind:
            return
        subscription.is_behind = False  # before reading: a poke that comes meanwhile counts again
        changes = await self.library.since(subscription.topic, subscription.seq, limit=self.rhythm.page)
        if len(changes) >= self.rhythm.page:
            subscription.is_behind = True  # perhaps there is more: next turn, so that other messages pass in between
        if subscription.is_answered_by(changes):
            await self._tell_changes(subscription, changes)
        else:
            await self._start_over(subscription)

    async def _tell_changes(self, subscription: Subscription, changes: list[Change]) -> None:
        for change in changes:
            subscription.seq = change.seq
            await self._send(msgspec.structs.replace(change, id=subscription.id))
            self._post_mask(subscription, change)

    async def _start_over(self, subscription: Subscription) -> None:
        """Another life of the log, or a log that no longer reaches back: never a partial recovery, a new snapshot."""
        mask = "push" if subscription.wants_mask else "url"
        await self._subscribe(m.Sub(topic=subscription.topic, id=subscription.id, mask=mask))

    async def _tell_news(self, subscription: Subscription) -> None:
        waiting = subscription.take_news(now=self.clock(), pause_seconds=self.rhythm.news_pause_seconds)
        for kind, body in waiting:
            try:
                frame = relay.news(subscription.topic, kind=kind, body=body, id=subscription.id)
            except relay.Unfit as unfit:
                log.warning("news was not fit for a browser", kind=kind, cause=str(unfit))
                continue
            if frame is not None:
                await self._send(frame)

    # the mask

    def _post_mask(self, subscription: Subscription, view: object) -> None:
        job_id = finished_job(view)
        if job_id is not None and subscription.wants_mask:
            self._masks.post(job_id, id=subscription.id)

    async def _forget_mask(self, topic: str) -> None:
        kind, _, job_id = topic.partition(":")
        if kind == "job":
            await self._masks.forget(job_id)

    # what is looked after by the clock

    async def _look_after(self) -> None:
        now = self.clock()
        for duty in self._duties:
            if duty.due <= now:
                duty.due = now + duty.every
                await duty.act()

    async def _check_positions(self) -> None:
        """Find changes whose poke was lost."""
        if not self._subscriptions:
            return
        found = await self.library.positions(list(self._subscriptions))
        for topic, (epoch, seq) in found.items():
            subscription = self._subscriptions.get(topic)
            if subscription is not None and not subscription.note_position(epoch, seq):
                await self._start_over(subscription)

    async def _ask_whether_it_reads(self) -> None:
        """A tab that sleeps takes frames and reads none: ask, and part when there is no answer."""
        now, patience = self.clock(), self.rhythm.silence_seconds
        if self._asked_at is not None and now - self._asked_at >= patience:
            raise Farewell(TOO_SLOW)
        if self._pings and self._asked_at is None and now - self._heard_at >= self.rhythm.position_seconds:
            self._asked_at = now
            await self._send(m.ServerPing(ts=now))
        if self._asked_at is not None:
            self._silence_duty.due = self._asked_at + patience

    async def _check_permission(self) -> None:
        """Signed out, or no longer allowed to see a topic: then it ends here too."""
        user = await self.library.signed_in_user()
        if user is None or user.pk != self.user.pk:
            raise Farewell(SIGNED_OUT)
        self.user = user
        for subscription in list(self._subscriptions.values()):
            try:
                await self.library.admit(user, subscription.topic)
            except Problem as problem:
                await self._drop(subscription.topic)
                await self._send(
                    m.Error(code=problem.code, detail=problem.detail, topic=subscription.topic, id=subscription.id)
                )

    async def _join_again(self) -> None:
        """Group membership runs out on some layers even while the socket lives."""
        for topic in self.topics:
            await self._join(topic)

    async def _join(self, topic: str) -> None:
        """While the layer is away nothing is lost, only late: the position check finds it."""
        if not await self.wire.join(topic):
            self._group_duty.due = min(self._group_duty.due, self.clock() + self.rhythm.position_seconds)

    # sending

    @property
    def _own_topic(self) -> str:
        return f"user:{self.user.pk}"

    async def _refuse(self, code: str, detail: str, *, request: m.Sub | None = None) -> None:
        topic, id_ = (None, UNSET) if request is None else (request.topic, request.id)
        await self._send(m.Error(code=code, detail=detail, topic=topic, id=id_))

    async def _send(self, frame: m.Frame) -> None:
        await self._within_patience(self.wire.send(m.encode(frame)))

    async def _send_bytes(self, content: bytes) -> None:
        await self._within_patience(self.wire.send_bytes(content))

    async def _within_patience(self, sending: Awaitable[None]) -> None:
        """Sending waits while the browser does not take what it was sent; not for ever."""
        try:
            async with asyncio.timeout(self.rhythm.silence_seconds):
                await sending
        except TimeoutError:
            raise Farewell(TOO_SLOW) from None
