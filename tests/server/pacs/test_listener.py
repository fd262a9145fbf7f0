"""C-STORE with real associations on loopback: who may send, what is kept, and when it is read in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom import AE, _config
from pynetdicom.association import Association

from server.imaging.errors import NothingReadable, StorageFull
from server.imaging.models import Study
from server.pacs.archives import Parcel
from server.pacs.dimse import Dimse
from server.pacs.errors import ArchiveAway, ArchiveBusy, ArchiveDenied, ArchiveRefused
from server.pacs.listener import MR_CLASSES, NOT_UNDERSTOOD, OUT_OF_RESOURCES, Caller, Door, Listener
from server.pacs.models import Sighting
from server.pacs.spool import Spool
from tests.server.pacs.patients import dicom_patient
from tests.server.shelf import a_user
from tests.system.stack import free_port

UID = "1.2.826.9"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return dicom_patient(tmp_path_factory.mktemp("patient"), uid=UID, sequences=("t1",))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "received")


@pytest.fixture
def door() -> Door:
    callers = (Caller("SCANNER", "127.0.0.1"), Caller("ELSEWHERE", "10.0.0.7"))
    return Door("SEGWIRE", "127.0.0.1", free_port(), callers, 0.0, most_images=30, most_bytes=1 << 20)


@pytest.fixture
def listener(door: Door, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """It receives; nothing is read in but by the test."""
    monkeypatch.setattr(Listener, "_keep_reading", lambda _: None)
    monkeypatch.setattr("tempfile.tempdir", None)
    running = Listener(door, owner=None, spool=spool)
    running.start()
    yield running
    running.stop()
    _config.STORE_RECV_CHUNKED_DATASET = False


def archive_at(door: Door, *, calling: str = "SCANNER", called: str = "SEGWIRE") -> Dimse:
    return Dimse(url=f"dicom://{called}@127.0.0.1:{door.port}", calling_aet=calling)


def associated(door: Door, *syntaxes: str) -> Association:
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(MR_CLASSES[0], list(syntaxes) or None)
    return entity.associate("127.0.0.1", door.port, ae_title=door.aet)


def kept(spool: Spool) -> int:
    return sum(1 for file in spool.root.rglob("*.dcm") if file.parent.name != "arriving")


def test_what_is_sent_lies_on_the_disk_when_the_sender_hears_of_it(listener, door, spool, files) -> None:
    for file in (*files[:3], files[0]):
        archive_at(door).store(Parcel(file.read_bytes()))

    [folder] = spool.at_rest(seconds=0)
    received = [dcmread(file) for file in folder.iterdir()]
    assert {one.SOPInstanceUID for one in received} == {dcmread(file).SOPInstanceUID for file in files[:3]}
    assert all(one.StudyInstanceUID == UID and len(one.PixelData) == 24 * 24 * 2 for one in received)
    assert list((spool.root / "arriving").iterdir()) == []


def test_an_echo_is_answered(listener, door) -> None:
    assert archive_at(door).test() == "It answers C-ECHO."


@pytest.mark.parametrize("names", [{"calling": "STRANGER"}, {"called": "ANOTHER"}])
def test_who_is_not_listed_gets_no_association(listener, door, spool, files, names) -> None:
    with pytest.raises(ArchiveDenied):
        archive_at(door, **names).store(Parcel(files[0].read_bytes()))

    assert kept(spool) == 0


def test_a_listed_title_from_another_address_is_not_believed(listener, door, spool, files) -> None:
    with pytest.raises(ArchiveDenied):
        archive_at(door, calling="ELSEWHERE").store(Parcel(files[0].read_bytes()))
    with pytest.raises(ArchiveBusy):
        archive_at(door, calling="ELSEWHERE").test()

    assert kept(spool) == 0
    assert list((spool.root / "arriving").iterdir()) == []


def test_a_kind_that_is_not_taken_is_refused(listener, door, files) -> None:
    computed = dcmread(files[0])
    computed.SOPClassUID = computed.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    target = files[0].parent / "ct.dcm"
    computed.save_as(target)

    with pytest.raises((ArchiveRefused, ArchiveAway)):
        archive_at(door).store(Parcel(target.read_bytes()))


def test_an_image_that_does_not_say_whose_it_is_is_not_kept(listener, door, spool, files) -> None:
    odd = dcmread(files[0])
    del odd.StudyInstanceUID
    association = associated(door, odd.file_meta.TransferSyntaxUID)

    status = association.send_c_store(odd)
    association.release()

    assert (status.Status, kept(spool)) == (NOT_UNDERSTOOD, 0)


def test_one_association_brings_only_so_much(listener, door, spool, files) -> None:
    listener.door = replace(door, most_images=2)
    association = associated(door, dcmread(files[0]).file_meta.TransferSyntaxUID)

    answers = [association.send_c_store(dcmread(file)).Status for file in files[:3]]
    association.release()

    assert answers == [0, 0, OUT_OF_RESOURCES]
    assert kept(spool) == 2


def test_a_full_disk_is_told_to_the_sender(listener, door, spool, files, monkeypatch) -> None:
    monkeypatch.setattr(Spool, "free_bytes", lambda _: 0)

    with pytest.raises(ArchiveBusy):
        archive_at(door).store(Parcel(files[0].read_bytes()))

    assert kept(spool) == 0


def test_a_study_does_not_rest_while_its_sender_is_there(listener, door, spool, files) -> None:
    association = associated(door, dcmread(files[0]).file_meta.TransferSyntaxUID)
    association.send_c_store(dcmread(files[0]))

    assert list(spool.at_rest(seconds=0)) == []

    spool.gone(next(iter(spool._busy)))
    association.release()
    assert len(list(spool.at_rest(seconds=0))) == 1


def a_listener(door: Door, spool: Spool, owner: Any, **options: Any) -> Listener:
    spool.prepare()
    return Listener(door, owner=owner, spool=spool, **options)


def arrive(spool: Spool, files: list[Path]) -> None:
    for file in files:
        copy = spool.root / "arriving" / file.name
        copy.write_bytes(file.read_bytes())
        spool.take(copy, study_uid=UID, image_uid=file.name, sender="scanner")
    spool.gone("scanner")


@pytest.mark.django_db
def test_a_study_at_rest_is_read_in_for_the_owner_and_seen_by_the_rules(door, spool, files) -> None:
    owner = a_user()
    listener = a_listener(door, spool, owner)
    arrive(spool, files)

    assert (listener.read_rested(), listener.read_rested()) == (1, 0)

    study, row = Study.objects.get(), Sighting.objects.get()
    assert (study.uid, study.owner, study.series.get().sequence) == (UID, owner, "T1")
    assert (row.study, row.state, row.images, row.server) == (study, "here", 24, None)
    assert (row.facts["modalities"], row.facts["series_descriptions"]) == (["MR"], ["T1 SE AX"])
    assert kept(spool) == 0


@pytest.mark.django_db
def test_a_study_that_came_while_it_was_read_is_put_back_by_the_next_start(door, spool, files) -> None:
    listener = a_listener(door, spool, a_user())
    arrive(spool, files[:12])
    spool.begin(next(iter(spool.at_rest(seconds=0))))
    arrive(spool, files[6:])

    spool.prepare()

    assert listener.read_rested() == 1
    assert Study.objects.get().series.get().shape[2] == 24


def refusing(error: Exception) -> Any:
    def read_in(**_: Any) -> None:
        raise error

    return read_in


@pytest.mark.django_db
def test_what_cannot_be_read_says_why_and_is_dropped(door, spool, files) -> None:
    reason = [{"filename": "a.dcm", "code": "no_image", "detail": "No image."}]
    listener = a_listener(door, spool, a_user(), read_in=refusing(NothingReadable(reason)))
    arrive(spool, files)

    listener.read_rested()

    assert (Sighting.objects.get().state, Sighting.objects.get().reason) == ("passed", "a.dcm: No image.")
    assert kept(spool) == 0


@pytest.mark.django_db
def test_what_the_parser_died_over_is_kept_for_the_operator(door, spool, files) -> None:
    """The sender was told that it is stored."""
    reason = [{"filename": "a.dcm", "code": "parser_failed", "detail": "Too much."}]
    listener = a_listener(door, spool, a_user(), read_in=refusing(NothingReadable(reason)))
    arrive(spool, files)

    listener.read_rested()

    assert (kept(spool), listener.read_rested()) == (24, 0)


@pytest.mark.django_db
def test_a_full_disk_lets_a_study_wait(door, spool, files) -> None:
    listener = a_listener(door, spool, a_user(), read_in=refusing(StorageFull()))
    arrive(spool, files)

    assert listener.read_rested() == 0

    assert (kept(spool), Sighting.objects.count()) == (24, 0)
    assert len(list(spool.at_rest(seconds=0))) == 1


@pytest.mark.django_db
def test_what_nobody_foresaw_keeps_the_files(door, spool, files) -> None:
    listener = a_listener(door, spool, a_user(), read_in=refusing(ZeroDivisionError("a bug")))
    arrive(spool, files)

    with pytest.raises(ZeroDivisionError):
        listener.read_rested()

    assert (kept(spool), listener.read_rested(), Sighting.objects.get().state) == (24, 0, "passed")
