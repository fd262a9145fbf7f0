"""`manage.py pacs_send`: send what waits for archives now, and say what is left."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from server.pacs import deliveries, services
from server.pacs.loop import EVER
from server.pacs.models import Delivery


class Command(BaseCommand):
    help = "Send what waits for archives now. The server does so by itself; this is for after an outage, or without it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--archive", metavar="NAME", help="only to this one")
        parser.add_argument(
            "--retry", action="store_true", help="also what has failed, and what would wait for its time"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        services.know_default()
        since: datetime = timezone.now() - EVER
        deliveries.write_owed(since=since)
        rows = Delivery.objects.all()
        if options["archive"]:
            rows = rows.filter(server__name=options["archive"])
        if options["retry"]:
            deliveries.retry(rows)
        due = [one for one in deliveries.due_servers() if options["archive"] in (None, one.name)]
        sent = sum(deliveries.send_due(server.pk, is_stopping=lambda: False) for server in due)
        waiting = rows.filter(state=Delivery.State.WAITING).count()
        failed = rows.filter(state=Delivery.State.FAILED).count()
        self.stdout.write(f"tried={sent} waiting={waiting} failed={failed}")
