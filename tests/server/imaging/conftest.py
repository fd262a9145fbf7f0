"""A data folder, a user and a signed-in client of their own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from server.imaging import background


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
