"""Taking a new key without ever being without one that works: made, kept, told, taken, and only then adopted.

Flow: 5 receive
"""

from __future__ import annotations

from worker_client.actions import Action, AdoptKey, MakeKey
from worker_client.profile import Profile
from worker_client.protocol.messages import RotateKeyOk
from worker_client.voice import Voice

Actions = list[Action]


class Rotation:
    """What is said and done about the worker's key."""

    def __init__(self, profile: Profile, voice: Voice) -> None:
        self._worker_id = profile.worker_id
        self._keys = profile.keys
        self._voice = voice

    def settle(self) -> Actions:
        """After a welcome: the newer key counts if it opened the door; an old one is replaced."""
        if self._keys.is_fresh_known:
            self._keys.adopt()
            return [AdoptKey()]
        return self.wanted() if self._keys.is_old else []

    def wanted(self) -> Actions:
        """The server asks for a new key. One that was made before, and that it does not know, is told again."""
        return [MakeKey()] if self._keys.fresh is None else self.made()

    def made(self) -> Actions:
        """A new key lies on the disk beside the old one; without a connection it waits for the next."""
        line = self._voice.line
        if line is None or line.welcome is None:
            return []
        rotation = self._keys.rotation(worker_id=self._worker_id, session=line.welcome.session)
        return [] if rotation is None else self._voice.say(rotation)

    def taken(self, message: RotateKeyOk) -> Actions:
        """The server knows the new key."""
        fresh = self._keys.fresh
        if fresh is None or fresh.public_key != message.public_key:
            return []
        self._keys.adopt()
        return [AdoptKey()]
