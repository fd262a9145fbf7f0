"""Signatures of workers, and the tokens that open one attempt's bytes.

Flow: 4 push
"""

import base64
import binascii
import secrets
import time
import zlib
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.core import signing

from server.dispatch.errors import DataTokenRefused

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ENROL_PREFIX = "sege_"
SECRET_DIGITS = 43
CHECK_DIGITS = 6
SALT = "segwire.worker.data"
CLOCK_SKEW_SECONDS = 60.0
FETCH = "fetch"
STORE = "store"
_NOBODY = Ed25519PublicKey.from_public_bytes(bytes(32))


@dataclass(frozen=True)
class DataClaim:
    """What a data token says: this worker may do `ops` for this attempt, and fetch `artifacts`, no others."""

    job: str
    fence: int
    worker: str
    artifacts: tuple[str, ...] = ()
    ops: tuple[str, ...] = (FETCH, STORE)


def has_signed(*, public_key: str, signature: str, text: bytes) -> bool:
    """Whether the holder of `public_key` (base64, 32 bytes) signed `text`. Without a key it takes as long and is no."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True)) if public_key else _NOBODY
        key.verify(base64.b64decode(signature, validate=True), text)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return bool(public_key)


def is_public_key(text: str) -> bool:
    """Whether `text` is the base64 of an Ed25519 public key."""
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        return False
    return True


def new_enrol_token() -> str:
    """`sege_`, 32 random bytes in base62, and a check that catches a slip of the pen."""
    body = _base62(int.from_bytes(secrets.token_bytes(32), "big"), SECRET_DIGITS)
    return f"{ENROL_PREFIX}{body}_{_check(body)}"


def is_enrol_token(token: str) -> bool:
    """Whether the token is written as one; a wrong one need not be looked up."""
    body, _, check = token.removeprefix(ENROL_PREFIX).partition("_")
    return token.startswith(ENROL_PREFIX) and len(body) == SECRET_DIGITS and check == _check(body)


def digest_of(token: str) -> str:
    """What is stored of a token: 256 random bits need no slow hash."""
    return sha256(token.encode()).hexdigest()


def data_token(claim: DataClaim) -> str:
    """A token for `claim`, good for LIMITS.data_token_seconds."""
    return signing.dumps(asdict(claim), salt=SALT)


def read_data_token(authorization: str, *, op: str) -> DataClaim:
    """The claim of an `Authorization: Bearer` header. The clocks of the servers may differ by a minute.

    Raises:
        DataTokenRefused: it is missing, forged, too old, of the future, or not for `op`.
    """
    scheme, _, token = authorization.partition(" ")
    try:
        oldest = settings.LIMITS.data_token_seconds + CLOCK_SKEW_SECONDS
        said: dict[str, Any] = signing.loads(token, salt=SALT, max_age=oldest)
        claim = DataClaim(**{**said, "ops": tuple(said["ops"]), "artifacts": tuple(said["artifacts"])})
    except (signing.BadSignature, KeyError, TypeError) as error:
        raise DataTokenRefused from error
    if scheme.lower() != "bearer" or op not in claim.ops or _seconds_ahead(token) > CLOCK_SKEW_SECONDS:
        raise DataTokenRefused
    return claim


def _seconds_ahead(token: str) -> float:
    """How far in the future a token was signed; Django looks at its age only."""
    return signing.b62_decode(token.rsplit(":", 2)[1]) - time.time()


def _base62(number: int, digits: int) -> str:
    letters = []
    for _ in range(digits):
        number, rest = divmod(number, 62)
        letters.append(BASE62[rest])
    return "".join(reversed(letters))


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECK_DIGITS)
