"""Which key a worker signs with while it takes a new one. Pure: files are the home's business.

A new key lies on the disk before the server hears of it, and the old one stays until the server has taken the new
one, so there is always a key that works. Whichever that is shows at the next sign-in: the newer is tried first.

Flow: 5 receive
"""

from __future__ import annotations

from typing import Protocol

from worker_client.protocol.identity import rotate_text
from worker_client.protocol.messages import RotateKey


class Signer(Protocol):
    """A private key: `public_key` is its other half (base64, 32 bytes), `sign` makes a base64 signature."""

    @property
    def public_key(self) -> str:
        """The public half."""

    def sign(self, text: bytes) -> str:
        """The signature of a text."""


class Keyring:
    """The key that counts, and perhaps a newer one that the server may or may not know. `is_old`: replace it soon."""

    def __init__(self, current: Signer, *, fresh: Signer | None = None, is_old: bool = False) -> None:
        self.current = current
        self.fresh = fresh
        self.is_old = is_old
        self._is_fresh_refused = False

    def sign(self, text: bytes) -> str:
        """The signature for a sign-in: by the newer key, unless the server refused it just now."""
        return self._first.sign(text)

    def refused(self) -> bool:
        """The server did not take the signature; whether there is another key to try."""
        self._is_fresh_refused = self.fresh is not None and not self._is_fresh_refused
        return self._is_fresh_refused

    @property
    def is_fresh_known(self) -> bool:
        """After a welcome: whether the server took the newer key, and the old one may go."""
        return self.fresh is not None and not self._is_fresh_refused

    def adopt(self) -> None:
        """The newer key is the one that counts."""
        if self.fresh is not None:
            self.current, self.fresh, self.is_old = self.fresh, None, False
        self._is_fresh_refused = False

    def rotation(self, *, worker_id: str, session: int) -> RotateKey | None:
        """The message that tells of the newer key, signed by both; None when there is none."""
        if self.fresh is None:
            return None
        # Its answer may be lost: from now on it has to be tried first again.
        self._is_fresh_refused = False
        public_key = self.fresh.public_key
        text = rotate_text(worker_id=worker_id, session=session, public_key=public_key)
        return RotateKey(public_key=public_key, sig=self.current.sign(text), proof=self.fresh.sign(text))

    @property
    def _first(self) -> Signer:
        return self.current if self.fresh is None or self._is_fresh_refused else self.fresh
