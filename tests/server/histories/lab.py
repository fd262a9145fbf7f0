"""The worker's side of a history: the real session; its outbox outlives it, everything else does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from server.dispatch import dataplane, keys
from server.dispatch.errors import AttemptOver, DataTokenRefused
from server.dispatch.models import Worker
from server.imaging.models import Upload
from tests.server.dispatch.fakes import MODEL, Machine, base64_of
from tests.server.histories.cloud import HOST, Wire
from tests.system.faults.history import Recorder
from worker_client import actions as act
from worker_client.answers import Answer, Failure, Key, Result
from worker_client.comeback import StayAway
from worker_client.keyring import Keyring
from worker_client.profile import Profile
from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_server, encode
from worker_client.protocol.messages import JobOffer
from worker_client.session import Session


class _Signer:
    """The machine's key as the worker knows it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.public_key = machine.public_key

    def sign(self, text: bytes) -> str:
        return base64_of(self._machine.key.sign(text))


class Lab:
    """One worker. `outbox` is on its disk; the session, the computing and the uploads are in its memory."""

    def __init__(self, machine: Machine, name: str, *, recorder: Recorder, clock: Callable[[], float]) -> None:
        self.machine = machine
        self.name = name
        self.recorder = recorder
        self.clock = clock
        self.worker_id = Worker.objects.create(name=name, public_key=machine.public_key, route="lab").pk
        self.outbox: dict[Key, Answer] = {}
        self.wire: Wire | None = None
        self.is_disk_full = self.is_out = False
        self.made: list[Result] = []
        self._boots = 0
        self._doing: dict[type[Any], Callable[[Any], None]] = {
            act.Send: self._send,
            act.HangUp: self._hang_up,
            act.Begin: self._begin,
            act.Halt: self._halt,
            act.Upload: self._begin_upload,
            act.UseToken: self._use_token,
            act.Forget: self._forget,
        }
        self.boot()

    def boot(self) -> None:
        """A new process with what is on the disk."""
        self._boots += 1
        self.wire = None
        self.computing: dict[Key, JobOffer] = {}
        self.uploads: dict[Key, tuple[Result, str]] = {}
        profile = Profile(
            worker_id=self.worker_id,
            host=HOST,
            boot_id=f"{self.name}-{self._boots}",
            keys=Keyring(_Signer(self.machine)),
            software=m.Software(version="0"),
            caps=m.Capabilities(device="a test", models=(MODEL,)),
        )
        self.session = Session(profile, answers=self.read_outbox())

    def read_outbox(self) -> tuple[Answer, ...]:
        """What the disk has kept."""
        return tuple(self.outbox.values())

    # ── the connection ──────────────────────────────────────────────────────────────────────────────────────────

    def connected(self, wire: Wire) -> None:
        """There is a connection."""
        self.wire = wire
        self.do(self.session.opened(at=self.clock()))

    def hear(self) -> None:
        """The next frame, or the close, reaches the worker."""
        assert self.wire is not None
        text = self.wire.to_worker.popleft()
        if text is None:
            self.cut()
            return
        message = decode_from_server(text)
        if isinstance(message, m.ResultOk):
            self._note_acknowledged(Key(message.job, message.fence))
        self.do(self.session.received(message, at=self.clock()))

    def cut(self, *, code: int = 1006) -> None:
        """The worker sees that the connection is gone. One that is told to stay away is started anew by a person."""
        self.wire = None
        if isinstance(self.session.closed(code=code, reason=""), StayAway):
            self.boot()

    def tick(self) -> None:
        """Time has passed."""
        self.do(self.session.tick(at=self.clock()))

    # ── the work ────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, key: Key) -> None:
        """The analysis is done: the answer goes to the disk before anybody hears of it, if there is room."""
        offer = self.computing.pop(key)
        self._keep(self._failure(offer, "disk full") if self.is_disk_full else self._result(offer))

    def child_dies(self, key: Key) -> None:
        """The process that computes is killed; its parent sees that at once."""
        self._keep(self._failure(self.computing.pop(key), "child died"))

    def forget_silently(self, key: Key) -> None:
        """The worker lives and no longer knows of a job, without having said so to anybody."""
        self.computing.pop(key)
        self.session._held.jobs.pop(key, None)

    def upload(self, key: Key) -> None:
        """The mask goes up, and the server's data plane says whether the attempt still counts."""
        result, token = self.uploads.pop(key)
        try:
            claim = keys.read_data_token(f"Bearer {token}", op=keys.STORE)
            dataplane.open_attempt(claim)
        except AttemptOver:
            self.do(self.session.lease_gone(key, at=self.clock()))
            return
        except DataTokenRefused:
            self.do(self.session.token_needed(key))
            return
        upload = Upload.objects.create(
            length=result.size,
            offset=result.size,
            job_id=key.job,
            fence=key.fence,
            role="mask",
            sha256=result.sha256,
            is_complete=True,
            path="uploads/none",
            expires_at="2099-01-01T00:00:00Z",
        )
        self.do(self.session.uploaded(key, artifact=upload.pk, at=self.clock()))

    def _keep(self, answer: Answer) -> None:
        if not self.is_disk_full:
            self.outbox[answer.key] = answer
        if isinstance(answer, Result):
            self.made.append(answer)
        self.do(self.session.computed(answer, at=self.clock()))

    def _result(self, offer: JobOffer) -> Result:
        digest = hashlib.sha256(f"{offer.job}.{offer.fence}.{self.name}.{self._boots}".encode()).hexdigest()
        return Result(
            job=offer.job,
            fence=offer.fence,
            epoch=offer.epoch,
            result_id=digest[:32],
            upload_url=offer.output.upload_url,
            size=9,
            sha256=digest,
            encoding="zstd",
            grid=offer.output.grid,
            metrics=m.Metrics(model=MODEL),
        )

    def _failure(self, offer: JobOffer, detail: str) -> Failure:
        return Failure(
            job=offer.job, fence=offer.fence, epoch=offer.epoch, code="internal", retryable=True, detail=detail
        )

    def _note_acknowledged(self, key: Key) -> None:
        owed = self.session._held.owed.get(key)
        if owed is not None and isinstance(owed.answer, Result):
            said = {"fence": key.fence, "result_id": owed.answer.result_id}
            self.recorder.note("acknowledged", who=self.name, job=key.job, **said)

    # ── what the session asks for ───────────────────────────────────────────────────────────────────────────────

    def do(self, actions: list[Any]) -> None:
        """As the agent does it, but for computing and uploading, which the history does when it likes."""
        for action in actions:
            answer = self._doing.get(type(action))
            if answer is not None:
                answer(action)

    def _send(self, action: act.Send) -> None:
        if self.wire is not None:
            self.wire.hear(encode(action.message))

    def _begin(self, action: act.Begin) -> None:
        self.computing[Key(action.offer.job, action.offer.fence)] = action.offer

    def _halt(self, action: act.Halt) -> None:
        if self.computing.pop(action.key, None) is not None:
            self.do(self.session.stopped(action.key, at=self.clock()))

    def _begin_upload(self, action: act.Upload) -> None:
        if isinstance(action.answer, Result):
            self.uploads[action.answer.key] = (action.answer, action.token)

    def _use_token(self, action: act.UseToken) -> None:
        if action.key in self.uploads:
            self.uploads[action.key] = (self.uploads[action.key][0], action.token)

    def _forget(self, action: act.Forget) -> None:
        self.outbox.pop(action.key, None)
        self.uploads.pop(action.key, None)

    def _hang_up(self, action: act.HangUp) -> None:
        if self.wire is not None:
            self.wire.to_server.append(None)
            self.wire.to_worker.clear()
            self.wire.is_cut = True
        self.cut(code=action.code)
