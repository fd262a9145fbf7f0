"""What an archive can do for us, and which kind of archive a row means."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from django.conf import settings

from server.pacs.criteria import Criteria
from server.pacs.findings import FoundSeries, FoundStudy
from server.pacs.models import Server
from server.pacs.place import Place
from server.pacs.secrets import unseal

DIMSE = "dicom"


@dataclass
class Allowance:
    """What one study may still bring; counted down as it comes."""

    bytes: int
    images: int


@dataclass(frozen=True)
class Parcel:
    """A DICOM object to be stored there."""

    content: bytes
    sop_instance_uid: str = ""
    """Empty where only the file knows it."""


class Archive(Protocol):
    """One archive, for some requests in a row. Everything may raise an ArchiveFailure; all of it blocks."""

    def test(self) -> str:
        """Ask for something harmless; a sentence about what answered."""

    def search(self, criteria: Criteria, *, limit: int) -> list[FoundStudy]:
        """Studies that match, at most `limit`. Raises SearchTooWide."""

    def new_studies(self, *, since: str, limit: int) -> list[FoundStudy]:
        """Studies of that day (YYYYMMDD) and later, at most `limit`."""

    def changed_studies(self, *, after: int) -> tuple[list[str], int]:
        """Studies that have changed since a change's number, by UID, and the newest number; Orthanc only."""

    def study(self, study_uid: str) -> FoundStudy | None:
        """One study."""

    def series_of(self, study_uid: str) -> list[FoundSeries]:
        """Its series. Raises NotInArchive."""

    def fetch(self, study_uid: str, series_uid: str, *, into: Path, allowance: Allowance) -> int:
        """Write every image of a series into a folder, as it is there; how many."""

    def store(self, parcel: Parcel) -> None:
        """Bring an object there. It being there already is fine."""


Opener = Callable[..., AbstractContextManager[Archive]]


def open_archive(server: Server, *, is_stopping: Callable[[], bool] = lambda: False) -> AbstractContextManager[Archive]:
    """The archive of a row; imports come late, as a server without archives needs none of it.

    Raises:
        SecretLost.
    """
    if urlsplit(server.url).scheme == DIMSE:
        from server.pacs.dimse import Dimse

        return Dimse(url=server.url, calling_aet=server.calling_aet)
    from server.pacs.dicomweb import DicomWeb

    return DicomWeb(place_of_server(server), is_bearer=server.auth == Server.Auth.BEARER, is_stopping=is_stopping)


def place_of_server(server: Server) -> Place:
    """Address and credentials; those of DICOMWEB_URL are never stored."""
    if server.is_from_environment and settings.DICOMWEB is not None:
        return settings.DICOMWEB
    secret = unseal(server.sealed_secret) if server.auth != Server.Auth.NONE else ""
    return Place(url=server.url.rstrip("/"), username=server.username, password=secret)
