"""What would go wrong later, said at the start (`manage.py check`)."""

from __future__ import annotations

import os
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


@register(deploy=True)
def public_url_is_https(**_: Any) -> list[Warning]:
    """Keys and images travel over this address."""
    if settings.IS_HTTPS:
        return []
    return [Warning("PUBLIC_URL is not https.", id="segwire.W002")]
