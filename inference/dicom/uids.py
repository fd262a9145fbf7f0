"""Unique identifiers derived from what they name, so that the same thing gets the same UID again."""

from __future__ import annotations

from uuid import UUID, uuid5

_NAMESPACE = UUID("6f6c9a0e-5d1b-4f57-9a52-0e8f3f1a7c11")


def uid_from(*names: str) -> str:
    """A UID of the UUID-derived kind (PS3.5, B.2) that depends on `names` alone."""
    return f"2.25.{uuid5(_NAMESPACE, chr(31).join(names)).int}"
