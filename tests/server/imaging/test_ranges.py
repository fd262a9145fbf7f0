"""Byte ranges as RFC 9110 has them."""

import pytest

from server.imaging.errors import RangeInvalid
from server.imaging.ranges import Span, asked_span


def asked(header: str, *, if_range: str = "", size: int = 100) -> Span | None:
    return asked_span(header=header, if_range=if_range, etag='"tag"', size=size)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-9", Span(0, 9)),
        ("bytes=90-", Span(90, 99)),
        ("bytes=90-200", Span(90, 99)),
        ("bytes=-10", Span(90, 99)),
        ("bytes=-500", Span(0, 99)),
        ("bytes=99-99", Span(99, 99)),
    ],
)
def test_one_range_is_a_span(header, span):
    assert asked(header) == span


@pytest.mark.parametrize("header", ["", "bytes=-", "bytes=0-1,5-6", "lines=0-9", "bytes=a-b", "bytes=9-5"])
def test_anything_else_is_the_whole(header):
    assert asked(header) is None


def test_a_range_of_another_file_is_the_whole():
    assert asked("bytes=0-9", if_range='"other"') is None
    assert asked("bytes=0-9", if_range='"tag"') == Span(0, 9)


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-120", "bytes=-0"])
def test_a_range_behind_the_end_cannot_be_served(header):
    with pytest.raises(RangeInvalid):
        asked(header)


def test_a_span_names_itself():
    assert Span(10, 19).content_range(100) == "bytes 10-19/100"
    assert Span(10, 19).length == 10
