"""What a worker tells of itself: who it is, what it can do, how busy it is."""

from __future__ import annotations

from dataclasses import dataclass

from worker_client.keyring import Keyring
from worker_client.protocol.identity import challenge_text
from worker_client.protocol.messages import Capabilities, Challenge, GpuLoad, Hello, Kept, Running, Software


@dataclass(frozen=True)
class Profile:
    """Who this worker is and what it can do; `keys` sign for it."""

    worker_id: str
    host: str
    boot_id: str
    keys: Keyring
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
            sig=self.keys.sign(text),
            software=self.software,
            caps=self.caps,
            slots=self.slots,
            epoch=epoch,
            running=running,
            outbox=outbox,
        )


@dataclass(frozen=True)
class Load:
    """How busy the machine is: `share` 0 to 1, and the GPU if there is one.

    `free_mb`: what the device has left for analyses, the worker's own processes counted as free; None when unknown.
    `cached`: the first 16 hex digits of the digests of the inputs that lie here, newest first.
    """

    share: float = 0.0
    gpu: GpuLoad | None = None
    free_mb: int | None = None
    cached: tuple[str, ...] = ()
