"""A server that cannot work says why, and ends with a code that a supervisor understands."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server.launcher import database, life
from server.launcher.local_worker import home_beside, name_beside
from server.pacs.loop import Errands
from server.topics.sockets import live_sockets
from tests.system.stack import ROOT, free_port


class IdleWorker:
    """A server's own worker that is never wanted."""

    def want(self) -> None:
        """Nothing to do."""

    async def keep(self, stop: asyncio.Event) -> None:
        """Until the end."""
        await stop.wait()


class IdleErrands(Errands):
    """No archive is asked for anything."""

    def look(self) -> None:
        """Nothing to do."""


class FakeWeb:
    """A web server that notes what it is told, in order."""

    def __init__(self, *, unfinished: int = 0) -> None:
        self.told: list[str] = []
        self.left = unfinished
        self.ended = asyncio.Event()

    def stop_listening(self) -> None:
        self.told.append("stop listening")

    def unfinished(self) -> int:
        self.left = max(0, self.left - 1)
        return self.left

    def stop(self) -> None:
        self.told.append(f"stop with {self.left} unanswered")
        self.ended.set()


class Guest:
    """A socket that is open; `told` is where it notes that it was sent away."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    async def farewell(self) -> None:
        self.told.append("bye")


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
    web = FakeWeb()
    server = life.Life(local_worker=IdleWorker(), web=web, errands=IdleErrands())

    server.start(asyncio.get_running_loop())

    async with asyncio.timeout(5):
        await web.ended.wait()
    assert server.is_broken


async def test_an_end_in_order_closes_the_door_says_goodbye_and_lets_requests_be_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def until_stopped(*, stop: asyncio.Event, **_: object) -> None:
        await stop.wait()

    handlers: dict[int, Callable[..., object]] = {}
    monkeypatch.setattr(life.clock, "run", until_stopped)
    monkeypatch.setattr(life.signal, "signal", handlers.__setitem__)
    web = FakeWeb(unfinished=3)
    guest = Guest(web.told)
    live_sockets.add(guest)
    life.Life(local_worker=IdleWorker(), web=web, errands=IdleErrands()).start(asyncio.get_running_loop())

    handlers[signal.SIGTERM]()

    async with asyncio.timeout(5):
        await web.ended.wait()
    assert web.told == ["stop listening", "bye", "stop with 0 unanswered"]


def test_servers_that_share_a_data_folder_have_a_worker_each(tmp_path: Path) -> None:
    """Two processes with one key would tear the session out of each other's hands."""
    alone = name_beside(port=8000, has_company=False)
    names = [name_beside(port=port, has_company=True) for port in (8001, 8002)]

    homes = {home_beside(tmp_path, name=name) for name in (alone, *names)}

    assert home_beside(tmp_path, name=alone) == tmp_path / "worker"
    assert len(homes) == 3


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("postgres://somebody:hidden@127.0.0.1:1/segwire", "The database cannot be used: connection failed"),
        ("postgres://", "DATABASE_URL: it does not look like postgres://user:password@host:5432/database"),
        ("postgres://user:hidden@host:port/name", "DATABASE_URL: it does not look like postgres://"),
    ],
)
def test_a_database_that_is_not_there_is_named_in_one_sentence(tmp_path: Path, address: str, sentence: str) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path), "SECRET_KEY": "x" * 50, "DATABASE_URL": address}
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
    assert sentence in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr
