"""`manage.py audit verify|export|seal|head`: is the log still as it was written, and what does it say?"""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_date, parse_datetime

from server.audit import selectors, services
from server.audit.chain import canonical
from server.audit.models import Entry

LONG = timedelta(minutes=10)
COLUMNS = ("number", "at", "actor", "action", "ids", "address", "sha256")


class Command(BaseCommand):
    help = "Verify, export, seal or anchor the audit log."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        verify = commands.add_parser("verify", help="look for changed, removed and inserted entries")
        verify.add_argument(
            "--anchor", action="append", default=[], metavar="NUMBER:SHA256", help="a hash kept outside"
        )
        export = commands.add_parser("export", help="write entries to stdout, oldest first")
        export.add_argument("--since", default="", metavar="DATE", help="ISO date or time; without zone it is UTC")
        export.add_argument("--format", choices=("jsonl", "csv"), default="jsonl")
        commands.add_parser("seal", help="seal what waits, also far behind the newest seal")
        commands.add_parser("head", help="print the newest seal as NUMBER:SHA256, to be kept outside")

    def handle(self, *_args: Any, **options: Any) -> None:
        getattr(self, f"_{options['what']}")(options)

    def _verify(self, options: dict[str, Any]) -> None:
        count = 0
        for finding in selectors.findings(anchors=dict(_anchor(text) for text in options["anchor"])):
            count += 1
            self.stdout.write(f"{finding.what} at {finding.number}: {finding.sentence}")
        head, (waiting, age) = selectors.head(), selectors.unsealed()
        self.stdout.write(
            f"sealed={head.number if head else 0} unsealed={waiting} oldest_unsealed_s={age.total_seconds():.0f} "
            f"breaks={count}"
        )
        if age > LONG:
            raise CommandError("entries wait for their seal for too long; is a server running?")
        if count:
            raise CommandError("the audit log is not as it was written")

    def _export(self, options: dict[str, Any]) -> None:
        entries = selectors.entries_since(_instant(options["since"])).iterator(chunk_size=selectors.CHUNK)
        if options["format"] == "jsonl":
            for entry in entries:
                self.stdout.write(json.dumps(_row(entry), sort_keys=True))
            return
        table = csv.DictWriter(self.stdout, COLUMNS)
        table.writeheader()
        for entry in entries:
            row = _row(entry)
            table.writerow({**row, "ids": json.dumps(row["ids"], sort_keys=True)})

    def _seal(self, _options: dict[str, Any]) -> None:
        self.stdout.write(f"sealed={services.seal(everything=True)}")

    def _head(self, _options: dict[str, Any]) -> None:
        head = selectors.head()
        self.stdout.write(str(head) if head else "0:")


def _row(entry: Entry) -> dict[str, Any]:
    seal = getattr(entry, "seal", None)
    return {
        **canonical(entry),
        "number": seal.number if seal else None,
        "sha256": seal.sha256 if seal else None,
    }


def _anchor(text: str) -> tuple[int, str]:
    number, _, sha256 = text.partition(":")
    if not number.isdecimal():
        raise CommandError(f"{text!r} is not NUMBER:SHA256")
    return int(number), sha256


def _instant(text: str) -> datetime | None:
    if not text:
        return None
    try:
        instant = parse_datetime(text)
        day = parse_date(text) if instant is None else None
    except ValueError as error:
        raise CommandError(f"{text!r} is no date") from error
    if instant is None and day is not None:
        instant = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if instant is None:
        raise CommandError(f"{text!r} is no date")
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
