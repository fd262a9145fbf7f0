"""`manage.py api_token USERNAME`: one API token, alone, on stdout."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from server.accounts.services import issue_api_token


class Command(BaseCommand):
    help = "Print a new API token of a user. It is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--days", type=float, default=None, help="how long it is good; 365 unless LIMITS says else")

    def handle(self, *_args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"], is_active=True).first()
        if user is None:
            raise CommandError(f"there is no active user {options['username']!r}")
        self.stdout.write(issue_api_token(user=user, days=options["days"]))
