"""The worker's folder: who it is, its key, and the lock that keeps a second worker out.

worker.key       Ed25519 private key (PKCS#8 PEM), readable by this user alone
next.key         the key that shall replace it, until the server has taken it
identity.json    the server it is enrolled with, and the name that the server gave it
lock             held while a worker runs
outbox/ cache/ work/
"""

from __future__ import annotations

import base64
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker_client.disk import replace_durably, write_durably
from worker_client.errors import HomeBusy, HomeUnsafe, NotEnrolled
from worker_client.protocol.identity import host_of

logger = logging.getLogger(__name__)

KEY = "worker.key"
NEXT_KEY = "next.key"
IDENTITY = "identity.json"


class IdentityFile(msgspec.Struct, frozen=True, kw_only=True):
    """What `enrol` wrote down. `server` is the address as the person gave it: the one that signatures name."""

    worker_id: str
    name: str
    server: str
    epoch: str
    ca_file: str | None = None


@dataclass(frozen=True)
class Identity:
    """A worker that a server knows: its names, the server's address, and the key that proves it.

    `next_key`: one that the server may or may not know already. `made_at`: when the key was made, seconds since 1970.
    """

    worker_id: str
    name: str
    server: str
    epoch: str
    ca_file: Path | None
    key: Ed25519PrivateKey = field(repr=False)
    next_key: Ed25519PrivateKey | None = field(default=None, repr=False)
    made_at: float = 0.0

    @property
    def host(self) -> str:
        """The host that this worker's signatures are bound to."""
        return host_of(self.server)

    def sign(self, text: bytes) -> str:
        """Ed25519 signature of `text`, base64."""
        return sign(self.key, text)


class Home:
    """The worker's folder on this machine, private to its user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outbox = path / "outbox"
        self.cache = path / "cache"
        self.work = path / "work"

    def prepare(self) -> None:
        """Make the folder and its parts, for this user alone. Raises HomeUnsafe when others can read it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(self.path.iterdir()):
            self.path.chmod(0o700)
        refuse_if_shared(self.path)
        for folder in (self.outbox, self.cache, self.work):
            folder.mkdir(mode=0o700, exist_ok=True)

    def identity(self) -> Identity:
        """Who this worker is. Raises NotEnrolled, or HomeUnsafe when others could have read the key."""
        try:
            written = msgspec.json.decode((self.path / IDENTITY).read_bytes(), type=IdentityFile)
            refuse_if_shared(self.path)
            key = _read_key(self.path / KEY)
            made_at = (self.path / KEY).stat().st_mtime
        except (FileNotFoundError, msgspec.DecodeError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise NotEnrolled(self.path) from error
        return Identity(
            worker_id=written.worker_id,
            name=written.name,
            server=written.server,
            epoch=written.epoch,
            ca_file=None if written.ca_file is None else Path(written.ca_file),
            key=key,
            next_key=self._next_key(),
            made_at=made_at,
        )

    def _next_key(self) -> Ed25519PrivateKey | None:
        try:
            return _read_key(self.path / NEXT_KEY)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            logger.exception("The key that was to replace the present one cannot be read and is not used")
            return None

    def remember(self, identity: IdentityFile, *, key: Ed25519PrivateKey) -> None:
        """Store a new identity: the key first, so that no identity is ever without its key."""
        write_durably(self.path / KEY, _pem(key))
        write_durably(self.path / IDENTITY, msgspec.json.format(msgspec.json.encode(identity)))
        (self.path / NEXT_KEY).unlink(missing_ok=True)

    def make_next_key(self) -> Ed25519PrivateKey:
        """A new key, on the disk beside the present one before anybody hears of it. Blocks; raises OSError."""
        if self._next_key() is not None:
            # The server took it long ago, and the disk would not: it must not be overwritten.
            self.adopt_next_key()
        key = Ed25519PrivateKey.generate()
        write_durably(self.path / NEXT_KEY, _pem(key))
        return key

    def adopt_next_key(self) -> None:
        """The next key takes the place of the present one; nothing happens when it has. Blocks; raises OSError."""
        if (self.path / NEXT_KEY).exists():
            replace_durably(self.path / NEXT_KEY, self.path / KEY)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other workers out of this folder; the system lets go when the process ends, however it ends.

        Raises HomeBusy when another process holds it.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                _lock(descriptor)
            except OSError as error:
                raise HomeBusy(self.path) from error
            yield
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class KeySigner:
    """A key as the session uses it."""

    key: Ed25519PrivateKey = field(repr=False)

    @property
    def public_key(self) -> str:
        """The public half."""
        return public_text(self.key)

    def sign(self, text: bytes) -> str:
        """The signature of a text."""
        return sign(self.key, text)


def _read_key(path: Path) -> Ed25519PrivateKey:
    refuse_if_shared(path)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ValueError(f"{path.name} is no Ed25519 key")


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        encoding=serialization.Encoding.PEM,
        format=serialization.PrivateFormat.PKCS8,
        encryption_algorithm=serialization.NoEncryption(),
    )


def sign(key: Ed25519PrivateKey, text: bytes) -> str:
    """Ed25519 signature of `text`, base64."""
    return base64.b64encode(key.sign(text)).decode()


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half: 32 raw bytes, base64."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def refuse_if_shared(path: Path) -> None:
    """Raise HomeUnsafe when group or others have any right on `path`.

    Windows has no such bits: there the user's own data folder is private by its inherited rules.
    """
    if sys.platform == "win32":
        return
    mode = path.stat().st_mode
    if stat.S_IMODE(mode) & 0o077:
        wanted = "700" if stat.S_ISDIR(mode) else "600"
        raise HomeUnsafe(path, fix=f"chmod {wanted} {path}")


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
