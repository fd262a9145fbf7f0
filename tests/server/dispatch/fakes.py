"""A worker without a GPU: it has a key, and says what a test has it say."""

import base64
from dataclasses import dataclass, field
from typing import Any

from channels.testing import WebsocketCommunicator
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.dispatch.consumers import WorkerConsumer
from server.dispatch.models import Worker
from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_server, encode
from worker_client.protocol.identity import SUBPROTOCOL, challenge_text, enrol_text

MODEL = m.ModelName(name="compact", version="1.0", sha256="a" * 64)
HOST = "testserver"


def base64_of(octets: bytes) -> str:
    """Base64 as text."""
    return base64.b64encode(octets).decode()


@dataclass
class Machine:
    """A machine with a key."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    boot_id: str = "boot-1"

    @property
    def public_key(self) -> str:
        return base64_of(self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def application(self, token: str, *, name: str = "lab-1") -> dict[str, str]:
        """What it sends to become a worker."""
        proof = self.key.sign(enrol_text(token=token, name=name, public_key=self.public_key))
        return {"token": token, "name": name, "public_key": self.public_key, "proof": base64_of(proof)}

    def enrolled(self, *, name: str = "lab-1", route: str = "lab") -> Worker:
        """The row it has when it is a worker."""
        return Worker.objects.create(name=name, public_key=self.public_key, route=route)

    def hello(self, nonce: str, worker_id: str, *, host: str = HOST, **changes: Any) -> m.Hello:
        """A signed hello."""
        text = challenge_text(nonce=nonce, host=host, worker_id=worker_id, boot_id=self.boot_id)
        fields: dict[str, Any] = {
            "id": 1,
            "worker_id": worker_id,
            "boot_id": self.boot_id,
            "sig": base64_of(self.key.sign(text)),
            "software": m.Software(version="0.1.0", python="3.11"),
            "caps": m.Capabilities(device="a test", models=(MODEL,)),
            **changes,
        }
        return m.Hello(**fields)


class Talk:
    """One socket of a machine. What comes in between (pings) is answered and not shown."""

    def __init__(
        self,
        machine: Machine,
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        versions: tuple[str, ...] = (SUBPROTOCOL,),
    ):
        self.machine = machine
        self.socket = WebsocketCommunicator(
            WorkerConsumer.as_asgi(),
            "/ws/worker/",
            headers=[(b"host", HOST.encode()), *headers],
            subprotocols=list(versions),
        )
        self.subprotocol: str | None = None

    async def open(self) -> "Talk":
        """Connect."""
        is_connected, self.subprotocol = await self.socket.connect(timeout=5)
        assert is_connected
        return self

    async def hear(self, *, seconds: float = 5.0) -> Any:
        """The next message."""
        while True:
            message = decode_from_server(await self.socket.receive_from(timeout=seconds))
            if not isinstance(message, m.Ping):
                return message
            await self.say(m.Pong(re=message.id, ts=message.ts))

    async def say(self, message: m.Message) -> None:
        """Send a message."""
        await self.socket.send_to(text_data=encode(message))

    async def sign_in(self, worker_id: str, **changes: Any) -> m.Welcome:
        """Challenge, hello, welcome."""
        challenge = await self.hear()
        await self.say(self.machine.hello(challenge.nonce, worker_id, **changes))
        return await self.hear()

    async def heard_bye(self) -> m.Bye:
        """The bye, and the close that must follow it with the same code."""
        bye = await self.hear()
        assert isinstance(bye, m.Bye), bye
        closing = await self.socket.receive_output(timeout=5)
        assert (closing["type"], closing["code"]) == ("websocket.close", bye.code)
        return bye

    async def hang_up(self) -> None:
        """Cut the connection without a word."""
        await self.socket.disconnect(timeout=5)
