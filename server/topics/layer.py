"""The channel layer of several processes: Redis pub/sub, for which nobody waits and on which nothing depends.

channels_redis lets a socket fail to open while Redis is away, lets every caller wait behind one that waits for a
frozen Redis (they share a lock), and writes a traceback a second meanwhile. Here a subscription that cannot be made
is made later, a message is given up after two seconds, those for sockets of this process arrive all the same, and the
log has one line when Redis goes and one when it is back. What is lost is found by the position checks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisPubSubLoopLayer, RedisSingleShardConnection
from channels_redis.utils import _wrap_close, decode_hosts

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 2.0
"""How long Redis may take for one command."""
PAUSE_SECONDS = 2.0
"""How long nothing is tried after it did not answer."""
POLL_SECONDS = 1.0


class LayerAway(Exception):
    """Redis does not answer."""


class RedisLayer(RedisPubSubChannelLayer):
    """channels_redis' pub/sub layer with patient connections."""

    def _get_layer(self) -> LoopLayer:
        loop = asyncio.get_running_loop()
        if loop not in self._layers:
            self._layers[loop] = LoopLayer(*self._args, **self._kwargs, channel_layer=self)
            _wrap_close(self, loop)
        return self._layers[loop]

    async def ping(self) -> None:
        """Raises LayerAway unless Redis answers."""
        for shard in self._get_layer()._shards:
            await shard.ping()


class LoopLayer(RedisPubSubLoopLayer):
    """The layer of one event loop."""

    def __init__(self, hosts: Any = None, **options: Any) -> None:
        super().__init__(hosts, **options)
        self._shards = [PatientConnection(host, self) for host in decode_hosts(hosts)]

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send to one channel. Raises LayerAway for a channel of another process that cannot be reached."""
        try:
            await super().send(channel, message)
        except LayerAway:
            if not self.deliver(channel, self.channel_layer.serialize(message)):
                raise

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send to a group. Raises LayerAway when only the members in this process have it."""
        try:
            await super().group_send(group, message)
        except LayerAway:
            self.deliver(self._get_group_channel_name(group), self.channel_layer.serialize(message))
            raise

    def deliver(self, name: str, content: bytes) -> bool:
        """Hand a message to the channels of this process that are meant; False when there are none."""
        found = [one for one in self.groups.get(name, {name}) if one in self.channels]
        for one in found:
            self.channels[one].put_nowait(content)
        return bool(found)


class PatientConnection(RedisSingleShardConnection):
    """One Redis. `_subscribed_to` is what Redis was told, `_wanted` what it is to be told."""

    def __init__(self, host: Any, channel_layer: LoopLayer) -> None:
        super().__init__(host, channel_layer)
        self._wanted: set[str] = set()
        self._mending: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._is_away = False

    async def publish(self, channel: str, message: bytes) -> None:
        """Raises LayerAway."""
        async with self._answering():
            await self._redis.publish(channel, message)

    async def ping(self) -> None:
        """Raises LayerAway."""
        async with self._answering():
            await self._redis.ping()

    async def subscribe(self, channel: str) -> None:
        """Now, or as soon as Redis is back."""
        self._wanted.add(channel)
        await self._settle_or_mend(channel)

    async def unsubscribe(self, channel: str) -> None:
        """Now, or as soon as Redis is back."""
        self._wanted.discard(channel)
        await self._settle_or_mend(channel)

    async def flush(self) -> None:
        """Forget everything and close."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait({self._mending})
            self._mending = None
        self._wanted.clear()
        await super().flush()

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        async with self._lock:
            # Whoever waited for the lock behind one that got no answer does not try again.
            if time.monotonic() < self._away_until:
                raise LayerAway
            self._ensure_redis()
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    yield
            except Exception as error:
                self._note_away(error)
                raise LayerAway from error
            self._note_back()

    async def _settle_or_mend(self, channel: str) -> None:
        try:
            await self._settle(channel)
        except LayerAway:
            if self._mending is None or self._mending.done():
                self._mending = asyncio.create_task(self._mend())

    async def _settle(self, channel: str) -> None:
        async with self._answering():
            self._ensure_receiver()
            is_wanted, is_subscribed = channel in self._wanted, channel in self._subscribed_to
            if is_wanted and not is_subscribed:
                await self._pubsub.subscribe(channel)
                self._subscribed_to.add(channel)
            elif is_subscribed and not is_wanted:
                await self._pubsub.unsubscribe(channel)
                self._subscribed_to.remove(channel)

    async def _mend(self) -> None:
        while unsettled := self._wanted ^ self._subscribed_to:
            try:
                for channel in unsettled:
                    await self._settle(channel)
            except LayerAway:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _do_receiving(self) -> None:
        while True:
            try:
                await self._receive_one()
            except Exception as error:  # noqa: BLE001  (a task that ended would be missed by nobody)
                self._note_away(error)
                await asyncio.sleep(POLL_SECONDS)

    async def _receive_one(self) -> None:
        if self._pubsub is None or not self._pubsub.subscribed:
            await asyncio.sleep(0.1)
            return
        message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=POLL_SECONDS)
        if message is not None:
            self.channel_layer.deliver(message["channel"].decode(), message["data"])

    def _note_away(self, error: Exception) -> None:
        self._away_until = time.monotonic() + PAUSE_SECONDS
        if not self._is_away:
            self._is_away = True
            log.warning("Redis does not answer; events are late until it does", cause=type(error).__name__)

    def _note_back(self) -> None:
        if self._is_away:
            self._is_away = False
            log.info("Redis answers again")
