"""`manage.py make_demo_patient`: a simulated patient with four sequences, once; its ids as JSON on stdout."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from server.imaging.demo import make_demo_files
from server.imaging.importing import import_paths, importer
from server.imaging.models import Study


class Command(BaseCommand):
    help = "Make a simulated patient (template anatomy, tumour of known truth) and print the ids of its series as JSON."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--owner", metavar="USERNAME", help="whose study it is (default: the first superuser)")

    def handle(self, *_args: Any, **options: Any) -> None:
        owner = importer(options["owner"])
        if owner is None:
            raise CommandError("there is no such user; make one with `manage.py createsuperuser`, or name it: --owner")
        folder = Path(settings.DATA_DIR) / "demo"
        known = folder / f"study-of-{owner.pk}"
        if not self._is_there(known):
            make_demo_files(folder)
            done = import_paths(owner=owner, paths=[folder / name for name in ("t1", "t1ce", "t2", "flair")])
            known.write_text(done.series[0].study_id)
        study = Study.objects.get(pk=known.read_text())
        series = {one.sequence: one.pk for one in study.series.filter(is_current=True)}
        answer = {"study": study.pk, "series": series, "truth": str(folder / "truth.nii.gz")}
        self.stdout.write(json.dumps(answer))

    def _is_there(self, known: Path) -> bool:
        return known.is_file() and Study.objects.filter(pk=known.read_text()).exists()
