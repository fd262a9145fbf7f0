"""PostgreSQL's connections that lie idle: after a restart of the database all of them are broken at once.

The pool tests a connection when it is taken, and pauses between two that were broken (one second, two, four …), so
that the first requests after a restart would wait for seconds. Looking at all of them takes milliseconds.
"""

from __future__ import annotations

from django.db import connection

LOSSES = ("connections_lost", "returns_bad")

_seen = 0


def mend() -> None:
    """Replace the broken ones, if any was found broken since the last call. To be called now and then."""
    global _seen  # noqa: PLW0603  (one pool a process)
    pool = getattr(connection, "pool", None)
    if pool is None:
        return
    stats = pool.get_stats()
    lost = sum(stats.get(name, 0) for name in LOSSES)
    if lost != _seen:
        _seen = lost
        pool.check()
