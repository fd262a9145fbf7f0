"""What a worker tells of itself: who it is, what it can do, how busy it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker_client.protocol.identity import challenge_text
from worker_client.protocol.messages import Capabilities, Challenge, GpuLoad, Hello, Kept, Running, Software


@dataclass(frozen=True)
class Profile:
    """Who this worker is and what it can do; `sign` makes the base64 signature of a text."""

    worker_id: str
    host: str
    boot_id: str
    sign: Callable[[bytes], str]
    software: Software
    caps: Capabilities
    slots: int = 1
    epoch: str = ""

    def hello(
        self, challenge: Challenge, *, epoch: str, running: tuple[Running, ...], outbox: tuple[Kept, ...]
    ) -> Hello:
        """The answer to a challenge: its nonce signed, and what is held for the server."""
        text = challenge_text(nonce=challenge.nonce, host=self.host, worker_id=self.worker_id, boot_id=self.boot_id)
        return Hello(
            re=challenge.id or None,
            worker_id=self.worker_id,
            boot_id=self.boot_id,
            sig=self.sign(text),
            software=self.software,
            caps=self.caps,
            slots=self.slots,
            epoch=epoch,
            running=running,
            outbox=outbox,
        )


@dataclass(frozen=True)
class Load:
    """How busy the machine is: `share` 0 to 1, and the GPU if there is one."""

    share: float = 0.0
    gpu: GpuLoad | None = None
