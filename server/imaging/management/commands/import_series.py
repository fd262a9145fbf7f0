"""`manage.py import_series PATH…`: DICOM folders, zip or NIfTI files in, one JSON document on stdout."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from server.core.errors import Problem
from server.imaging.importing import import_paths, importer


class Command(BaseCommand):
    help = "Read DICOM folders, zip archives or NIfTI files in, and print what they are now as one JSON document."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
        parser.add_argument("--owner", metavar="USERNAME", help="whose studies they are (default: the first superuser)")
        parser.add_argument("--replace", action="store_true", help="let changed series become the next revision")

    def handle(self, *_args: Any, **options: Any) -> None:
        owner = importer(options["owner"])
        if owner is None:
            raise CommandError("there is no such user; make one with `manage.py createsuperuser`, or name it: --owner")
        missing = [path for path in options["paths"] if not path.exists()]
        if missing:
            raise CommandError(f"there is no {missing[0]}")
        try:
            done = import_paths(owner=owner, paths=options["paths"], is_replacement=options["replace"])
        except Problem as problem:
            raise CommandError(problem.detail) from problem
        found = {"studies": done.studies(), "refused": done.refused, "set_aside": done.set_aside}
        self.stdout.write(json.dumps(found))
