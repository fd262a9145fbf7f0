"""`manage.py enrol_token NAME`: a one-time token for a lab PC."""

from ipaddress import ip_network
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from server.dispatch import enrolment
from server.dispatch.models import ROUTES


class Command(BaseCommand):
    help = "Print one one-time token, alone, on stdout; it is shown this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="which machine it is for")
        parser.add_argument("--route", choices=[route for route, _ in ROUTES], default="lab", help="default: lab")

        parser.add_argument(
            "--label", action="append", default=[], dest="labels", help="a word for it; may be repeated"
        )
        parser.add_argument(
            "--network", default="", help="where it may be used from, as 10.1.0.0/16; default: anywhere"
        )
        parser.add_argument("--needs-approval", action="store_true", help="an administrator must approve the machine")

    def handle(self, *, name: str, route: str, labels: list[str], network: str, **options: Any) -> None:
        try:
            place = str(ip_network(network, strict=False)) if network else ""
        except ValueError as error:
            raise CommandError(f"{network} is no network") from error
        permission = enrolment.Permission(
            name=name, route=route, labels=tuple(labels), network=place, needs_approval=options["needs_approval"]
        )
        self.stdout.write(enrolment.issue(permission))
