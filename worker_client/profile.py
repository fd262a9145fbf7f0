"""What a worker tells of itself: who it is, what it can do, how busy it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker_client.protocol.messages import Capabilities, GpuLoad, Software


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


@dataclass(frozen=True)
class Load:
    """How busy the machine is: `share` 0 to 1, and the GPU if there is one."""

    share: float = 0.0
    gpu: GpuLoad | None = None
