"""Django's own deployment checks and ours, as an operator runs them: clean for a production-like environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.config import checks

ROOT = Path(__file__).parents[2]
KEY = "an-example-that-is-long-enough-0123456789-abcdefghijkl"
PUBLIC = {"PUBLIC_URL": "https://segwire.example.org", "ALLOWED_HOSTS": "segwire.example.org", "SECRET_KEY": KEY}


def checked(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`manage.py check --deploy`, warnings as errors."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-W", "error", "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={**kept, "DATA_DIR": str(folder / "data"), "LOG_LEVEL": "ERROR", **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "services", [{}, {"DATABASE_URL": "postgres://segwire@127.0.0.1/segwire", "REDIS_URL": "redis://127.0.0.1:6379/0"}]
)
def test_a_production_like_environment_is_clean(tmp_path: Path, services: dict[str, str]) -> None:
    done = checked(tmp_path, **PUBLIC, **services)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_risky_one_is_named_before_anything_is_served(tmp_path: Path) -> None:
    done = checked(tmp_path, **{**PUBLIC, "PUBLIC_URL": "http://segwire.example.org"})

    assert done.returncode != 0
    assert "PUBLIC_URL is not https" in done.stderr


@pytest.mark.parametrize(
    ("database", "layer", "warning"),
    [
        ("sqlite3", "channels.layers.InMemoryChannelLayer", None),
        ("postgresql", "channels_redis.pubsub.RedisPubSubChannelLayer", None),
        ("postgresql", "channels.layers.InMemoryChannelLayer", "segwire.W001"),
        ("sqlite3", "channels_redis.pubsub.RedisPubSubChannelLayer", "segwire.W003"),
    ],
)
def test_half_of_scaling_out_is_named(
    monkeypatch: pytest.MonkeyPatch, database: str, layer: str, warning: str | None
) -> None:
    configured = {"default": {"ENGINE": f"django.db.backends.{database}"}}
    layers = {"default": {"BACKEND": layer}}
    monkeypatch.setattr(checks, "settings", SimpleNamespace(DATABASES=configured, CHANNEL_LAYERS=layers))

    found = checks.several_processes_need_redis() + checks.redis_needs_a_shared_database()

    assert [one.id for one in found] == ([warning] if warning else [])
