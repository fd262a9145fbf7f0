"""Bytes down and up, over a data plane that fails in every way it can."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import deque
from pathlib import Path

import httpx
import pytest

from tests.worker_client.builders import an_input
from tests.worker_client.data_plane import DataPlane, answer, cut, damage, nothing, streamed
from tests.worker_client.transfer_bench import SCAN, SHA, Bench
from worker_client import transfer
from worker_client.errors import (
    ChecksumRefused,
    DigestMismatch,
    ForeignPath,
    LeaseGone,
    OffsetMoved,
    TokenRefused,
    TransferRefused,
    Unreachable,
    UploadVanished,
)
from worker_client.patience import DataToken, delay_seconds, is_retryable
from worker_client.protocol.messages import InputArtifact


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch):
    monkeypatch.setattr(transfer, "WINDOW_BYTES", 100)
    monkeypatch.setattr(transfer, "FIRST_CHUNK_BYTES", 100)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, DataPlane(artifacts={"artifact-T1": SCAN}))


# ── down ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_artifact_comes_in_windows_bound_to_its_digest(bench):
    assert await bench.fetch() == SCAN

    ranges = sorted(int(request.headers["range"][6:].split("-")[0]) for request in bench.plane.requests)
    assert ranges == list(range(0, 1024, 100))
    assert {request.headers["if-range"] for request in bench.plane.requests} == {f'"{SHA}"'}
    assert bench.counted == len(SCAN)


async def test_at_most_two_windows_are_under_way(bench, monkeypatch):
    under_way = most = 0
    once = bench.transfer._window_once

    async def watched(*arguments, **options):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        try:
            return await once(*arguments, **options)
        finally:
            under_way -= 1

    monkeypatch.setattr(bench.transfer, "_window_once", watched)

    other = bytes(reversed(SCAN))
    bench.plane.artifacts["artifact-T2"] = other
    second = an_input("T2", sha256=hashlib.sha256(other).hexdigest(), size=len(other))

    await asyncio.gather(bench.fetch(), bench.fetch(second))

    assert most == 2


async def test_two_jobs_that_need_the_same_artifact_fetch_it_once(bench):
    assert await asyncio.gather(bench.fetch(), bench.fetch()) == [SCAN, SCAN]

    assert len(bench.plane.requests) == 11


async def test_what_is_in_the_cache_moves_no_bytes(bench):
    await bench.fetch()
    before = len(bench.plane.requests)

    assert await bench.fetch() == SCAN
    assert len(bench.plane.requests) == before


async def test_a_bit_that_flipped_in_the_cache_is_noticed_and_fetched_anew(bench):
    await bench.fetch()
    (bench.folder / "cache" / SHA).write_bytes(b"\xff" + SCAN[1:])

    assert await bench.fetch() == SCAN


async def test_a_fetch_goes_on_where_an_earlier_one_stopped(bench):
    (bench.folder / "cache" / f"{SHA}.part").write_bytes(SCAN[:512])

    assert await bench.fetch() == SCAN
    starts = {request.headers["range"] for request in bench.plane.requests}
    assert min(int(start[6:].split("-")[0]) for start in starts) == 512


async def test_rubbish_left_by_a_crash_costs_one_more_fetch_and_nothing_else(bench):
    (bench.folder / "cache" / f"{SHA}.part").write_bytes(b"x" * 512)

    assert await bench.fetch() == SCAN
    assert bench.counted == len(SCAN)


@pytest.mark.parametrize("fault", [cut, answer(500), answer(503), answer(429), answer(423), answer(302)])
async def test_a_fault_in_the_middle_is_gone_over_again(bench, fault):
    bench.plane.faults = deque([nothing, fault])

    assert await bench.fetch() == SCAN
    assert bench.counted == len(SCAN)
    assert len(bench.pauses) == 1


async def test_a_server_that_names_its_pause_gets_it(bench):
    bench.plane.faults = deque([answer(503, **{"retry-after": "7"})])

    await bench.fetch()

    assert bench.pauses == [7.0]


async def test_a_fetch_gives_up_after_eight_tries_at_one_window(bench):
    bench.plane.faults = deque([answer(500)] * 100)

    with pytest.raises(Unreachable, match="500"):
        await bench.fetch()


async def test_other_bytes_than_promised_are_refused_after_one_more_try(bench):
    bench.plane.artifacts["artifact-T1"] = b"\xff" + SCAN[1:]

    with pytest.raises(DigestMismatch):
        await bench.fetch()

    assert list((bench.folder / "cache").iterdir()) == []


async def test_more_bytes_than_promised_are_not_taken(bench):
    bench.plane.faults = deque(
        [lambda _: httpx.Response(206, content=streamed(b"x" * 5000), headers={"content-range": "bytes 0-99/1024"})] * 4
    )

    with pytest.raises(DigestMismatch):
        await bench.fetch()


async def test_a_token_that_grew_old_is_replaced_and_the_fetch_goes_on(bench):
    asked = []

    def ask() -> None:
        asked.append(1)
        bench.plane.tokens = {"token-2"}
        bench.token.use("token-2")

    bench.token = DataToken("token-1", ask=ask)
    bench.plane.tokens = set()

    assert await bench.fetch() == SCAN
    assert len(asked) <= 2


async def test_a_token_that_is_refused_again_and_again_ends_the_fetch(bench):
    bench.token = DataToken("wrong", ask=lambda: bench.token.use("wrong"))

    with pytest.raises(TokenRefused):
        await bench.fetch()


async def test_an_address_outside_the_server_is_never_asked(bench):
    item = an_input("T1", sha256=SHA, size=len(SCAN))

    with pytest.raises(ForeignPath):
        await bench.fetch(type(item)(**{**_fields(item), "url": "http://evil.example/a"}))

    assert bench.plane.requests == []


def _fields(item: InputArtifact) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__struct_fields__}


async def test_a_lease_that_is_gone_ends_the_fetch_at_once(bench):
    bench.plane.faults = deque([answer(409, code="stale_lease")] * 2)

    with pytest.raises(LeaseGone):
        await bench.fetch()

    assert bench.pauses == []


# ── the cache ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_least_lately_used_make_room_and_what_is_in_use_stays(tmp_path):
    scans = {f"artifact-{n}": bytes([n]) * 100 for n in range(4)}
    bench = Bench(tmp_path, DataPlane(artifacts=scans), cap_bytes=250)
    digests = [hashlib.sha256(scan).hexdigest() for scan in scans.values()]

    with bench.cache.in_use([digests[0]]):
        for n, digest in enumerate(digests):
            await bench.fetch(an_input(str(n), sha256=digest, size=100))
            stamp = 1_000_000 + n
            os.utime(tmp_path / "cache" / digest, (stamp, stamp))

    assert {path.name for path in (tmp_path / "cache").iterdir()} == {digests[0], digests[3]}


# ── up ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_mask_goes_up_in_chunks_with_a_checksum_each(bench):
    assert await bench.upload() == "up-1"

    assert bytes(bench.plane.uploads["up-1"]) == SCAN
    assert len(bench.plane.asked("PATCH")) == 11
    assert bench.plane.words["up-1"] == {"job": "01JOB", "sha256": SHA}
    assert bench.counted == len(SCAN)


async def test_where_an_upload_was_begun_is_noted_before_the_first_chunk(bench):
    order = []
    bench.plane.faults = deque([lambda _: order.append("create"), nothing, lambda _: order.append("chunk")])
    note = bench.note

    async def watched(location):
        order.append("note")
        await note(location)

    bench.note = watched
    await bench.upload()

    assert order == ["create", "note", "chunk"]
    assert bench.notes == ["/api/worker/uploads/up-1"]


async def test_an_upload_goes_on_at_the_servers_offset(bench):
    bench.plane.uploads["up-1"] = bytearray(SCAN[:700])

    assert await bench.upload(begun="/api/worker/uploads/up-1") == "up-1"

    assert bytes(bench.plane.uploads["up-1"]) == SCAN
    assert len(bench.plane.asked("PATCH")) == 4
    assert bench.plane.asked("POST") == []


async def test_an_upload_that_was_complete_already_sends_nothing(bench):
    bench.plane.uploads["up-1"] = bytearray(SCAN)

    assert await bench.upload(begun="/api/worker/uploads/up-1") == "up-1"
    assert bench.plane.asked("PATCH") == []


async def test_an_upload_that_expired_is_begun_anew(bench):
    assert await bench.upload(begun="/api/worker/uploads/long-gone") == "up-1"

    assert bytes(bench.plane.uploads["up-1"]) == SCAN
    assert bench.notes == [None, "/api/worker/uploads/up-1"]


@pytest.mark.parametrize("fault", [cut, answer(500), answer(460), answer(409, code="offset_mismatch"), damage])
@pytest.mark.parametrize("when", range(6))
async def test_a_fault_at_any_request_is_gone_over_again(bench, fault, when):
    bench.plane.faults = deque([nothing] * when + [fault])

    await bench.upload()

    assert bytes(bench.plane.uploads[max(bench.plane.uploads)]) == SCAN
    assert bench.counted == len(SCAN)


async def test_a_chunk_that_arrived_although_its_answer_did_not_is_not_sent_twice(bench):
    def taken_and_cut(request):
        bench.plane.uploads["up-1"] += request.content
        raise httpx.ReadError("connection reset", request=request)

    bench.plane.faults = deque([nothing, nothing, taken_and_cut])

    await bench.upload()

    assert bytes(bench.plane.uploads["up-1"]) == SCAN
    assert len(bench.plane.asked("PATCH")) == 11


async def test_an_upload_never_gives_up_on_a_server_that_is_away(bench):
    bench.plane.faults = deque([nothing] + [answer(502)] * 200)

    assert await bench.upload() == "up-1"
    assert max(bench.pauses) == 20.0


async def test_an_upload_for_a_lease_that_is_gone_stops(bench):
    bench.plane.faults = deque([nothing, nothing, answer(409, code="stale_lease")])

    with pytest.raises(LeaseGone):
        await bench.upload()


async def test_an_upload_that_the_server_will_never_take_stops(bench):
    bench.plane.faults = deque([answer(413, code="too_large")])

    with pytest.raises(TransferRefused) as refused:
        await bench.upload()

    assert (refused.value.status, refused.value.code) == (413, "too_large")


async def test_an_offset_that_does_not_move_is_no_endless_loop(bench):
    stuck = answer(204, **{"upload-offset": "0"})
    bench.plane.faults = deque([nothing, nothing, stuck, nothing, stuck])

    await bench.upload()

    assert len(bench.pauses) == 2


async def test_an_upload_is_not_led_to_another_host(bench):
    bench.plane.faults = deque([answer(201, location="http://evil.example/up-1")])

    with pytest.raises(ForeignPath):
        await bench.upload()


# ── the one decision ────────────────────────────────────────────────────────────────────────────────────────────


def test_only_what_may_pass_by_itself_is_tried_again():
    again = [Unreachable("x"), ChecksumRefused(), OffsetMoved()]
    never = [TokenRefused(), LeaseGone(), DigestMismatch("a"), UploadVanished(), ForeignPath("x"), TransferRefused(413)]

    assert all(is_retryable(error) for error in again)
    assert not any(is_retryable(error) for error in never)


def test_pauses_grow_to_twenty_seconds():
    delays = [delay_seconds(failures, Unreachable("x"), luck=1.0) for failures in (1, 2, 5, 6, 50)]

    assert delays == [1.0, 2.0, 16.0, 20.0, 20.0]
