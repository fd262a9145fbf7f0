"""Which database and which channel layer the addresses mean, with the settings that the evidence supports.

One process needs neither address: SQLite in the data folder and a layer in memory. Several processes share a
PostgreSQL and a Redis.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import environ

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 30
LOCK_SECONDS = 10
IDLE_IN_TRANSACTION_SECONDS = 60
LOST_SECONDS = 15
"""A peer that acknowledges nothing for so long is gone."""


def database(url: str, *, data_dir: Path, connections: int, is_migrating: bool) -> dict[str, Any]:
    """Django's entry for `url`, or for SQLite in `data_dir` when it is empty.

    `connections`: how many one process opens at most. `is_migrating`: statements may take as long as they take.
    Raises ValueError when the address cannot be read; its sentence may repeat the password.
    """
    found = dict(environ.Env.db_url_config(url)) if url else _sqlite_in(data_dir)
    if found["ENGINE"].endswith("sqlite3"):
        # A thread keeps its connection (config.lanes): opening one costs more than what a request asks of it.
        return {**found, "CONN_MAX_AGE": None, "OPTIONS": {**SQLITE_OPTIONS, **found.get("OPTIONS", {})}}
    if not found["NAME"]:
        raise ValueError("the address names no database")
    limits = {} if is_migrating else {"options": _timeouts()}
    pool = {"pool": _pool(connections)}
    return {
        **found,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**SOCKET_OPTIONS, **limits, **pool, **found.get("OPTIONS", {})},
    }


def layer(url: str, *, key: str) -> dict[str, Any]:
    """Channels' entry for `url`, or for a layer in memory when it is empty. `key` encrypts what passes."""
    if not url:
        return {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    return {
        "BACKEND": "server.topics.layer.RedisLayer",
        "CONFIG": {
            # redis-py 8's default socket_timeout equals channels-redis' blocking read (channels_redis#422).
            "hosts": [
                {
                    "address": url,
                    "socket_timeout": LOST_SECONDS,
                    "socket_connect_timeout": CONNECT_SECONDS,
                    "health_check_interval": LOST_SECONDS,
                }
            ],
            "symmetric_encryption_keys": [key],
        },
    }


# FULL: an acknowledged commit survives a power cut. IMMEDIATE: no deadlock between two read-then-write.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 10,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
}

SOCKET_OPTIONS = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": LOST_SECONDS * 1000,
}


def _sqlite_in(data_dir: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": data_dir / "segwire.sqlite3",
        "TEST": {"NAME": str(data_dir / "test.sqlite3")},
    }


def _timeouts() -> str:
    """What the server ends by itself, so that no lock outlives the process that forgot it."""
    seconds = {
        "statement_timeout": STATEMENT_SECONDS,
        "lock_timeout": LOCK_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS,
    }
    return " ".join(f"-c {name}={value}s" for name, value in seconds.items())


def _pool(connections: int) -> dict[str, Any]:
    """Every request runs on a thread of its own, so that CONN_MAX_AGE would reuse nothing."""
    return {
        "min_size": min(2, connections),
        "max_size": connections,
        # How long a request waits for a connection before it is answered 503.
        "timeout": CONNECT_SECONDS,
        # Give up soon: the next request tries again, while the pool's own pauses double.
        "reconnect_timeout": 1.0,
        "max_lifetime": 1800.0,
        "max_idle": 300.0,
    }


def cache(redis_url: str) -> dict[str, Any]:
    """Where limits are counted (accounts.throttle): in Redis when there are several servers."""
    if not redis_url:
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}
    return {
        "BACKEND": "server.config.cache.SharedRedisCache",
        "LOCATION": redis_url,
        "KEY_PREFIX": "segwire",
        # A click does not wait for its limit: when Redis does not answer at once, nothing is limited.
        "OPTIONS": {"socket_timeout": 0.25, "socket_connect_timeout": 0.25},
    }
