"""`manage.py verify_storage`: read every stored file and name those that are not what was put there."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from server.core.errors import Problem
from server.imaging.verifying import check_all


class Command(BaseCommand):
    help = "Read every stored volume, input and result, and name each that is damaged or missing."

    def handle(self, *_args: Any, **_options: Any) -> None:
        count, damaged = 0, 0
        try:
            for file in check_all():
                count += 1
                if not file.is_sound:
                    damaged += 1
                    self.stdout.write(f"damaged: {file.path} of {file.owner}")
        except Problem as problem:
            raise CommandError(problem.detail) from problem
        if damaged:
            raise CommandError(f"{damaged} of {count} files are damaged; they are not shown until they are restored")
        self.stdout.write(f"{count} files are sound")
