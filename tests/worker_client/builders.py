"""Values that the worker's tests start from: a profile, offers, answers, and a session that is signed in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from worker_client.actions import Action, Send
from worker_client.answers import Failure, Key, Result
from worker_client.keyring import Keyring
from worker_client.profile import Profile
from worker_client.protocol import messages as wire
from worker_client.session import Session

T = TypeVar("T")

EPOCH = "epoch-1"
MODEL = wire.ModelName(name="segwire-compact", version="0.1.0", sha256="a" * 64)
IDENTITY = (1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0)
GRID = wire.GridSpec(shape=(4, 5, 6), affine=IDENTITY)
KEY = Key("01JOB", 1)


@dataclass(frozen=True)
class AKey:
    """A key whose signatures can be read."""

    public_key: str = "key-1"

    def sign(self, text: bytes) -> str:
        return f"signed {text.decode()}" if self.public_key == "key-1" else f"{self.public_key} {text.decode()}"


def profile(*, slots: int = 1, keys: Keyring | None = None, models: tuple[wire.ModelName, ...] = (MODEL,)) -> Profile:
    return Profile(
        worker_id="w1",
        host="segwire.example",
        boot_id="boot-1",
        keys=keys or Keyring(AKey()),
        software=wire.Software(version="0"),
        caps=wire.Capabilities(device="cpu", models=models),
        slots=slots,
        epoch=EPOCH,
    )


def an_input(role: str, *, sha256: str = "b" * 64, size: int = 100) -> wire.InputArtifact:
    return wire.InputArtifact(
        role=role,  # type: ignore[arg-type]
        artifact=f"artifact-{role}",
        size=size,
        sha256=sha256,
        url=f"/api/worker/artifacts/artifact-{role}",
        encoding="zstd",
        dtype="int16",
        grid=GRID,
    )


def an_offer(key: Key = KEY, **changes: Any) -> wire.JobOffer:
    fields: dict[str, Any] = {
        "id": 7,
        "job": key.job,
        "fence": key.fence,
        "attempt": key.fence,
        "epoch": EPOCH,
        "lease_ttl": 20.0,
        "model": MODEL,
        "inputs": tuple(an_input(role) for role in ("T1", "T1CE", "T2", "FLAIR")),
        "output": wire.Output(roles=("mask",), upload_url="/api/worker/uploads/", grid=GRID),
        "data_token": "token-1",
    }
    return wire.JobOffer(**{**fields, **changes})


def a_result(key: Key = KEY, **changes: Any) -> Result:
    fields: dict[str, Any] = {
        "job": key.job,
        "fence": key.fence,
        "epoch": EPOCH,
        "result_id": "result-1",
        "upload_url": "/api/worker/uploads/",
        "size": 9,
        "sha256": "c" * 64,
        "encoding": "zstd",
        "grid": GRID,
        "metrics": wire.Metrics(model=MODEL),
    }
    return Result(**{**fields, **changes})


def a_failure(key: Key = KEY) -> Failure:
    return Failure(job=key.job, fence=key.fence, epoch=EPOCH, code="oom", retryable=True, detail="too small")


def a_welcome(*verdicts: tuple[Key, str], epoch: str = EPOCH) -> wire.Welcome:
    resume = tuple(
        wire.Verdict(job=key.job, fence=key.fence, verdict=verdict)  # type: ignore[arg-type]
        for key, verdict in verdicts
    )
    return wire.Welcome(id=2, session=5, epoch=epoch, resume=resume)


@dataclass
class Talk:
    """A session and everything it asked for, in order."""

    session: Session
    actions: list[Action] = field(default_factory=list)

    def open(self, *, at: float = 0.0) -> Talk:
        self.actions = self.session.opened(at=at)
        return self.hear(wire.Challenge(id=1, nonce="bm9uY2U=", server_time=0, server_id="s"), at=at)

    def sign_in(self, *verdicts: tuple[Key, str], at: float = 0.0, epoch: str = EPOCH) -> Talk:
        return self.open(at=at).hear(a_welcome(*verdicts, epoch=epoch), at=at)

    def hear(self, message: Any, *, at: float = 0.0) -> Talk:
        self.actions = self.session.received(message, at=at)
        return self

    def tick(self, *, at: float) -> Talk:
        self.actions = self.session.tick(at=at)
        return self

    def said(self, kind: type[T]) -> list[T]:
        """Messages of one kind among the last actions."""
        messages = [action.message for action in self.actions if isinstance(action, Send)]
        return [message for message in messages if isinstance(message, kind)]

    def asked(self, kind: type[T]) -> list[T]:
        """Actions of one kind among the last ones."""
        return [action for action in self.actions if isinstance(action, kind)]


def signed_in(*, slots: int = 1, answers: tuple[Result | Failure, ...] = ()) -> Talk:
    return Talk(Session(profile(slots=slots), answers=answers)).sign_in()


def computing(key: Key = KEY, *, slots: int = 1) -> Talk:
    return signed_in(slots=slots).hear(an_offer(key))
