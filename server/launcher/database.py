"""Whether the database can be used, and has the tables of this version: asked once, before anything is served."""

from __future__ import annotations

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor


def trouble() -> str:
    """A sentence about what keeps the server from using its database; empty when nothing does."""
    try:
        _connect_once()
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (DatabaseError, connection.Database.Error) as error:
        return f"The database cannot be used: {str(error).partition(chr(10))[0]}"
    return "The database lacks tables of this version; run first: python manage.py migrate" if missing else ""


def _connect_once() -> None:
    """Without the pool, which tells that it waited and not why."""
    if connection.vendor == "postgresql":
        connection.Database.connect(**connection.get_connection_params()).close()
