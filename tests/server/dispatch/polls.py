"""A machine behind a proxy that lets no WebSocket through: the same words, by long-poll."""

import json
from collections import deque
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.test import AsyncClient

from tests.server.dispatch.fakes import Machine
from worker_client.protocol import messages as m
from worker_client.protocol.codec import decode_from_server, encode
from worker_client.protocol.identity import LINK_HEADER, SYNC_PATH

Frame = dict[str, Any]


async def post(body: Any, **headers: str) -> Any:
    """One request as it is."""
    content = body if isinstance(body, (str, bytes)) else json.dumps(body)
    # A thread of its own, as the server gives every request: one that waits delays no other.
    async with ThreadSensitiveContext():
        return await AsyncClient().post(SYNC_PATH, content, content_type="application/json", headers=headers)


class Poll:
    """One link of a machine. Pings are answered and not shown; what was said waits for the next request."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.link: str | None = None
        self.ack = 0
        self._heard: deque[Any] = deque()
        self._unsaid: list[Frame] = []
        self._last_id = 0

    def say(self, message: m.Message) -> None:
        """Put a message into the next request."""
        self._last_id += 1
        self._unsaid.append({**json.loads(encode(message)), "id": self._last_id})

    async def exchange(self) -> list[Frame]:
        """One request and its answer."""
        frames, self._unsaid = self._unsaid, []
        answer = await post({"session": self.link, "ack": self.ack, "frames": frames}, **{LINK_HEADER: "link-1"})
        assert answer.status_code == 200, answer.content
        said = answer.json()
        self.link = said["session"]
        return self.took(said["frames"])

    def took(self, frames: list[Frame]) -> list[Frame]:
        """An answer has arrived; what came before is passed over."""
        for frame in frames:
            if frame["id"] > self.ack:
                self.ack = frame["id"]
                self._heard.append(decode_from_server(json.dumps(frame)))
        return frames

    async def hear(self) -> Any:
        """The next message."""
        while True:
            while not self._heard:
                await self.exchange()
            message = self._heard.popleft()
            if not isinstance(message, m.Ping):
                return message
            self.say(m.Pong(ts=message.ts))

    async def sign_in(self, worker_id: str, **changes: Any) -> m.Welcome:
        """Challenge, hello, welcome."""
        challenge = await self.hear()
        self.say(self.machine.hello(challenge.nonce, worker_id, **changes))
        return await self.hear()

    async def settled(self) -> None:
        """Everything said so far has been served."""
        self.say(m.Ping(ts=1.0))
        while not isinstance(await self.hear(), m.Pong):
            pass

    async def leave(self) -> None:
        """Say goodbye, so that no conversation outlives the test."""
        self.say(m.Bye(code=1000, reason="done", reconnect=False))
        await self.exchange()
