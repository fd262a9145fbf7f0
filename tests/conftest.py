"""What every test with a database needs."""

import pytest
from django.core.cache import cache
from django.db import connection

from server.audit import guards


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """The test database, in which the audit log may be emptied between two tests."""
    with django_db_blocker.unblock():
        guards.lift(connection)
    yield
    with django_db_blocker.unblock():
        _hang_up_on_threads()


def _hang_up_on_threads():
    """PostgreSQL drops no database that threads which outlived their test are still connected to."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture(autouse=True)
def _nobody_was_here_before():
    """What one test did too often is not held against the next."""
    cache.clear()
