"""Triggers that refuse to change or delete an entry or a seal, whoever asks the database."""

from __future__ import annotations

from typing import Any

TABLES = ("audit_entry", "audit_seal")
REFUSAL = "the audit log is append-only"


def put(connection: Any) -> None:
    """Guard the tables of the log."""
    _run(connection, _POSTGRESQL if connection.vendor == "postgresql" else _SQLITE)


def lift(connection: Any) -> None:
    """Let the rows be deleted: by an operator after an export, or between two tests."""
    _run(connection, _POSTGRESQL_LIFT if connection.vendor == "postgresql" else _SQLITE_LIFT)


def _run(connection: Any, statements: tuple[str, ...]) -> None:
    with connection.cursor() as cursor:
        for table in TABLES:
            for statement in statements:
                cursor.execute(statement.format(table=table, refusal=REFUSAL))


_SQLITE = tuple(
    f"CREATE TRIGGER {{table}}_no_{verb.lower()} BEFORE {verb} ON {{table}} "
    "BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
    for verb in ("UPDATE", "DELETE")
)
_SQLITE_LIFT = tuple(f"DROP TRIGGER IF EXISTS {{table}}_no_{verb}" for verb in ("update", "delete"))
_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION '{refusal}' USING ERRCODE = 'integrity_constraint_violation'; END $$",
    "CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
)
_POSTGRESQL_LIFT = (
    "DROP TRIGGER IF EXISTS {table}_no_change ON {table}",
    "DROP TRIGGER IF EXISTS {table}_no_truncate ON {table}",
)
