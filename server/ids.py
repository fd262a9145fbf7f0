"""Identifiers: ULIDs, so that rows sort by the time they were made and an id tells nothing else."""

from ulid import ULID


def new_id() -> str:
    """A new id of 26 characters."""
    return str(ULID())
