"""A disk that is full, read-only or failing, and a power cut: nothing half-stored, and the same request works later."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection

from inference.contract import ModelRef
from inference.volume import pack_mask
from server.imaging import disk, ingest, limited, results, selectors, services, storage, tus
from server.imaging.errors import StorageFailed, StorageFull
from server.imaging.models import Mask, Series, Study, Upload, UploadBatch
from server.imaging.parser import __main__ as parser
from server.imaging.parser.orders import ReadOrder, Unwritten
from tests.server.imaging import deliveries

pytestmark = pytest.mark.django_db

MODEL = ModelRef(name="segresnet", version="1.0.0", sha256="cd" * 32)
CALLS = ("write", "sync", "rename", "create")
ANSWERS = {
    errno.ENOSPC: (507, "storage_full"),
    errno.EDQUOT: (507, "storage_full"),
    errno.EIO: (503, "storage_unavailable"),
    errno.EROFS: (503, "storage_unavailable"),
}
TUS = {"Tus-Resumable": "1.0.0"}
ROWS = (Study, Series, Upload, UploadBatch, Mask)


@contextmanager
def failing(monkeypatch, call: str, number: int) -> Iterator[None]:
    """Every `call` on the disk fails with this error."""

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr(disk, call, fail)
        yield


def everything(data_dir: Path) -> tuple[dict[str, bytes], tuple[int, ...]]:
    """All files below DATA_DIR and the number of rows of each kind."""
    files = {str(path.relative_to(data_dir)): path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    return files, tuple(kind.objects.count() for kind in ROWS)


@pytest.mark.parametrize("number", ANSWERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["sync", "rename"])
def test_an_upload_that_the_disk_refuses_leaves_nothing_and_works_later(client, data_dir, monkeypatch, call, number):
    before = everything(data_dir)

    with failing(monkeypatch, call, number):
        refused = client.post("/api/mri/uploads/", {"files": deliveries.four_niftis()})

    assert (refused.status_code, refused.json()["code"]) == ANSWERS[number]
    assert everything(data_dir) == before
    assert client.post("/api/mri/uploads/", {"files": deliveries.four_niftis()}).status_code == 201


@pytest.mark.parametrize("number", ANSWERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_chunk_that_the_disk_refuses_does_not_count_and_may_come_again(client, owner, monkeypatch, call, number):
    upload = tus.create(length=8, max_bytes=8, owner=owner)
    tus.append(upload, offset=0, chunk=b"1234")

    with failing(monkeypatch, call, number):
        refused = send(client, upload, b"5678", offset=4)

    assert (refused.status_code, refused.json()["code"]) == ANSWERS[number]
    upload.refresh_from_db()
    assert (upload.offset, upload.is_complete) == (4, False)
    tus.append(upload, offset=4, chunk=b"5678")
    upload.refresh_from_db()
    assert upload.is_complete


def test_an_upload_for_which_there_is_no_room_is_not_begun(client, monkeypatch):
    headers = {**TUS, "Upload-Length": "10"}

    with failing(monkeypatch, "create", errno.ENOSPC):
        refused = client.post("/api/mri/uploads/tus/", headers=headers)

    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    assert (Upload.objects.count(), UploadBatch.objects.count()) == (0, 0)


@pytest.mark.parametrize("call", ["sync", "rename"])
def test_a_mask_that_the_disk_refuses_is_not_invalid_and_is_proven_later(owner, tmp_path, data_dir, monkeypatch, call):
    """`result_invalid` would end the job for good, with the mask still in the worker's hands."""
    ask = mask_of_a_series(owner, tmp_path)
    before = everything(data_dir)

    with failing(monkeypatch, call, errno.ENOSPC), pytest.raises(StorageFull):
        results.prove(**ask)

    assert everything(data_dir) == before
    assert results.prove(**ask).size > 0


def test_the_real_error_of_a_full_device_is_told_as_one():
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(StorageFull), disk.told():
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


FILL = """
import pathlib
from server.imaging import disk
from server.imaging.errors import StorageFull
place = pathlib.Path("{folder}/a/b/file")
try:
    with disk.told():
        disk.create(place)
        with place.open("r+b") as out:
            disk.write(out.fileno(), bytes(1 << 20), 0)
            disk.sync(out.fileno())
except StorageFull as full:
    print(full.code)
place.unlink()
disk.create(place)
disk.rename(place, place.with_name("kept"))
"""


def test_a_real_disk_that_is_full_is_told_and_works_again_when_there_is_room(tmp_path):
    mount = f"mount -t tmpfs -o size=256k tmpfs {tmp_path}"
    apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*apart, mount], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk of their own (unshare --user --mount)")
    code = shlex.join([sys.executable, "-c", FILL.format(folder=tmp_path)])

    done = subprocess.run([*apart, f"{mount} && {code}"], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("storage_full\n", "")


@pytest.mark.parametrize(("number", "problem"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageFailed)])
def test_a_parser_that_cannot_write_says_so_and_blames_no_file(monkeypatch, tmp_path, number, problem):
    def full(_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(parser, "answer", full)

    said = parser.told(ReadOrder(bounds=limited.bounds(), folder=str(tmp_path), files=()))

    assert isinstance(said, Unwritten)
    with pytest.raises(problem):
        limited.heard(said)


def test_an_error_that_is_not_the_disks_stays_what_it_is():
    with pytest.raises(IsADirectoryError), disk.told():
        Path("/").write_bytes(b"")


def test_a_commit_whose_answer_was_lost_loses_no_file(owner, data_dir, monkeypatch):
    """A database that restarts may have committed: files that were taken back then would be missed by their rows."""

    def lost(**_: Any) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(ingest.audit, "note", lost)
    with pytest.raises(OperationalError):
        services.ingest_uploaded(owner=owner, files=[deliveries.nifti("t1.nii")])

    assert len(list((data_dir / "series").iterdir())) == 1
    monkeypatch.setattr(storage, "ORPHAN_SECONDS", -60.0)
    services.tidy()
    assert list((data_dir / "series").iterdir()) == []


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), OperationalError("closed")], ids=repr
)
def test_a_batch_that_could_not_be_read_in_is_read_in_later(client, owner, settings, monkeypatch, fault):
    """Its files were acknowledged one by one: giving them up would lose what nobody would send again."""
    content = deliveries.nifti("t1.nii").read()

    def fail(*_: Any) -> None:
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(disk, "rename", fail)
        location = client.post("/api/mri/uploads/tus/", headers={**TUS, "Upload-Length": str(len(content))})["Location"]
        upload = Upload.objects.get(pk=location.rpartition("/")[2])
        assert send(client, upload, content, offset=0).status_code == 204

    batch = UploadBatch.objects.get()
    assert (batch.state, Series.objects.count()) == ("ingesting", 0)
    UploadBatch.objects.update(claimed_at=batch.claimed_at - timedelta(hours=1))
    services.tidy()
    assert (UploadBatch.objects.get().state, Series.objects.count()) == ("done", 1)


