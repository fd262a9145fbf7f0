"""`manage.py enrol_token NAME`: a one-time token for a lab PC."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from server.dispatch.models import ROUTES
from server.dispatch.services import issue_enrol_token


class Command(BaseCommand):
    help = "Print one one-time token, alone, on stdout; it is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="which machine it is for")
        parser.add_argument("--route", choices=[route for route, _ in ROUTES], default="lab", help="default: lab")

    def handle(self, *, name: str, route: str, **options: Any) -> None:
        self.stdout.write(issue_enrol_token(name=name, route=route))
