"""What would go wrong later, said at the start (`manage.py check`)."""

from __future__ import annotations

import os
import stat
from typing import Any

from django.conf import settings
from django.core.checks import Error, Warning, register


@register()
def data_dir_is_writable(**_: Any) -> list[Error]:
    """DATA_DIR holds the database, the uploads and the results."""
    if os.access(settings.DATA_DIR, os.W_OK):
        return []
    return [Error("DATA_DIR cannot be written.", hint="Set DATA_DIR to a folder of this user.", id="segwire.E001")]


@register()
def several_processes_need_redis(**_: Any) -> list[Warning]:
    """With PostgreSQL several servers may run, and they can only wake each other through Redis."""
    is_scaled = settings.DATABASES["default"]["ENGINE"].endswith("postgresql")
    if is_scaled and settings.CHANNEL_LAYERS["default"]["BACKEND"].endswith("InMemoryChannelLayer"):
        return [Warning("DATABASE_URL is PostgreSQL and REDIS_URL is not set: run one server.", id="segwire.W001")]
    return []


@register()
def redis_needs_a_shared_database(**_: Any) -> list[Warning]:
    """SQLite belongs to one process; a second server would take the first one's sessions for dead."""
    is_sqlite = settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
    if is_sqlite and not settings.CHANNEL_LAYERS["default"]["BACKEND"].endswith("InMemoryChannelLayer"):
        return [Warning("REDIS_URL is set and the database is SQLite: run one server.", id="segwire.W003")]
    return []


@register(deploy=True)
def data_dir_is_private(**_: Any) -> list[Warning]:
    """Images, names and, with SQLite, every digest lie there."""
    if settings.DATA_DIR.stat().st_mode & stat.S_IROTH:
        return [Warning("Other users of this machine can read DATA_DIR.", hint="chmod o-rwx", id="segwire.W004")]
    return []


@register(deploy=True)
def public_url_is_https(**_: Any) -> list[Warning]:
    """Keys and images travel over this address."""
    if settings.IS_HTTPS:
        return []
    return [Warning("PUBLIC_URL is not https.", id="segwire.W002")]
