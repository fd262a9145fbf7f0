"""However the network cuts an answer into pieces, its parts are the same; a broken one is told from a whole one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.pacs.errors import ArchiveUnclear
from server.pacs.multipart import LONGEST_HEAD, Mark, Parts, boundary_of, joined

BOUNDARY = b"b0"


def parts_of(answer: bytes, *, cuts: list[int]) -> list[bytes]:
    """The bytes of each part when the answer comes in these pieces."""
    reader, found = Parts(BOUNDARY), list[bytes]()
    places = [0, *sorted(cut % (len(answer) + 1) for cut in cuts), len(answer)]
    for start, end in pairwise(places):
        for one in reader.feed(answer[start:end]):
            if one is Mark.BEGIN:
                found.append(b"")
            elif isinstance(one, bytes):
                found[-1] += one
    reader.close()
    return found


def answer_of(
    files: list[bytes], *, preamble: bytes = b"", head: bytes = b"Content-Type: application/dicom\r\n"
) -> bytes:
    body = b"".join(b"--b0\r\n" + head + b"\r\n" + one + b"\r\n" for one in files)
    return preamble + body + b"--b0--\r\nepilogue"


@given(
    st.lists(st.binary(max_size=60).filter(lambda part: b"--b0" not in b"\r\n" + part), max_size=4),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_the_pieces_do_not_matter(files: list[bytes], cuts: list[int]) -> None:
    assert parts_of(answer_of(files), cuts=cuts) == files


@pytest.mark.parametrize("file", [b"\r\n", b"\r\n--", b"--b", b"\r\n--b1", b"a\r\n\r\nb", b""])
def test_bytes_that_look_like_the_end_of_a_part_are_kept(file: bytes) -> None:
    assert parts_of(answer_of([file, file]), cuts=list(range(200))) == [file, file]


def test_what_stands_before_the_first_part_is_skipped() -> None:
    assert parts_of(answer_of([b"x"], preamble=b"hello\r\n", head=b""), cuts=[3]) == [b"x"]


@given(st.integers(0, 60))
def test_an_answer_that_ends_early_is_not_taken_for_a_whole_one(length: int) -> None:
    whole = answer_of([b"one", b"two"])
    end = whole.index(b"--b0--")

    with pytest.raises(ArchiveUnclear):
        parts_of(whole[: min(length, end + 3)], cuts=[])


@pytest.mark.parametrize("endless", [b"x" * 70_000, b"--b0\r\nX: " + b"y" * (LONGEST_HEAD + 1)])
def test_what_does_not_come_to_its_parts_is_given_up(endless: bytes) -> None:
    with pytest.raises(ArchiveUnclear):
        list(Parts(BOUNDARY).feed(endless))


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary="b0"', b"b0"),
        ("multipart/related;boundary=b0", b"b0"),
        ("Multipart/Related; Boundary=b0", b"b0"),
        ("application/dicom", None),
        ("", None),
    ],
)
def test_the_boundary_is_what_the_content_type_says(kind: str, boundary: bytes | None) -> None:
    assert boundary_of(kind) == boundary


@pytest.mark.parametrize(
    "kind", ["multipart/related", 'multipart/related; boundary=""', f"multipart/related; boundary={'b' * 300}"]
)
def test_without_a_usable_boundary_there_are_no_parts(kind: str) -> None:
    with pytest.raises(ArchiveUnclear):
        boundary_of(kind)


def test_what_is_joined_comes_apart_again() -> None:
    kind, body = joined([b"one", b"\r\n--two"])
    boundary = boundary_of(kind)
    assert boundary is not None

    said = list(Parts(boundary).feed(body))

    assert b"".join(one for one in said if isinstance(one, bytes)) == b"one\r\n--two"
    assert said.count(Mark.END) == 2
