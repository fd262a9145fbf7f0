"""A transfer over the fake data plane, and what it brings down and up."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx

from tests.worker_client.builders import an_input
from tests.worker_client.data_plane import DataPlane
from worker_client.cache import Cache
from worker_client.patience import DataToken
from worker_client.protocol.messages import InputArtifact
from worker_client.transfer import Parcel, Transfer

SCAN = bytes(range(256)) * 4
SHA = hashlib.sha256(SCAN).hexdigest()


class Bench:
    """A transfer over the fake data plane, with every pause written down instead of waited for."""

    def __init__(self, folder: Path, plane: DataPlane, *, cap_bytes: int = 1 << 20) -> None:
        self.folder = folder
        self.plane = plane
        self.pauses: list[float] = []
        self.counted = 0
        self.notes: list[str | None] = []
        client = httpx.AsyncClient(transport=httpx.MockTransport(plane))
        self.cache = Cache(folder / "cache", cap_bytes=cap_bytes)
        (folder / "cache").mkdir()
        self.transfer = Transfer(
            client, server="http://server.localhost", cache=self.cache, wait=self._pause, luck=lambda: 1.0
        )
        self.token = DataToken("token-1", ask=lambda: None)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def count(self, more: int) -> None:
        self.counted += more

    async def note(self, location: str | None) -> None:
        self.notes.append(location)

    async def fetch(self, item: InputArtifact | None = None) -> bytes:
        path = await self.transfer.fetch(item or the_scan(), token=self.token, count=self.count)
        return path.read_bytes()

    async def upload(self, *, begun: str | None = None) -> str:
        path = self.folder / "mask"
        path.write_bytes(SCAN)
        parcel = Parcel(path=path, size=len(SCAN), sha256=SHA, url="/api/worker/uploads/", words={"job": "01JOB"})
        return await self.transfer.upload(parcel, begun=begun, note=self.note, token=self.token, count=self.count)


def the_scan(**changes: object) -> InputArtifact:
    fields = {"sha256": SHA, "size": len(SCAN), **changes}
    return an_input("T1", **fields)  # type: ignore[arg-type]
