"""The worker as a whole: what the session decides is done here, and what happens here is told to the session.

Flow: 5 receive
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from inference.contract import Progress
from inference.errors import InferenceError
from worker_client import actions as act
from worker_client.answers import Answer, Failure, Key, Result
from worker_client.comeback import Verdict
from worker_client.errors import LeaseGone, ServerForbids, TransferError
from worker_client.home import Home, KeySigner
from worker_client.link import Link
from worker_client.naps import Naps
from worker_client.outbox import Outbox
from worker_client.patience import DataToken
from worker_client.profile import Load
from worker_client.protocol.errors import ProtocolError
from worker_client.protocol.messages import Bye, FromServer, FromWorker, JobOffer, JobPreview, Welcome
from worker_client.runner import Computed, Runner
from worker_client.session import Session
from worker_client.transfer import Parcel, Transfer
from worker_client.translate import key_of
from worker_client.ways import Way

logger = logging.getLogger(__name__)

MEASURE_SECONDS = 5.0
WARM_AGAIN_SECONDS = 60.0
SHORTEST_PAUSE_SECONDS = 0.01
LONG_PAUSE_SECONDS = 10.0


class Agent:
    """Wires session, link, runner, transfer and outbox together on one event loop, which never computes."""

    def __init__(
        self,
        *,
        session: Session,
        link: Link,
        runner: Runner,
        transfer: Transfer,
        home: Home,
        measure: Callable[[], Load],
        drain_seconds: float,
    ) -> None:
        self._session = session
        self._link = link
        self._runner = runner
        self._transfer = transfer
        self._home = home
        self._outbox = Outbox(home.outbox)
        self._measure = measure
        self._drain_seconds = drain_seconds
        self._tokens: dict[Key, DataToken] = {}
        self._uploads: dict[Key, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._left = asyncio.Event()
        self._do: dict[type[Any], Callable[[Any], object]] = {
            act.Send: lambda action: self._link.send(action.message),
            act.HangUp: lambda action: self._link.hang_up(action.code, action.reason),
            act.Begin: self._begin,
            act.Halt: lambda action: self._spawn(self._runner.halt(action.key, grace_seconds=action.grace_seconds)),
            act.Upload: self._begin_upload,
            act.UseToken: self._use_token,
            act.Forget: lambda action: self._spawn(self._forget(action.key)),
            act.GiveUp: lambda action: self._spawn(self._give_up(action.answer, action.why)),
            act.MakeKey: lambda action: self._spawn(self._make_key()),
            act.AdoptKey: lambda action: self._spawn(self._adopt_key()),
            act.Leave: lambda action: self._leave(),
        }

    async def run(self) -> None:
        """Work until drained. Raises ServerForbids when the server says not to come back."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                background = [group.create_task(work()) for work in (self._tick, self._measure_load, self._warm)]
                await self._link.run(self)
                for task in (*background, *self._uploads.values()):
                    task.cancel()
        except* ServerForbids as forbidden:
            raise _only(forbidden) from None
        finally:
            await asyncio.to_thread(self._runner.close)

    @property
    def session(self) -> Session:
        """What is held and said, for whoever shows it."""
        return self._session

    @property
    def way(self) -> Way:
        """Which way the connection goes."""
        return self._link.way

    def drain(self) -> None:
        """Take no more work, finish or give back what there is, and end."""
        logger.info("Draining: no new jobs are taken")
        self._act(self._session.drain(at=self._now(), seconds=self._drain_seconds))

    # ── what the link tells ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_urgent(self) -> bool:
        """Whether the server waits for our work."""
        return self._session.is_holding

    def opened(self) -> None:
        """A socket is open."""
        self._act(self._session.opened(at=self._now()))

    def received(self, message: FromServer) -> None:
        """A message came."""
        if isinstance(message, Bye):
            logger.warning("The server says goodbye: %s", message.reason, extra={"code": message.code})
        elif isinstance(message, Welcome):
            self._transfer.trust_storage(message.storage_origin)
        was_signed_in = self._session.is_signed_in
        self._act(self._session.received(message, at=self._now()))
        if self._session.is_signed_in and not was_signed_in:
            logger.info("Connected", extra={"way": self._link.way})

    def garbled(self, error: ProtocolError) -> None:
        """A frame came that is no message."""
        logger.warning("A frame could not be read: %s", error.code)
        self._act(self._session.garbled(error, at=self._now()))

    def unsendable(self, message: FromWorker) -> None:
        """A message is longer than the server takes."""
        self._act(self._session.unsendable(message))

    def closed(self, *, code: int, reason: str) -> Verdict:
        """The socket is gone; whether to come back."""
        verdict = self._session.closed(code=code, reason=reason)
        self._changed.set()
        return verdict

    # ── what the runner tells ───────────────────────────────────────────────────────────────────────────────────

    def heard(self, key: Key, news: Progress | JobPreview) -> None:
        """Something new about a job."""
        if isinstance(news, JobPreview):
            self._act(self._session.previewed(news, at=self._now()))
        else:
            self._report(key, stage=news.stage.value, fraction=news.fraction, eta_seconds=news.eta_seconds)

    def fetched(self, key: Key, *, fraction: float) -> None:
        """How much of the inputs is here."""
        self._report(key, stage="fetch", fraction=fraction, eta_seconds=None)

    def _report(self, key: Key, *, stage: Any, fraction: float, eta_seconds: float | None) -> None:
        percent = 100.0 * min(max(fraction, 0.0), 1.0)
        self._act(self._session.progressed(key, stage=stage, percent=percent, eta_seconds=eta_seconds, at=self._now()))

    # ── what the session asks for ───────────────────────────────────────────────────────────────────────────────

    def _act(self, actions: list[act.Action]) -> None:
        for action in actions:
            self._do[type(action)](action)
        self._changed.set()

    def _begin(self, action: act.Begin) -> None:
        self._spawn(self._work(action.offer))

    async def _work(self, offer: JobOffer) -> None:
        key = key_of(offer)
        logger.info("A job begins", extra={"job": key.job, "fence": key.fence})
        token = self._token(key, offer.data_token)
        outcome = await self._runner.run(offer, token=token, audience=self)
        if outcome is None:
            self._tokens.pop(key, None)
            await asyncio.to_thread(self._runner.tidy, key)
            logger.info("A job was stopped", extra={"job": key.job, "fence": key.fence})
            self._act(self._session.stopped(key, at=self._now()))
            return
        answer = await self._keep(outcome)
        await asyncio.to_thread(self._runner.tidy, key)
        logger.info("A job is computed", extra={"job": key.job, "fence": key.fence, "failed": _is_failure(answer)})
        self._act(self._session.computed(answer, at=self._now()))

    async def _keep(self, outcome: Computed | Failure) -> Answer:
        """Put the answer on the disk before anybody hears of it. A disk that fails makes it a failure."""
        try:
            if isinstance(outcome, Failure):
                await asyncio.to_thread(self._outbox.store, outcome)
                return outcome
            await asyncio.to_thread(self._outbox.store, outcome.result, mask=outcome.mask)
            return outcome.result
        except OSError as error:
            logger.exception("An answer could not be stored")
            return outcome if isinstance(outcome, Failure) else _failure(outcome.result, _cause(error))

    def _begin_upload(self, action: act.Upload) -> None:
        if isinstance(action.answer, Result):
            key = action.answer.key
            self._token(key, action.token).use(action.token)
            self._uploads[key] = self._spawn(self._upload(action.answer))

    async def _upload(self, result: Result) -> None:
        key = result.key
        path = self._outbox.mask_path(key)
        words = {"job": key.job, "fence": str(key.fence), "role": "mask"}
        parcel = Parcel(path=path, size=result.size, sha256=result.sha256, url=result.upload_url, words=words)
        came = 0

        def count(more: int) -> None:
            nonlocal came
            came += more
            self._report(key, stage="upload", fraction=came / result.size, eta_seconds=None)

        async def note(location: str | None) -> None:
            # On a full disk the upload only starts anew after a restart.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._outbox.note_upload, key, location)

        try:
            begun = await asyncio.to_thread(self._outbox.upload_of, key)
            token = self._tokens[key]
            artifact = await self._transfer.upload(parcel, begun=begun, note=note, token=token, count=count)
        except LeaseGone:
            self._uploads.pop(key, None)
            self._act(self._session.lease_gone(key, at=self._now()))
        except (TransferError, OSError) as error:
            await self._give_up(result, _cause(error))
        else:
            self._uploads.pop(key, None)
            self._act(self._session.uploaded(key, artifact=artifact, at=self._now()))

    async def _give_up(self, result: Answer, why: str) -> None:
        """The server will never take this answer: say that the attempt failed, so that another one is made."""
        logger.error("A result could not be delivered: %s", why, extra={"job": result.job, "fence": result.fence})
        failure = _failure(result, why)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._outbox.store, failure)
        self._uploads.pop(result.key, None)
        self._act(self._session.computed(failure, at=self._now()))

    async def _make_key(self) -> None:
        try:
            key = await asyncio.to_thread(self._home.make_next_key)
        except OSError:
            logger.exception("A new key could not be stored; the present one stays")
            return
        self._session.keys.fresh = KeySigner(key)
        self._act(self._session.key_made())

    async def _adopt_key(self) -> None:
        try:
            await asyncio.to_thread(self._home.adopt_next_key)
        except OSError:
            logger.exception("The new key could not take the old one's place on the disk; both are kept")
        else:
            logger.info("A new key has taken the place of the old one")

    async def _forget(self, key: Key) -> None:
        upload = self._uploads.pop(key, None)
        if upload is not None:
            upload.cancel()
            await asyncio.wait({upload})
        self._tokens.pop(key, None)
        try:
            await asyncio.to_thread(self._outbox.remove, key)
        except OSError:
            logger.exception("An acknowledged answer could not be removed; the server will say so again")

    def _use_token(self, action: act.UseToken) -> None:
        self._token(action.key, action.token).use(action.token)

    def _token(self, key: Key, value: str) -> DataToken:
        if key not in self._tokens:
            self._tokens[key] = DataToken(value, ask=lambda: self._act(self._session.token_needed(key, at=self._now())))
        return self._tokens[key]

    def _leave(self) -> None:
        self._left.set()
        self._link.stop()

    # ── what goes on in the background ──────────────────────────────────────────────────────────────────────────

    async def _tick(self) -> None:
        naps = Naps()
        while not self._left.is_set():
            due = self._session.next_tick()
            pause = MEASURE_SECONDS if due is None else max(due - self._now(), SHORTEST_PAUSE_SECONDS)
            expected = self._now() + pause
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pause, MEASURE_SECONDS)):
                    await self._changed.wait()
            self._changed.clear()
            self._notice_pause(self._now() - expected, slept=naps.since_last())

    def _notice_pause(self, late: float, *, slept: float) -> None:
        """Time has passed. After a sleep or a stop the leases may be gone: the session asks before it goes on."""
        if max(late, slept) > LONG_PAUSE_SECONDS:
            logger.warning("This machine or process stood still for %.0f s", max(late, slept))
        actions = self._session.slept(slept, at=self._now()) if slept else self._session.tick(at=self._now())
        for action in actions:
            self._do[type(action)](action)

    async def _measure_load(self) -> None:
        while True:
            self._session.measured(await asyncio.to_thread(self._measure))
            await asyncio.sleep(MEASURE_SECONDS)

    async def _warm(self) -> None:
        """Start the analysis processes, for as long as it takes; only then is work asked for."""
        while True:
            try:
                await asyncio.to_thread(self._runner.warm)
            except (InferenceError, OSError) as error:
                logger.error("The analysis cannot start: %s", error)  # the sentence says all
                await asyncio.sleep(WARM_AGAIN_SECONDS)
            else:
                logger.info("Ready for work")
                self._act(self._session.warmed())
                return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._group.create_task(work)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _failure(answer: Answer, why: str) -> Failure:
    return Failure(
        job=answer.job,
        fence=answer.fence,
        epoch=answer.epoch,
        code="internal",
        retryable=True,
        detail=f"The worker computed a mask and could not keep or deliver it ({why}).",
    )


def _cause(error: Exception) -> str:
    """A short word on what went wrong; what the system says of a file names no path."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


def _is_failure(answer: Answer) -> bool:
    return isinstance(answer, Failure)


def _only(group: BaseExceptionGroup[ServerForbids]) -> ServerForbids:
    first = group.exceptions[0]
    return _only(first) if isinstance(first, BaseExceptionGroup) else first
