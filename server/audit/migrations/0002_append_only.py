"""Guard the log in the database itself."""

from typing import Any

from django.db import migrations

from server.audit import guards


def put(_apps: Any, editor: Any) -> None:
    """Refuse changes from now on."""
    guards.put(editor.connection)


def lift(_apps: Any, editor: Any) -> None:
    """Allow them again."""
    guards.lift(editor.connection)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [migrations.RunPython(put, lift)]
