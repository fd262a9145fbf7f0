"""A server that cannot work says why, and ends with a code that a supervisor understands."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.launcher import database, life
from tests.system.stack import ROOT, free_port


class IdleWorker:
    """A server's own worker that is never wanted."""

    def want(self) -> None:
        """Nothing to do."""

    async def keep(self, stop: asyncio.Event) -> None:
        """Until the end."""
        await stop.wait()


@pytest.mark.django_db
def test_a_database_with_every_table_is_no_trouble() -> None:
    assert database.trouble() == ""


def test_a_server_on_an_empty_database_says_what_to_run(tmp_path: Path) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "SECRET_KEY": "x" * 50}
    environment.pop("DJANGO_SETTINGS_MODULE", None)

    done = subprocess.run(
        [sys.executable, "-m", "server", "--port", str(free_port())],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("run first: python manage.py migrate")


async def test_a_dispatcher_that_breaks_ends_the_server_as_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(**_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(life.clock, "run", broken)
    monkeypatch.setattr(life.signal, "signal", lambda *_: None)
    ended = asyncio.Event()
    server = life.Life(local_worker=IdleWorker(), stop_web=ended.set)

    server.start(asyncio.get_running_loop())

    async with asyncio.timeout(5):
        await ended.wait()
    assert server.is_broken
