"""Downloads that lie elsewhere, proxies that speak in the server's place, slow lines and full disks."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from tests.worker_client.data_plane import DataPlane, answer, damage, nothing, streamed
from tests.worker_client.transfer_bench import SCAN, SHA, Bench
from worker_client import cache as cache_module
from worker_client import transfer
from worker_client.cache import Cache
from worker_client.errors import ChecksumRefused, DigestMismatch, Intercepted, Unreachable
from worker_client.transfer import Transfer


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch):
    monkeypatch.setattr(transfer, "WINDOW_BYTES", 100)
    monkeypatch.setattr(transfer, "FIRST_CHUNK_BYTES", 100)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, DataPlane(artifacts={"artifact-T1": SCAN}))


# ── a storage of its own ────────────────────────────────────────────────────────────────────────────────────────

STORAGE = "https://objects.example"


class Storage:
    """A server whose downloads lie elsewhere, behind links that are the permission."""

    def __init__(self, plane: DataPlane, *, link: str = f"{STORAGE}/inputs/1?signature=s") -> None:
        self.plane = plane
        self.link = link
        self.asked: list[httpx.Request] = []
        self.body = SCAN
        self.refusals = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host != "objects.example":
            self.plane.requests.append(request)
            return httpx.Response(302, headers={"location": self.link})
        self.asked.append(request)
        if self.refusals:
            self.refusals -= 1
            return httpx.Response(403, text="<Error><Code>AccessDenied</Code></Error>")
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        piece = self.body[int(first) : int(last) + 1]
        span = f"bytes {first}-{int(first) + len(piece) - 1}/{len(self.body)}"
        return httpx.Response(206, content=streamed(piece), headers={"content-range": span, "etag": '"md5"'})


def with_storage(bench: Bench, storage: Storage, *, trusts: str = STORAGE) -> Bench:
    bench.transfer._client = httpx.AsyncClient(transport=httpx.MockTransport(storage))
    bench.transfer.trust_storage(trusts)
    return bench


async def test_a_download_is_sent_on_to_the_storage_without_the_workers_token(bench):
    storage = Storage(bench.plane)

    assert await with_storage(bench, storage).fetch() == SCAN
    assert all("authorization" not in request.headers for request in storage.asked)
    assert all("authorization" in request.headers for request in bench.plane.requests)


@pytest.mark.parametrize(
    "trusts", ["", "https://other.example", "https://objects.example:8443", "http://objects.example"]
)
async def test_a_download_is_sent_nowhere_else(bench, trusts):
    storage = Storage(bench.plane)

    with pytest.raises(Unreachable):
        await with_storage(bench, storage, trusts=trusts).fetch()

    assert storage.asked == []


async def test_a_link_that_grew_old_is_asked_for_anew(bench):
    storage = Storage(bench.plane)
    storage.refusals = 1

    assert await with_storage(bench, storage).fetch() == SCAN


async def test_what_the_storage_gives_is_checked_like_anything_else(bench):
    storage = Storage(bench.plane)
    storage.body = bytes(len(SCAN))

    with pytest.raises(DigestMismatch):
        await with_storage(bench, storage).fetch()


def test_behind_a_https_server_a_storage_without_tls_is_not_trusted(tmp_path, caplog):
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    careful = Transfer(client, server="https://segwire.example", cache=Cache(tmp_path, cap_bytes=1))

    careful.trust_storage("http://objects.example")

    assert careful._storage_origin == ""
    assert "not safe" in caplog.text


# ── somebody in between ─────────────────────────────────────────────────────────────────────────────────────────


def portal(request: httpx.Request) -> httpx.Response:
    """A fault: a captive portal answers everything with a page."""
    return httpx.Response(200, text="<html>Accept the terms</html>")


@pytest.mark.parametrize("fault", [portal, answer(407), answer(421), answer(451)])
async def test_what_a_proxy_answers_in_the_servers_place_costs_no_job(bench, fault):
    bench.plane.faults.extend([fault] * 2)

    assert await bench.fetch() == SCAN


@pytest.mark.parametrize("fault", [portal, answer(407), answer(403), answer(401)])
async def test_a_computed_mask_is_not_given_up_for_what_a_proxy_says(bench, fault):
    bench.plane.faults.extend([fault] * 6)
    bench.token._ask = lambda: bench.token.use("token-1")

    name = await bench.upload()

    assert bytes(bench.plane.uploads[name]) == SCAN


async def test_a_proxy_that_never_stops_is_told_in_the_end(bench):
    bench.plane.faults.extend([answer(407)] * 200)

    with pytest.raises(Intercepted):
        await bench.upload()


async def test_a_chunk_that_is_damaged_every_time_is_no_endless_loop(bench):
    bench.plane.faults.extend([nothing, *[nothing, damage] * 200])

    with pytest.raises(ChecksumRefused):
        await bench.upload()


# ── slow lines ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_window_that_is_cut_off_goes_on_where_it_was(bench, monkeypatch):
    """At 1 Mbit/s a window takes half a minute; a line that breaks more often than that would never bring one."""
    monkeypatch.setattr(transfer, "WINDOW_BYTES", len(SCAN))

    def cut_short(request: httpx.Request) -> httpx.Response:
        first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
        span = f"bytes {first}-{last}/{len(SCAN)}"
        body = SCAN[int(first) : int(first) + 300]
        return httpx.Response(206, content=streamed(body), headers={"content-range": span, "etag": f'"{SHA}"'})

    bench.plane.faults.extend([cut_short] * 3)

    assert await bench.fetch() == SCAN
    assert [request.headers["range"] for request in bench.plane.asked("GET")] == [
        f"bytes={first}-1023" for first in (0, 300, 600, 900)
    ]
    assert bench.counted == len(SCAN)


def test_a_slow_line_gets_small_chunks_and_a_quick_one_large_ones(monkeypatch):
    monkeypatch.setattr(transfer, "WINDOW_BYTES", 4 << 20)
    monkeypatch.setattr(transfer, "FIRST_CHUNK_BYTES", 256 << 10)
    slow, quick = transfer.Pace(), transfer.Pace()

    for _ in range(10):
        slow.took(30.0)
        quick.took(0.1)

    assert (slow.chunk_bytes, quick.chunk_bytes) == (64 << 10, 4 << 20)


# ── room ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_yesterdays_inputs_leave_a_disk_that_fills_up(tmp_path, monkeypatch):
    cache = Cache(tmp_path, cap_bytes=1 << 40)
    for age, name in enumerate(("a" * 64, "b" * 64)):
        (tmp_path / name).write_bytes(bytes(1000))
        os.utime(tmp_path / name, (age, age))
    free = cache_module.SPARE_BYTES + 500
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))

    cache.make_room(1000)

    assert [path.name for path in tmp_path.iterdir()] == ["b" * 64]


def test_what_is_named_to_the_server_is_the_newest_first(tmp_path):
    cache = Cache(tmp_path, cap_bytes=1 << 20)
    for age, name in enumerate(("a" * 64, "b" * 64, "c" * 64)):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (age, age))
    (tmp_path / f"{'d' * 64}.part").write_bytes(b"x")

    assert cache.newest(2) == ("c" * 16, "b" * 16)
