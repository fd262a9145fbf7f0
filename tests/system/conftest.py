"""Stacks of real processes. They are dear, so the tests of a module share one where they can."""

from collections.abc import Iterator

import pytest

from tests.system.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server with one lab worker."""
    with Stack(tmp_path_factory.mktemp("stack") / "data") as running:
        running.start_worker(running.enrol_worker())
        yield running


@pytest.fixture
def bare_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server of its own and no worker."""
    with Stack(tmp_path_factory.mktemp("bare") / "data") as running:
        yield running
