"""The parser as a child process: bounded, without secrets, and mortal."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from inference.contract import ModelRef
from inference.volume import pack_mask
from server.imaging import limited, results, selectors, services, tus
from server.imaging.errors import NothingReadable, ResultInvalid
from server.imaging.models import Study
from server.imaging.parser.orders import ReadOrder
from tests.server.imaging import deliveries

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("real_parser")]

MODEL = ModelRef(name="segresnet", version="1.0.0", sha256="cd" * 32)


def test_a_child_reads_a_series_and_another_proves_its_mask(owner, tmp_path, data_dir):
    series = services.ingest_uploaded(owner=owner, files=deliveries.dicom_files(tmp_path / "in")).series[0]
    grid = selectors.grid_of(series)
    labels = deliveries.scan(shape=grid.shape).voxels % 4
    packed = pack_mask(labels.astype("uint8"), tmp_path / "mask", affine=grid.affine)
    upload = tus.create(length=packed.size, max_bytes=1 << 20, job_id="JOB", fence=1)
    tus.append(upload, offset=0, chunk=(tmp_path / "mask").read_bytes())

    files = results.prove(
        upload=upload, packed=packed, job_id="JOB", reference=series, inputs=[series] * 4, model=MODEL, metrics={}
    )

    assert files.has_seg
    assert sorted(path.name for path in (data_dir / files.folder).iterdir()) == [
        *(f"key-{number}.dcm" for number in (1, 2, 3)),
        *("mask.dcm", "mask.nii.gz", "report.dcm", "report.json", "summary.dcm", "summary.pdf"),
    ]
    assert list((data_dir / "staging").iterdir()) == []


def test_a_child_that_needs_too_much_memory_takes_nobody_with_it_and_the_file_is_named(owner, settings, data_dir):
    """64 MB of voxels do not fit beside Python in 300 MB of address space."""
    settings.LIMITS = replace(settings.LIMITS, parser_memory_bytes=300 << 20)
    large = deliveries.scan(shape=(512, 512, 128))
    deliveries.write_nifti(large, data_dir / "t1.nii")

    with pytest.raises(NothingReadable) as caught:
        services.ingest_uploaded(owner=owner, files=[SimpleUploadedFile("t1.nii", (data_dir / "t1.nii").read_bytes())])

    assert caught.value.extra["refused"][0]["filename"] == "t1.nii"
    # Where memory ends depends on what Python has loaded: while the file is read, or after.
    assert caught.value.extra["refused"][0]["code"] in {"too_large", "parser_failed"}
    assert Study.objects.count() == 0
    assert list((data_dir / "staging").iterdir()) == []


def test_a_child_that_takes_too_long_is_killed(owner, settings):
    settings.LIMITS = replace(settings.LIMITS, parser_seconds=0.05)

    with pytest.raises(NothingReadable):
        services.ingest_uploaded(owner=owner, files=[deliveries.nifti("t1.nii")])


def test_a_proof_that_dies_is_an_invalid_result(owner, settings, tmp_path):
    settings.LIMITS = replace(settings.LIMITS, parser_seconds=60.0)
    series = services.ingest_uploaded(owner=owner, files=[deliveries.nifti("t1.nii")]).series[0]
    packed = selectors.packed_of(series.artifact)
    upload = tus.create(length=1, max_bytes=10, job_id="JOB", fence=1)
    settings.LIMITS = replace(settings.LIMITS, parser_memory_bytes=50 << 20)

    with pytest.raises(ResultInvalid, match="memory or time"):
        results.prove(upload=upload, packed=packed, job_id="JOB", reference=series, inputs=[], model=MODEL, metrics={})


def test_the_child_gets_no_secret(monkeypatch):
    monkeypatch.setitem(os.environ, "SECRET_KEY", "hidden")
    monkeypatch.setitem(os.environ, "DATABASE_URL", "postgres://user:hidden@db/x")

    assert "hidden" not in repr(limited._bare_environment())


def test_an_order_of_no_files_is_answered_with_nothing(tmp_path):
    found = limited.run(ReadOrder(bounds=limited.bounds(), folder=str(tmp_path), files=()))

    assert (found.series, found.refused) == ((), ())


def in_a_child(code: str) -> subprocess.CompletedProcess[str]:
    """Python code behind the parser's fences."""
    fences = "from server.imaging.parser.__main__ import fence_in; from server.imaging.parser.orders import Bounds; "
    bounds = "Bounds(memory_bytes=1 << 30, cpu_seconds=20, file_bytes=1 << 20, "
    rest = "archive_members=1, archive_ratio=1, archive_bytes=1)"
    command = [sys.executable, "-c", f"{fences}fence_in({bounds}{rest})\n{code}"]
    return subprocess.run(command, text=True, capture_output=True, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.fork()",
        "import os; os.system('true')",
        "import os; os.execv('/bin/true', ['true'])",
    ],
)
def test_the_child_reaches_no_network_and_starts_nothing(code):
    done = in_a_child(code)

    assert done.returncode == 1
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("[open('/dev/null') for _ in range(300)]", "Too many open files"),
        ("bytearray(2 << 30)", "MemoryError"),
        ("open('x', 'wb').write(bytes(2 << 20))", "File too large"),
    ],
)
def test_the_child_is_bounded(code, failure, tmp_path):
    done = in_a_child(f"import os; os.chdir({str(tmp_path)!r})\n{code}")

    assert failure in done.stderr


def test_no_child_is_left_behind_when_one_is_killed(owner, settings, data_dir):
    settings.LIMITS = replace(settings.LIMITS, parser_seconds=0.05)
    before = psutil.Process().children()

    with pytest.raises(NothingReadable):
        services.ingest_uploaded(owner=owner, files=[deliveries.nifti("t1.nii")])

    assert psutil.Process().children() == before
    assert [path for path in data_dir.rglob("*") if path.is_file()] == []
