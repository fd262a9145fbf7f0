"""Passwords of archives, sealed: the database, a backup of it and the admin never hold one in clear.

The key is derived from SECRET_KEY (HKDF-SHA256, RFC 5869), so that a stolen database alone opens no archive.
"""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from server.pacs.errors import SecretLost

_PURPOSE = b"segwire archive secrets v1"


def seal(secret: str) -> str:
    """What may be stored; empty for an empty secret."""
    return _box().encrypt(secret.encode()).decode() if secret else ""


def unseal(sealed: str) -> str:
    """The secret. Raises SecretLost when it was sealed under another SECRET_KEY."""
    if not sealed:
        return ""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise SecretLost from None


def _box() -> Fernet:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(settings.SECRET_KEY.encode())
    return Fernet(base64.urlsafe_b64encode(key))
