"""Good files with some bytes changed: whatever they are then, the parser answers, and what it takes in is whole."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from inference import volume
from inference.dicom import series as dicom_series
from server.imaging.parser.orders import Bounds, Named, ReadAnswer, ReadOrder
from server.imaging.parser.reading import read
from tests.bad_input.uploads import dicoms, niftis
from tests.server.imaging.deliveries import zipped

BOUNDS = Bounds(
    memory_bytes=1 << 30,
    cpu_seconds=60,
    file_bytes=1 << 26,
    archive_members=50,
    archive_ratio=100,
    archive_bytes=1 << 22,
)
QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CODES = """
    archive_damaged archive_unsafe archive_encrypted archive_too_large not_an_image not_dicom malformed
    compression_unsupported not_mr mosaic_unsupported no_geometry not_greyscale too_large too_few_slices
    repeated_positions missing_slices uneven_slices sheared_slices duplicate_instance undecodable
    not_nifti truncated not_3d not_real not_finite no_orientation affine_singular
    """.split()  # noqa: SIM905 - codes read better as text


@cache
def good_dicoms() -> tuple[bytes, ...]:
    return tuple(dicoms.series())


@cache
def good_nifti(*, version: int = 1) -> bytes:
    return niftis.good(version=version)


@cache
def good_zip() -> bytes:
    return zipped({f"study/{place}.dcm": content for place, content in enumerate(good_dicoms())})


Change = tuple[float, int, bytes]
"""Where (0 to 1), how many bytes go, and what comes."""
HEADER = st.floats(0, 0.999)
CHANGES = st.lists(st.tuples(HEADER, st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=4)
KEEPING_LENGTH = st.lists(st.tuples(HEADER, st.just(-1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=5)
CUT = st.one_of(st.just(1.0), st.just(1.0), st.floats(0, 1))


def changed(content: bytes, changes: list[Change], *, within: int, cut: float) -> bytes:
    """The changes fall into the first `within` bytes, where the interesting ones are."""
    for where, gone, come in changes:
        place = int(where * min(within, len(content)))
        removed = len(come) if gone < 0 else gone
        content = content[:place] + come + content[place + removed :]
    return content[: int(cut * len(content))]


def answer_to(files: list[bytes]) -> ReadAnswer:
    """What the parser makes of them, in this process; a claim of more than 16 MB is too large here."""
    folder = Path(tempfile.mkdtemp())
    try:
        named = []
        for place, content in enumerate(files):
            (folder / f"in-{place}").write_bytes(content)
            named.append(Named(path=str(folder / f"in-{place}"), name=f"{place}"))
        (folder / "out").mkdir()
        with warnings.catch_warnings(action="ignore"):
            answer = read(ReadOrder(bounds=BOUNDS, folder=str(folder / "out"), files=tuple(named)))
        check_whole(answer, folder / "out")
        return answer
    finally:
        shutil.rmtree(folder)


def check_whole(answer: ReadAnswer, folder: Path) -> None:
    """What was refused has a code and a sentence; what was taken in can be read, and is what it was said to be."""
    for refused in answer.refused:
        assert refused.code in CODES
        assert refused.detail.endswith(".")
    for found in answer.series:
        stored = folder / found.folder / "volume.nii.gz"
        assert hashlib.sha256(stored.read_bytes()).hexdigest() == found.volume_sha256
        shown = volume.read_nifti(stored)
        assert shown.grid.shape == found.grid.shape
        packed = volume.unpack(folder / found.folder / "artifact", found.artifact.value())
        assert sorted(packed.voxels.shape) == sorted(shown.voxels.shape)


@pytest.fixture(autouse=True)
def modest(monkeypatch) -> None:
    """Claims that a machine could just about fulfil would make this slow."""
    monkeypatch.setattr(volume, "MAX_VOLUME_BYTES", 1 << 24)
    monkeypatch.setattr(dicom_series, "MAX_SERIES_BYTES", 1 << 24)


@QUICK
@given(changes=st.one_of(CHANGES, KEEPING_LENGTH), cut=CUT, version=st.sampled_from([1, 2]))
def test_a_changed_nifti_file_is_read_or_refused(changes, cut, version):
    content = changed(good_nifti(version=version), changes, within=600, cut=cut)

    answer = answer_to([content])

    assert len(answer.series) + len(answer.refused) == 1


@QUICK
@given(changes=st.one_of(CHANGES, KEEPING_LENGTH), cut=CUT)
def test_a_changed_gzip_file_is_read_or_refused(changes, cut):
    answer = answer_to([changed(gzip.compress(good_nifti(), mtime=0), changes, within=1 << 20, cut=cut)])

    assert len(answer.series) + len(answer.refused) == 1


@QUICK
@given(changes=st.one_of(CHANGES, KEEPING_LENGTH), cut=CUT, every=st.booleans())
def test_a_changed_dicom_series_is_read_or_refused(changes, cut, every):
    files = list(good_dicoms())
    for place in range(len(files)) if every else (2,):
        body = changed(files[place][132:], changes, within=1000, cut=cut)
        files[place] = files[place][:132] + body

    answer = answer_to(files)

    assert answer.series or answer.refused


@QUICK
@given(changes=st.one_of(CHANGES, KEEPING_LENGTH), cut=CUT)
@example(changes=[(0.0, -1, b"PK\x03\x04")], cut=1.0)
def test_a_changed_archive_is_read_or_refused(changes, cut):
    answer = answer_to([changed(good_zip(), changes, within=1 << 20, cut=cut)])

    assert answer.series or answer.refused
