"""A worker that computes nothing and notes when offers come in: the wire contract over a real socket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from types import TracebackType

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_server, encode
from worker_client.protocol.identity import (
    ENROL_PATH,
    SUBPROTOCOL,
    WEBSOCKET_PATH,
    challenge_text,
    enrol_text,
    host_of,
)


class BenchWorker:
    """Enrols, signs in, and puts every offer with its time of arrival into `offers`."""

    def __init__(self, *, url: str, model: m.ModelName, token: str = "", worker_id: str = "", slots: int = 8) -> None:
        self.url = url
        self.token = token
        self.worker_id = worker_id
        self.model = model
        self.slots = slots
        self.offers: asyncio.Queue[tuple[float, m.JobOffer]] = asyncio.Queue()
        self.held: dict[str, int] = {}
        self.key = Ed25519PrivateKey.generate()
        self.socket: ClientConnection
        self.session = 0

    async def __aenter__(self) -> BenchWorker:
        self.worker_id = self.worker_id or await self._enrol()
        await self.sign_in()
        self.listening = asyncio.create_task(self.listen())
        self.beating = asyncio.create_task(self._beat())
        return self

    async def sign_in(self) -> None:
        """Connect and answer the challenge. Raises OSError, TimeoutError or WebSocketException when it fails."""
        address = self.url.replace("http", "ws", 1) + WEBSOCKET_PATH
        self.socket = await connect(address, subprotocols=[SUBPROTOCOL], compression=None)  # type: ignore[list-item]
        challenge = decode_from_server(await self.socket.recv())
        assert isinstance(challenge, m.Challenge)
        text = challenge_text(nonce=challenge.nonce, host=host_of(self.url), worker_id=self.worker_id, boot_id="bench")
        await self.say(
            m.Hello(
                worker_id=self.worker_id,
                boot_id="bench",
                sig=base64.b64encode(self.key.sign(text)).decode(),
                software=m.Software(version="0.1.0"),
                caps=m.Capabilities(device="cpu", models=(self.model,)),
                slots=self.slots,
                running=tuple(m.Running(job=job, fence=fence) for job, fence in self.held.items()),
            )
        )
        welcome = decode_from_server(await self.socket.recv())
        assert isinstance(welcome, m.Welcome), welcome
        self.session = welcome.session
        await self.say(m.Ready(credits=self.slots))

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.listening.cancel()
        self.beating.cancel()
        await self.socket.close()

    async def say(self, message: m.Message) -> None:
        """Send one message."""
        await self.socket.send(encode(message))

    async def end(self, offer: m.JobOffer) -> None:
        """Give an offer a quick and final end, so that the next click makes a new job."""
        self.held.pop(offer.job, None)
        await self.say(
            m.JobFailed(
                job=offer.job,
                fence=offer.fence,
                epoch=offer.epoch,
                code="input_invalid",
                retryable=False,
                detail="bench",
            )
        )
        await self.say(m.Ready(credits=self.slots - len(self.held)))

    @property
    def public_key(self) -> str:
        """Base64 of the 32 bytes."""
        raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return base64.b64encode(raw).decode()

    async def _enrol(self) -> str:
        public_key = self.public_key
        proof = self.key.sign(enrol_text(token=self.token, name="bench", public_key=public_key))
        body = {
            "token": self.token,
            "name": "bench",
            "public_key": public_key,
            "proof": base64.b64encode(proof).decode(),
        }
        async with httpx.AsyncClient() as client:
            answer = await client.post(self.url + ENROL_PATH, json=body)
        answer.raise_for_status()
        return str(answer.json()["worker_id"])

    async def listen(self) -> None:
        """Take what comes until the socket ends."""
        with contextlib.suppress(ConnectionClosed):
            async for frame in self.socket:
                at = time.perf_counter()
                message = decode_from_server(frame)
                if isinstance(message, m.JobOffer):
                    self.held[message.job] = message.fence
                    self.offers.put_nowait((at, message))
                    await self.say(m.JobAccept(job=message.job, fence=message.fence))
                elif isinstance(message, m.Ping):
                    await self.say(m.Pong(re=message.id, ts=message.ts))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(5)
            held = tuple(m.Held(job=job, fence=fence) for job, fence in self.held.items())
            with contextlib.suppress(ConnectionClosed):  # it is coming back, then
                await self.say(m.Heartbeat(session=self.session, jobs=held))
