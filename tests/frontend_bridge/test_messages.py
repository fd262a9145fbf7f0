"""What a browser may say, and how strictly it is read."""

import msgspec
import pytest
from msgspec import UNSET

from frontend_bridge import messages as m
from frontend_bridge.ports import going_away


def test_a_subscription_needs_no_more_than_a_topic():
    request = m.decode('{"t":"sub","topic":"job:01JOB"}')

    assert request == m.Sub(topic="job:01JOB", epoch=None, seq=None, id=UNSET, mask="push")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"topic":"job:1"}',
        '{"t":"sub"}',
        '{"t":"sub","topic":""}',
        '{"t":"sub","topic":"job:1","seq":-1}',
        '{"t":"sub","topic":"job:1","seq":"1"}',
        '{"t":"sub","topic":"job:a b"}',
        '{"t":"sub","topic":"job:1","mask":"all"}',
        '{"t":"job.offer","job":"1"}',
        "[" * 10_000,
    ],
)
def test_what_is_not_in_the_vocabulary_is_refused(text):
    with pytest.raises(msgspec.DecodeError):
        m.decode(text)


def test_unknown_fields_are_ignored_so_that_newer_pages_keep_working():
    assert m.decode('{"t":"ping","ts":1,"new":true}') == m.Ping(ts=1.0)


def test_an_id_is_only_there_when_the_browser_gave_one():
    without = m.encode(m.MaskEnd(job="01JOB"))
    with_id = m.encode(m.MaskEnd(job="01JOB", id=4))

    assert without == '{"t":"mask.end","job":"01JOB"}'
    assert with_id == '{"t":"mask.end","id":4,"job":"01JOB"}'


def test_browsers_of_a_server_that_ends_come_back_one_after_the_other() -> None:
    """They add no chance of their own to the first pause."""
    pauses = [going_away(luck).retry_after_s for luck in (0.0, 0.5, 1.0)]

    assert pauses == [1.0, 3.0, 5.0]
    assert going_away(0.5).code == 4000