class Recorder:
    """Writes down what reaches the disk, and what is not safe there yet."""

    def __init__(self, monkeypatch) -> None:
        self.unsafe: set[str] = set()
        self.synced: set[str] = set()
        self.steps: list[str] = []
        for call in ("write", "sync", "rename"):
            monkeypatch.setattr(disk, call, self._recorded(call, getattr(disk, call)))

    def _recorded(self, call: str, really: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            really(*arguments)
            getattr(self, f"on_{call}")(*arguments)

        return run

    def on_write(self, descriptor: int, _content: bytes, _offset: int) -> None:
        self.unsafe.add(_name_of(descriptor))
        self.steps.append("write")

    def on_sync(self, descriptor: int) -> None:
        self.unsafe.discard(_name_of(descriptor))
        self.synced.add(_name_of(descriptor))

    def on_rename(self, source: Path, target: Path) -> None:
        moved = [target, *target.rglob("*")]
        staged = {str(source / path.relative_to(target)) for path in moved}
        self.unsafe |= staged - self.synced
        if str(target.parent) not in self.synced:
            self.unsafe.add(str(target.parent))
        self.steps.append("rename")

    def on_statement(self, execute, sql, params, many, context) -> Any:
        """A row that is written speaks of files: none of them may be unsafe by then."""
        if sql.startswith(("INSERT INTO", "UPDATE")) and any(table in sql for table in ("series", "mask", '"offset"')):
            assert self.unsafe == set()
            self.steps.append("row")
        return execute(sql, params, many, context)


def _name_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


@pytest.fixture
def recorder(monkeypatch) -> Iterator[Recorder]:
    """What happens on disk and in the database from here on."""
    made = Recorder(monkeypatch)
    with connection.execute_wrapper(made.on_statement):
        yield made


def test_a_power_cut_finds_each_volume_safe_before_its_row(client, recorder):
    client.post("/api/mri/uploads/", {"files": deliveries.four_niftis()})

    assert [step for step in recorder.steps if step == "rename"] == ["rename"] * 4
    assert recorder.steps.index("row") > max(place for place, step in enumerate(recorder.steps) if step == "rename")


def test_a_power_cut_finds_each_chunk_safe_before_its_offset(owner, recorder):
    upload = tus.create(length=8, max_bytes=8, owner=owner)
    recorder.steps.clear()

    tus.append(upload, offset=0, chunk=b"1234")
    tus.append(upload, offset=4, chunk=b"5678")

    assert recorder.steps == ["write", "row", "write", "row"]


def test_a_power_cut_finds_a_mask_safe_before_its_row(owner, tmp_path, recorder):
    ask = mask_of_a_series(owner, tmp_path)
    recorder.steps.clear()

    services.store_mask(job_id="JOB", proven=results.prove(**ask))

    assert recorder.steps == ["rename", "row"]


def test_a_recorder_that_is_not_told_of_a_sync_finds_the_row_too_early(owner, monkeypatch):
    """The proof of the proof: without fsync the tests above fail."""
    monkeypatch.setattr(disk, "sync", lambda descriptor: None)
    recorder = Recorder(monkeypatch)
    monkeypatch.setattr(recorder, "on_sync", lambda descriptor: None)

    with connection.execute_wrapper(recorder.on_statement), pytest.raises(AssertionError):
        tus.append(tus.create(length=8, max_bytes=8, owner=owner), offset=0, chunk=b"1234")


def send(client, upload: Upload, chunk: bytes, *, offset: int) -> Any:
    return client.patch(
        f"/api/mri/uploads/tus/{upload.pk}",
        chunk,
        content_type="application/offset+octet-stream",
        headers={**TUS, "Upload-Offset": str(offset)},
    )


def mask_of_a_series(owner, folder: Path) -> dict[str, Any]:
    """What `results.prove` is asked about a good mask."""
    series = services.ingest_uploaded(owner=owner, files=[deliveries.nifti("t1.nii")]).series[0]
    grid = selectors.grid_of(series)
    packed = pack_mask((deliveries.scan().voxels % 4).astype("uint8"), folder / "mask", affine=grid.affine)
    upload = tus.create(length=packed.size, max_bytes=1 << 20, job_id="JOB", fence=1, sha256=packed.sha256)
    return {
        "upload": tus.append(upload, offset=0, chunk=(folder / "mask").read_bytes()),
        "packed": packed,
        "job_id": "JOB",
        "reference": series,
        "inputs": [series] * 4,
        "model": MODEL,
        "metrics": {},
    }
