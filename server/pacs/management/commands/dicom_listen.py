"""`manage.py dicom_listen`: receive studies by C-STORE until SIGTERM or Ctrl-C."""

from __future__ import annotations

import resource
import signal
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from server.imaging import storage
from server.imaging.importing import importer
from server.pacs.dimse import is_aet
from server.pacs.listener import Caller, Door, Listener
from server.pacs.spool import Spool

LARGEST_IMAGE_BYTES = 2 << 30
STOP_LOOK_SECONDS = 0.2


class Command(BaseCommand):
    help = "Receive studies by C-STORE: they are read in for one user once they have come to rest."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
        parser.add_argument("--port", type=int, default=11112, help="port to listen on (default: 11112)")
        parser.add_argument("--aet", default="SEGWIRE", help="our title (default: SEGWIRE)")
        parser.add_argument(
            "--allow", action="append", required=True, metavar="AET[@ADDRESS]", help="who may send; may be repeated"
        )
        parser.add_argument("--owner", metavar="USERNAME", help="whose studies they are (default: the first superuser)")
        parser.add_argument("--stable-seconds", type=float, default=30.0, help="rest before a study is read in")

    def handle(self, *_args: Any, **options: Any) -> None:
        owner = importer(options["owner"])
        if owner is None:
            raise CommandError("there is no such user; make one with `manage.py createsuperuser`, or name it: --owner")
        door = _door(options)
        # An image that does not end is cut off here; pynetdicom itself has no limit.
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)  # the parser child sets its own
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_IMAGE_BYTES, hard))
        spool = Spool(storage.path_of(f"received/{door.aet.replace(' ', '_')}-{door.port}"))
        listener = Listener(door, owner=owner, spool=spool)
        told = list[int]()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: told.append(number))
        try:
            listener.start()
        except OSError as error:
            raise CommandError(f"cannot listen on {door.host}:{door.port} ({error.strerror})") from error
        self.stdout.write(f"{door.aet} listens on {door.host}:{door.port}")
        self.stdout.flush()
        # Not an Event: a handler that takes the lock its own thread waits with never comes back.
        while not told:
            time.sleep(STOP_LOOK_SECONDS)
        listener.stop()


def _door(options: dict[str, Any]) -> Door:
    callers = tuple(Caller(*text.partition("@")[::2]) for text in options["allow"])
    wrong = [title for title in (options["aet"], *(caller.aet for caller in callers)) if not is_aet(title)]
    if wrong:
        raise CommandError(f"{wrong[0]!r} is no AET: at most 16 plain letters")
    return Door(
        aet=options["aet"],
        host=options["host"],
        port=options["port"],
        callers=callers,
        stable_seconds=options["stable_seconds"],
        most_images=settings.LIMITS.archive_members,
        most_bytes=settings.LIMITS.upload_bytes,
    )
