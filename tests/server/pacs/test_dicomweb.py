"""What an archive answers is not trusted: whatever it is, it ends in a value or in a failure that says what to do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.pacs.archives import Allowance, Parcel
from server.pacs.connection import Patience
from server.pacs.criteria import Criteria
from server.pacs.dicomweb import DicomWeb
from server.pacs.errors import (
    ArchiveAway,
    ArchiveBusy,
    ArchiveDenied,
    ArchiveFailure,
    ArchiveRefused,
    ArchiveTooMuch,
    ArchiveUnclear,
    NotInArchive,
    Stopping,
)
from server.pacs.place import Place
from tests.server.pacs.http_fakes import Answer, FakeHttp, fake_http

SOMEBODY = Criteria(patient_id="4711")
SERIES = "/studies/1.2/series/1.2.3"
KIND = 'multipart/related; type="application/dicom"; boundary=b0'
WHOLE = b"--b0\r\n\r\nfirst\r\n--b0\r\n\r\nsecond\r\n--b0--"
QUICK = Patience(connect_seconds=1.0, silence_seconds=0.3, whole_seconds=0.6, answer_bytes=4096)


@pytest.fixture
def fake() -> Iterator[FakeHttp]:
    with fake_http() as running:
        yield running


@pytest.fixture
def archive(fake: FakeHttp) -> Iterator[DicomWeb]:
    with DicomWeb(Place(fake.url), patience=QUICK) as opened:
        yield opened


def said(value: Any) -> bytes:
    return json.dumps(value).encode()


def study(uid: str = "1.2") -> dict[str, Any]:
    return {"0020000D": {"vr": "UI", "Value": [uid]}}


def fetched(archive: DicomWeb, folder: Path, *, size: int = 1 << 20, images: int = 10) -> list[bytes]:
    allowance = Allowance(bytes=size, images=images)
    into = folder / "series"
    into.mkdir()
    count = archive.fetch("1.2", "1.2.3", into=into, allowance=allowance)
    files = sorted(into.iterdir())
    assert len(files) == count
    return [file.read_bytes() for file in files]


def test_a_search_asks_as_the_standard_says_and_reads_what_comes(fake: FakeHttp, archive: DicomWeb) -> None:
    fake.on("/studies", Answer(said([study("1.2"), study("not a uid"), 7, study("1.4")])))

    found = archive.search(Criteria(patient_name="doe jane", date="2026-01-31"), limit=9)

    assert [one.uid for one in found] == ["1.2", "1.4"]
    method, path, headers, _ = fake.asked[0]
    query = set(path.partition("?")[2].split("&"))
    assert method == "GET"
    assert query >= {"PatientName=doe?jane*", "StudyDate=20260131", "limit=9"}
    assert headers["Accept"].startswith("application/dicom+json")
    assert headers["Host"] == fake.url.split("/")[2]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Answer(status=401), ArchiveDenied),
        (Answer(status=403), ArchiveDenied),
        (Answer(status=400), ArchiveRefused),
        (Answer(status=409), ArchiveUnclear),
        (Answer(status=500), ArchiveBusy),
        (Answer(status=503), ArchiveAway),
        (Answer(status=429), ArchiveAway),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:9/"}), ArchiveUnclear),
        (Answer(b"<html>", kind="text/html"), ArchiveUnclear),
        (Answer(b'{"a": 1'), ArchiveUnclear),
        (Answer(b"[" * 4000), ArchiveUnclear),
        (Answer(b"7"), ArchiveUnclear),
        (Answer(b"[" + b" " * 5000 + b"]"), ArchiveTooMuch),
        (Answer(gzip.compress(b" " * (1 << 22)), headers={"Content-Encoding": "gzip"}), ArchiveTooMuch),
        (Answer(b"not gzip", headers={"Content-Encoding": "gzip"}), ArchiveUnclear),
        (Answer(b"[]", length=100), ArchiveAway),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else f"{part.status} {part.body[:8]!r}",
)
def test_every_wrong_answer_to_a_search_has_its_failure(
    fake: FakeHttp, archive: DicomWeb, answer: Answer, failure: type[ArchiveFailure]
) -> None:
    fake.on("/studies", answer)

    with pytest.raises(failure) as raised:
        archive.search(SOMEBODY, limit=9)

    assert "4711" not in raised.value.detail


@pytest.mark.parametrize("answer", [Answer(b"[]"), Answer(b""), Answer(status=204), Answer(status=404)])
def test_nothing_found_is_no_failure(fake: FakeHttp, archive: DicomWeb, answer: Answer) -> None:
    fake.on("/studies", answer)

    assert archive.search(SOMEBODY, limit=9) == []


def test_an_archive_that_knows_no_limit_is_cut_off(fake: FakeHttp, archive: DicomWeb) -> None:
    fake.on("/studies", Answer(said([study(f"1.{number}") for number in range(50)])))

    assert len(archive.search(SOMEBODY, limit=9)) == 9


def test_an_archive_that_says_when_to_come_again_is_heard(fake: FakeHttp, archive: DicomWeb) -> None:
    fake.on("/studies", Answer(status=503, headers={"Retry-After": "120"}))

    with pytest.raises(ArchiveAway) as raised:
        archive.search(SOMEBODY, limit=9)

    assert raised.value.retry_after_seconds == 120.0


def test_a_redirect_is_not_followed(fake: FakeHttp, archive: DicomWeb) -> None:
    """An archive must not be able to send this server anywhere."""
    fake.on("/studies", Answer(status=307, headers={"Location": f"{fake.url}/elsewhere"}))

    with pytest.raises(ArchiveUnclear):
        archive.search(SOMEBODY, limit=9)

    assert [path.partition("?")[0] for _, path, _, _ in fake.asked] == ["/dicom-web/studies"]


def test_an_archive_that_goes_silent_is_away(fake: FakeHttp, archive: DicomWeb) -> None:
    def silence() -> Iterator[bytes]:
        yield b"["
        fake.done.wait(5)

    fake.on("/studies", Answer(drip=silence))

    with pytest.raises(ArchiveAway):
        archive.search(SOMEBODY, limit=9)


def test_an_archive_that_drips_is_not_waited_for_to_the_end(fake: FakeHttp, archive: DicomWeb) -> None:
    """Every byte begins the wait for the next anew, so the whole has a limit of its own."""

    def drip() -> Iterator[bytes]:
        while not fake.done.wait(0.05):
            yield b" "

    fake.on("/studies", Answer(drip=drip))

    with pytest.raises(ArchiveAway):
        archive.search(SOMEBODY, limit=9)


def test_the_parts_of_a_series_become_files(fake: FakeHttp, archive: DicomWeb, tmp_path: Path) -> None:
    fake.on(SERIES, Answer(WHOLE, kind=KIND))

    assert fetched(archive, tmp_path) == [b"first", b"second"]
    assert "transfer-syntax=*" in fake.asked[0][2]["Accept"]


def test_a_single_image_may_come_alone(fake: FakeHttp, archive: DicomWeb, tmp_path: Path) -> None:
    fake.on(SERIES, Answer(b"alone", kind="application/dicom"))

    assert fetched(archive, tmp_path) == [b"alone"]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Answer(WHOLE[:-8], kind=KIND), ArchiveUnclear),
        (Answer(WHOLE[:-8], kind=KIND, length=len(WHOLE)), ArchiveAway),
        (Answer(WHOLE, kind="multipart/related"), ArchiveUnclear),
        (Answer(b"PK", kind="application/zip"), ArchiveUnclear),
        (Answer(b"<html>", kind="text/html"), ArchiveUnclear),
        (Answer(status=404), NotInArchive),
        (Answer(status=504), ArchiveAway),
        (Answer(WHOLE.replace(b"first", b"f" * 9000), kind=KIND), ArchiveTooMuch),
        (Answer(b"--b0\r\n\r\nx\r\n" * 40 + b"--b0--", kind=KIND), ArchiveTooMuch),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else f"{part.status} {part.kind}",
)
def test_every_wrong_answer_to_a_fetch_has_its_failure(
    fake: FakeHttp, archive: DicomWeb, tmp_path: Path, answer: Answer, failure: type[Exception]
) -> None:
    fake.on(SERIES, answer)

    with pytest.raises(failure):
        fetched(archive, tmp_path, size=8000, images=10)


def test_an_endless_answer_ends_at_the_allowance(fake: FakeHttp, archive: DicomWeb, tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        yield b"--b0\r\n\r\n"
        while not fake.done.is_set():
            yield b"x" * 65536

    fake.on(SERIES, Answer(drip=endless, kind=KIND))

    with pytest.raises(ArchiveTooMuch):
        fetched(archive, tmp_path, size=1 << 20)

    assert sum(file.stat().st_size for file in (tmp_path / "series").iterdir()) <= 1 << 20


def test_a_fetch_ends_when_the_process_does(fake: FakeHttp, tmp_path: Path) -> None:
    fake.on(SERIES, Answer(WHOLE, kind=KIND))

    with DicomWeb(Place(fake.url), is_stopping=lambda: True) as archive, pytest.raises(Stopping):
        fetched(archive, tmp_path)


STORED = said({"00081199": {"vr": "SQ", "Value": [{}]}, "00081198": {"vr": "SQ"}})


def refusing(code: int) -> bytes:
    return said({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [code]}}]}})


@pytest.mark.parametrize(
    "answer",
    [
        Answer(STORED),
        Answer(b""),
        Answer(STORED, status=202),
        Answer(b"<NativeDicomModel/>", kind="application/dicom+xml"),
        Answer(refusing(0x0111), status=409),
    ],
)
def test_an_object_that_was_stored_or_was_there_is_sent(fake: FakeHttp, archive: DicomWeb, answer: Answer) -> None:
    fake.on("/studies", answer)

    archive.store(Parcel(b"the object", "1.2.3.4"))

    _, _, headers, body = fake.asked[0]
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"; boundary=')
    assert b"\r\n\r\nthe object\r\n--" in body


@pytest.mark.parametrize(
    ("answer", "failure", "reason"),
    [
        (Answer(refusing(0x0122), status=409), ArchiveRefused, "kind of object not supported (0122H)"),
        (Answer(refusing(0xA900), status=409), ArchiveRefused, "does not match its kind"),
        (Answer(refusing(0xC123), status=409), ArchiveRefused, "(C123H)"),
        (Answer(refusing(0xA701), status=409), ArchiveBusy, "out of resources"),
        (Answer(refusing(0x0110)), ArchiveBusy, "processing failure"),
        (Answer(status=409), ArchiveRefused, "no reason"),
        (Answer(status=404), ArchiveRefused, "nothing at this address"),
        (Answer(status=413), ArchiveRefused, "413"),
        (Answer(status=507), ArchiveBusy, "507"),
        (Answer(status=401), ArchiveDenied, "401"),
        (Answer(status=503), ArchiveAway, "503"),
    ],
)
def test_an_object_that_was_not_stored_has_the_reason(
    fake: FakeHttp, archive: DicomWeb, answer: Answer, failure: type[ArchiveFailure], reason: str
) -> None:
    fake.on("/studies", answer)

    with pytest.raises(failure) as raised:
        archive.store(Parcel(b"the object", "1.2.3.4"))

    assert reason in raised.value.detail


def test_a_conflict_is_no_failure_when_the_object_is_there_after_all(fake: FakeHttp, archive: DicomWeb) -> None:
    fake.on("/studies", Answer(status=409))
    fake.on("/instances", Answer(said([{"00080018": {"vr": "UI", "Value": ["1.2.3.4"]}}])))

    archive.store(Parcel(b"the object", "1.2.3.4"))

    assert fake.asked[1][1] == "/dicom-web/instances?SOPInstanceUID=1.2.3.4&limit=1"


@pytest.mark.parametrize(
    ("place", "is_bearer", "header"),
    [
        ({"username": "seg", "password": "grün"}, False, "Basic c2VnOmdyw7xu"),
        ({"password": "token"}, True, "Bearer token"),
        ({}, False, None),
    ],
)
def test_the_archive_is_told_who_asks(
    fake: FakeHttp, place: dict[str, str], is_bearer: bool, header: str | None
) -> None:
    fake.on("/studies", Answer(b"[]"))

    with DicomWeb(Place(fake.url, **place), is_bearer=is_bearer) as archive:
        archive.search(SOMEBODY, limit=1)

    assert fake.asked[0][2].get("Authorization") == header


def test_nobody_listening_is_an_archive_that_is_away() -> None:
    with DicomWeb(Place("http://127.0.0.1:9/dicom-web"), patience=QUICK) as archive, pytest.raises(ArchiveAway):
        archive.search(SOMEBODY, limit=1)
