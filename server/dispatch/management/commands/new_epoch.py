"""`manage.py new_epoch`: the last step after a backup of the database was restored."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from server.dispatch import selectors
from server.jobs import services
from server.jobs.epoch import begin_epoch

REFUSAL = (
    "A worker is connected, so a server is running. Stop every server, then run this again "
    "(or --force, when the sessions are those of the backup)."
)


class Command(BaseCommand):
    help = (
        "Give a restored database a new life and print its name: results that belong to the time after the backup "
        "are refused, and viewers load everything anew. Run it before the servers are started again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--force", action="store_true", help="also when a worker seems to be connected")

    def handle(self, *, force: bool, **options: Any) -> None:
        if not force and selectors.alive_sessions(services.now()).exists():
            raise CommandError(REFUSAL)
        self.stdout.write(begin_epoch())
