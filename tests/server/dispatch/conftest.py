"""A machine and a job, committed, for the tests of the socket."""

import pytest

from tests.server.dispatch.fakes import Machine
from tests.server.dispatch.scenes import a_job


@pytest.fixture
def machine():
    """A machine with a key."""
    return Machine()


@pytest.fixture
def enrolled(transactional_db, machine):
    """The row of that machine, committed."""
    return machine.enrolled()


@pytest.fixture
def queued(transactional_db):
    """A queued job, committed."""
    return a_job()
