"""An archive that speaks DICOMweb (PS3.18): QIDO-RS through dicomweb-client, WADO-RS and STOW-RS as streams.

dicomweb-client would hold and parse what it retrieves in this process, and would write anew what it stores. Foreign
files are only ever opened by the parser child, and what is sent are the very bytes that were proven.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import requests
from dicomweb_client import DICOMwebClient
from requests.auth import AuthBase, HTTPBasicAuth

from server.pacs.archives import Allowance, Parcel
from server.pacs.connection import Connection, Patience, json_of, told
from server.pacs.criteria import Criteria
from server.pacs.errors import (
    ArchiveBusy,
    ArchiveFailure,
    ArchiveRefused,
    ArchiveTooMuch,
    ArchiveUnclear,
    NotInArchive,
)
from server.pacs.findings import FoundSeries, FoundStudy, number_of, series_of, study_of, text_of, values_of
from server.pacs.multipart import Mark, Parts, boundary_of, joined
from server.pacs.place import Place

JSON = "application/dicom+json, application/json"
SERIES_SECONDS = 900.0
STORE_SECONDS = 120.0
MOST_SERIES = 1000
STUDY_FIELDS = ("StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
SERIES_FIELDS = ("SeriesDescription", "StationName", "InstitutionName", "NumberOfSeriesRelatedInstances")
DUPLICATE = 0x0111
# PS3.18, table I.2-2, and PS3.4, table B.2-1.
REASONS = {
    0x0110: "processing failure",
    DUPLICATE: "already there",
    0x0117: "invalid object",
    0x0122: "kind of object not supported",
    0x0124: "not authorised",
    0xA700: "out of resources",
    0xA900: "the object does not match its kind",
    0xC000: "the object cannot be understood",
    0xC122: "transfer syntax not supported",
}


class DicomWeb:
    """`server.pacs.archives.Archive` over HTTP."""

    def __init__(
        self,
        place: Place,
        *,
        is_bearer: bool = False,
        patience: Patience | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        patience = patience or Patience()
        self._url = place.url
        self._connection = Connection(
            auth=_auth(place, is_bearer=is_bearer), patience=patience, is_stopping=is_stopping
        )
        timeout = (patience.connect_seconds, patience.silence_seconds)
        self._client = DICOMwebClient(self._url, session=self._connection.session, permissive_uid=True, timeout=timeout)
        self._client.set_http_retry_params(retry=False)

    def __enter__(self) -> DicomWeb:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def test(self) -> str:
        """One study, any."""
        found = self._studies({}, limit=1)
        return "It answers, and has studies." if found else "It answers; it shows no study."

    def search(self, criteria: Criteria, *, limit: int) -> list[FoundStudy]:
        return self._studies(criteria.filters(), limit=limit)

    def new_studies(self, *, since: str, limit: int) -> list[FoundStudy]:
        return self._studies({"StudyDate": f"{since}-"}, limit=limit)

    def changed_studies(self, *, after: int) -> tuple[list[str], int]:
        """By Orthanc's `/changes`, which lies beside its DICOMweb root."""
        root = self._url.rpartition("/")[0]
        if after < 0:
            last = self._json(f"{root}/changes", {"last": ""})
            return [], int(last.get("Last", 0)) if isinstance(last, dict) else 0
        found, newest = list[str](), after
        answer = self._json(f"{root}/changes", {"since": str(after), "limit": "500"})
        for change in answer.get("Changes", []) if isinstance(answer, dict) else []:
            newest = max(newest, int(change.get("Seq", 0)))
            if change.get("ChangeType") == "StableStudy":
                study = self._json(f"{root}/studies/{change.get('ID', '')}", {})
                uid = (study or {}).get("MainDicomTags", {}).get("StudyInstanceUID", "")
                found += [str(uid)] if uid else []
        return found, newest

    def study(self, study_uid: str) -> FoundStudy | None:
        return next(iter(self._studies({"StudyInstanceUID": study_uid}, limit=2)), None)

    def series_of(self, study_uid: str) -> list[FoundSeries]:
        with told():
            found = _none_if_absent(
                lambda: self._client.search_for_series(study_uid, fields=SERIES_FIELDS, limit=MOST_SERIES)
            )
        series = [one for entry in _entries(found) if (one := series_of(entry))]
        if not series:
            raise NotInArchive
        return series

    def fetch(self, study_uid: str, series_uid: str, *, into: Path, allowance: Allowance) -> int:
        """Each part goes to a file of its own as it comes."""
        url = f"{self._url}/studies/{study_uid}/series/{series_uid}"
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        with self._connection.answered("GET", url, headers=headers) as answer:
            if answer.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise NotInArchive("The archive lists the series and does not hand it out.")
            pieces = self._connection.pieces(answer, whole_seconds=SERIES_SECONDS, whole_bytes=allowance.bytes)
            said = _marked(answer.headers.get("Content-Type", ""), pieces)
            return _written(said, into=into, allowance=allowance)

    def store(self, parcel: Parcel) -> None:
        kind, body = joined([parcel.content])
        headers = {"Content-Type": kind, "Accept": JSON}
        url = f"{self._url}/studies"
        with self._connection.answered("POST", url, seconds=STORE_SECONDS, data=body, headers=headers) as answer:
            status, content = answer.status_code, self._connection.whole(answer)
            said = _said(content, answer.headers.get("Content-Type", ""))
        failure = _failure_of(said, status)
        if failure is not None and not (status == HTTPStatus.CONFLICT and self._has(parcel)):
            raise failure

    def _has(self, parcel: Parcel) -> bool:
        """Whether an object that was refused is there already: archives say so in different ways."""
        if not parcel.sop_instance_uid:
            return False
        asked = {"SOPInstanceUID": parcel.sop_instance_uid, "limit": "1"}
        try:
            found = self._json(f"{self._url}/instances", asked)
        except ArchiveFailure:
            return False
        return any(text_of(entry, "00080018") == parcel.sop_instance_uid for entry in _entries(found))

    def _studies(self, filters: dict[str, str], *, limit: int) -> list[FoundStudy]:
        with told():
            found = _none_if_absent(
                lambda: self._client.search_for_studies(limit=limit, fields=STUDY_FIELDS, search_filters=filters)
            )
        # An archive that knows no limit sends them all.
        return [one for entry in _entries(found)[:limit] if (one := study_of(entry))]

    def _json(self, url: str, query: dict[str, str]) -> Any:
        with self._connection.answered("GET", url, params=query, headers={"Accept": JSON}) as answer:
            kind = answer.headers.get("Content-Type", "")
            content = self._connection.whole(answer)
        return None if answer.status_code == HTTPStatus.NOT_FOUND else json_of(content, kind)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _auth(place: Place, *, is_bearer: bool) -> AuthBase | None:
    if is_bearer:
        return _Bearer(place.password)
    # As bytes: requests would write them in Latin-1.
    return HTTPBasicAuth(place.username.encode(), place.password.encode()) if place.username else None


