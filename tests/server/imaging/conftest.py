"""A data folder, a user and a signed-in client of their own for each test."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from django.contrib.auth.models import User
from django.test import Client

from server.imaging import background, limited
from server.imaging.parser.__main__ import answer
from server.imaging.parser.orders import Answer, Order


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path) -> Path:
    """DATA_DIR, empty."""
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    return settings.DATA_DIR


@pytest.fixture(autouse=True)
def work_at_once(monkeypatch) -> None:
    """Work that would go on in the background is done before the request is answered."""
    monkeypatch.setattr(background, "start", lambda work, *, name: work())


@pytest.fixture
def real_parser() -> None:
    """Ask for the child process itself; other tests have its work done here, which takes a tenth of the time."""


@pytest.fixture(autouse=True)
def parser_here(request, monkeypatch) -> None:
    """The parser without its fences, but with everything passing through the same messages."""

    def run(order: Order) -> Answer:
        heard = msgspec.json.decode(msgspec.json.encode(order), type=Order)
        return msgspec.json.decode(msgspec.json.encode(answer(heard)), type=Answer)

    if "real_parser" not in request.fixturenames:
        monkeypatch.setattr(limited, "run", run)


@pytest.fixture
def owner(db) -> User:
    """A user without any right beyond their own."""
    return User.objects.create_user("owner", password="a long secret")


@pytest.fixture
def stranger(db) -> User:
    """Another one."""
    return User.objects.create_user("stranger", password="a long secret")


@pytest.fixture
def client(owner) -> Client:
    """The owner's browser."""
    client = Client()
    client.force_login(owner)
    return client
