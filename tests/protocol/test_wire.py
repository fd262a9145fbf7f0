"""The wire contract: golden frames, tolerance towards newer peers, refusal of everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.samples import BOTH_SAMPLES, JOB, SERVER_SAMPLES, WORKER_SAMPLES
from worker_client.protocol import messages as m
from worker_client.protocol.codec import MAX_FRAME_BYTES, decode_from_server, decode_from_worker, encode
from worker_client.protocol.errors import BadFrame, CloseCode, FrameTooLarge, ProtocolError, UnknownType
from worker_client.protocol.identity import challenge_text, host_of

GOLDEN = Path(__file__).parents[1] / "golden" / "worker_v1.jsonl"


def test_frames_are_the_golden_ones_to_the_byte() -> None:
    """A worker in the field may be a year older than its server; a changed byte here breaks it."""
    golden = GOLDEN.read_text().splitlines()

    frames = [encode(sample) for sample in (*SERVER_SAMPLES, *WORKER_SAMPLES, *BOTH_SAMPLES)]

    assert frames == golden


def test_every_message_type_has_a_golden_frame() -> None:
    from_server = {type(sample) for sample in (*SERVER_SAMPLES, *BOTH_SAMPLES)}
    from_worker = {type(sample) for sample in (*WORKER_SAMPLES, *BOTH_SAMPLES)}

    assert from_server == set(m.FromServer.__args__)
    assert from_worker == set(m.FromWorker.__args__)


@pytest.mark.parametrize("sample", [*SERVER_SAMPLES, *BOTH_SAMPLES], ids=lambda sample: type(sample).__name__)
def test_a_worker_reads_what_a_server_says(sample: m.Message) -> None:
    assert decode_from_server(encode(sample)) == sample


@pytest.mark.parametrize("sample", [*WORKER_SAMPLES, *BOTH_SAMPLES], ids=lambda sample: type(sample).__name__)
def test_a_server_reads_what_a_worker_says(sample: m.Message) -> None:
    assert decode_from_worker(encode(sample)) == sample


def test_a_field_of_a_newer_peer_is_ignored() -> None:
    frame = '{"t":"ready","id":5,"credits":1,"colour":"blue"}'

    assert decode_from_worker(frame) == m.Ready(id=5, credits=1)


def test_a_type_of_a_newer_peer_is_named_with_its_id() -> None:
    with pytest.raises(UnknownType) as caught:
        decode_from_worker('{"t":"job.dream","id":41}')

    assert (caught.value.tag, caught.value.re) == ("job.dream", 41)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "null",
        "[]",
        '{"t":"ready"}',
        '{"t":"ready","credits":-1}',
        '{"t":"ready","credits":NaN}',
        '{"t":"ready","credits":"1"}',
        '{"t":"job.accept","job":"","fence":1}',
        '{"t":"job.accept","job":"a","fence":0}',
        "[" * 60_000,
        b'{"t":"error","code":"\xff"}',
        "\ud800",
    ],
)
def test_a_frame_that_is_no_message_is_refused(frame: str | bytes) -> None:
    with pytest.raises(BadFrame):
        decode_from_worker(frame)


def test_a_message_of_the_other_direction_is_unknown() -> None:
    with pytest.raises(UnknownType):
        decode_from_worker(encode(m.ResultOk(job=JOB, fence=1)))


def test_a_frame_over_the_limit_is_neither_sent_nor_read() -> None:
    """Daphne answers an oversize message by cutting TCP without a code, so the sender must know first."""
    too_long = m.Error(code="x", detail="y" * MAX_FRAME_BYTES)

    with pytest.raises(FrameTooLarge):
        encode(too_long)
    with pytest.raises(FrameTooLarge):
        decode_from_worker(" " * (MAX_FRAME_BYTES + 1))


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_any_frame_gives_a_message_or_a_protocol_error(frame: str | bytes) -> None:
    try:
        message = decode_from_worker(frame)
    except ProtocolError:
        return

    assert isinstance(message, m.Message)


def test_close_codes_carry_the_verdict_on_coming_back() -> None:
    assert CloseCode.GOING_AWAY.may_reconnect
    assert CloseCode.HEARTBEAT_LOST.may_reconnect
    assert not CloseCode.REVOKED.may_reconnect
    assert not CloseCode.ALREADY_CONNECTED.may_reconnect


def test_the_signature_binds_nonce_host_worker_and_boot() -> None:
    signed = challenge_text(nonce="bm9u", host="segwire.example.org", worker_id="w", boot_id="b")

    assert signed == b"seg-worker-auth-v1|bm9u|segwire.example.org|w|b"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Segwire.example.org", "segwire.example.org"),
        ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
        ("https://user:secret@host:8443/x", "host:8443"),
    ],
)
def test_the_host_is_written_the_same_on_both_sides(url: str, host: str) -> None:
    assert host_of(url) == host
