"""Files made to exhaust the reader: each ends in a code, in a child that never needs more than it may."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest

from server.imaging.parser.orders import Answer, Bounds, Named, ReadAnswer, ReadOrder
from tests.bad_input.uploads import dicoms
from tests.inference.dicom import images

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import pathlib, re, sys
from server.imaging.parser.__main__ import main
main()
print(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""
"""The parser, telling at its end what it had resident: what the system counts of a child begins with its parent's."""
BOUNDS = Bounds(
    memory_bytes=1 << 30,
    cpu_seconds=60,
    file_bytes=1 << 28,
    archive_members=2000,
    archive_ratio=100,
    archive_bytes=1 << 28,
)


def read_in_a_child(folder: Path, files: list[bytes]) -> tuple[ReadAnswer, int]:
    """The answer, and the most memory (bytes) that the child had resident."""
    (folder / "out").mkdir()
    for place, content in enumerate(files):
        (folder / f"{place}.dcm").write_bytes(content)
    named = tuple(Named(path=str(folder / f"{place}.dcm"), name=f"{place}.dcm") for place in range(len(files)))
    order = ReadOrder(bounds=BOUNDS, folder=str(folder / "out"), files=named)
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=msgspec.json.encode(order), capture_output=True, cwd=ROOT, check=True
    )
    answer = msgspec.json.decode(done.stdout, type=Answer)
    assert isinstance(answer, ReadAnswer)
    return answer, int(done.stderr.split()[-1]) * 1024


def deflated(plain: bytes, *, more: bytes = b"") -> bytes:
    """The file with everything behind its meta header deflated, `more` after the data set."""
    place = plain.index(b"\x08\x00\x08\x00CS")
    head = plain[:place]
    at = head.index(b"\x02\x00\x10\x00UI")
    value = b"1.2.840.10008.1.2.1.99"
    old = int.from_bytes(head[at + 6 : at + 8], "little")
    head = head[: at + 6] + len(value).to_bytes(2, "little") + value + head[at + 8 + old :]
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return head + coder.compress(plain[place:] + more) + coder.flush()


def test_bombs_of_every_kind_are_refused_side_by_side_in_little_memory(tmp_path):
    good = dicoms.series()
    bombs = {
        "deflated": (dicoms.DICOMS["a deflated bomb"][0]()[0], "too_large"),
        "nested": (dicoms.DICOMS["20,000 nested sequences"][0]()[0], "malformed"),
        "huge": (dicoms.series(Rows=65535, Columns=65535)[0], "too_few_slices"),
        "frames": (dicoms.series(NumberOfFrames=2_000_000_000)[0], "no_geometry"),
        "deflated and cut": (deflated(good[0])[:-20], "malformed"),
    }

    answer, peak = read_in_a_child(tmp_path, [content for content, _ in bombs.values()])

    assert {entry.code for entry in answer.refused} == {code for _, code in bombs.values()}
    assert not answer.series
    assert 50 << 20 < peak < 400 << 20


def test_a_deflated_series_is_read(tmp_path):
    answer, _ = read_in_a_child(tmp_path, [deflated(content) for content in dicoms.series()])

    assert (len(answer.series), answer.refused) == (1, ())


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"])
def test_text_in_compressed_pixels_is_a_clear_refusal(tmp_path, syntax):
    text = b"<html>Please sign in</html>" * 20
    item = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0" + len(text).to_bytes(4, "little") + text
    found = [images.image(place, box, PixelData=item) for place, box in enumerate(images.voxels(5))]

    answer, _ = read_in_a_child(tmp_path, [dicoms.file_of(image, syntax=dicoms.UID(syntax)) for image in found])

    assert [entry.code for entry in answer.refused] == ["undecodable"]