def _none_if_absent(ask: Callable[[], Any]) -> Any:
    """Some archives say 404 when nothing matches."""
    try:
        return ask()
    except requests.HTTPError as error:
        if error.response is not None and error.response.status_code == HTTPStatus.NOT_FOUND:
            return None
        raise


def _entries(found: Any) -> list[Any]:
    if found is None:
        return []
    if not isinstance(found, list):
        raise ArchiveUnclear
    return found


def _marked(content_type: str, pieces: Iterator[bytes]) -> Iterator[Mark | bytes]:
    boundary = boundary_of(content_type)
    if boundary is None:
        if not content_type.startswith("application/dicom"):
            raise ArchiveUnclear("The archive answered with something else than DICOM images.")
        yield Mark.BEGIN
        yield from pieces
        yield Mark.END
        return
    parts = Parts(boundary)
    for piece in pieces:
        yield from parts.feed(piece)
    parts.close()


def _written(said: Iterator[Mark | bytes], *, into: Path, allowance: Allowance) -> int:
    count, out = 0, None
    try:
        for one in said:
            if one is Mark.BEGIN:
                out = _next_file(into, count, allowance)
                count += 1
            elif isinstance(one, bytes) and out is not None:
                out.write(one)
                allowance.bytes -= len(one)
            elif out is not None:
                out.close()
    finally:
        if out is not None:
            out.close()
    return count


def _next_file(into: Path, count: int, allowance: Allowance) -> BinaryIO:
    allowance.images -= 1
    if allowance.images < 0:
        raise ArchiveTooMuch("The study has more images than are accepted.")
    return (into / f"{count:06d}.dcm").open("xb")


def _said(content: bytes, kind: str) -> Any:
    """The dataset of a STOW-RS answer; None where there is none to be read."""
    try:
        found = json_of(content, kind)
    except ArchiveUnclear:
        return None
    return found[0] if isinstance(found, list) and found else found


def _failure_of(said: Any, status: int) -> ArchiveFailure | None:
    """Why one object was not stored; None when it was. A FailedSOPSequence may be there and empty."""
    failed = values_of(said, "00081198")
    if not failed:
        if status == HTTPStatus.NOT_FOUND:
            return ArchiveRefused("The archive stores nothing at this address.")
        return ArchiveRefused("The archive answered 409 and gave no reason.") if status == HTTPStatus.CONFLICT else None
    code = number_of(failed[0], "00081197") or 0
    if code == DUPLICATE:
        return None
    named = REASONS.get(code) or REASONS.get(code & 0xFF00) or REASONS.get(code & 0xF000) or "no reason it names"
    is_passing = code == 0x0110 or code & 0xFF00 == 0xA700
    return (ArchiveBusy if is_passing else ArchiveRefused)(f"The archive did not store it: {named} ({code:04X}H).")
