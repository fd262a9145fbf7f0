"""The same against a real server: what a socket can say that a test client cannot, and what it costs in memory."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import psutil
import pytest

from tests.bad_input.uploads.archives import ARCHIVES
from tests.bad_input.uploads.dicoms import DICOMS
from tests.system.stack import Stack

pytestmark = pytest.mark.system

MORE_MEMORY = 256 << 20
HEAVY_DICOMS = ("a deflated bomb", "65535 x 65535 pixels", "20,000 nested sequences")
HEAVY_ARCHIVES = ("a thousandfold", "20,001 members", "a directory that claims a terabyte")


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """A server without workers; whoever uploads has no special right."""
    with Stack(tmp_path_factory.mktemp("bad") / "data", LIMITS="parser_memory_bytes=500000000") as running:
        running.add_user("uploader")
        yield running


@pytest.fixture(scope="module")
def uploader(stack) -> Iterator[httpx.Client]:
    with stack.client("uploader") as client:
        yield client


@pytest.fixture(scope="module")
def reader(stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        yield client


def files_below(stack: Stack) -> set[str]:
    """Everything that uploads leave, were they to leave anything."""
    places = ("staging", "uploads", "series", "masks")
    return {str(path) for place in places for path in (stack.data_dir / place).rglob("*") if path.is_file()}


class Watch:
    """The server's memory (bytes) and another user's round trips (s), looked at while something else goes on."""

    def __init__(self, stack: Stack, reader: httpx.Client) -> None:
        self._process = psutil.Process(stack.processes["server"].pid)
        self._reader = reader
        self._over = threading.Event()
        self.before = self.most = self._process.memory_info().rss
        self.round_trips: list[float] = []

    def look(self) -> None:
        while not self._over.is_set():
            begin = time.monotonic()
            assert self._reader.get("/api/mri/studies/").status_code == 200
            self.round_trips.append(time.monotonic() - begin)
            self.most = max(self.most, self._process.memory_info().rss)
            self._over.wait(0.01)

    @contextmanager
    def looking(self) -> Iterator[None]:
        thread = threading.Thread(target=self.look)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def swollen_nifti() -> bytes:
    """An honest header of 470 MB of zeros, in half a megabyte. A gzip file may be many, one after the other."""
    image = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.eye(4))
    image.header.set_data_shape((512, 512, 900))
    return gzip.compress(image.header.binaryblock + bytes(4)) + gzip.compress(bytes(1 << 20)) * 450


def test_heavy_files_cost_the_server_no_memory_and_others_are_served(stack, uploader, reader):
    before, watch = files_below(stack), Watch(stack, reader)
    deliveries = [
        [content for name in HEAVY_DICOMS for content in DICOMS[name][0]()],
        [ARCHIVES[name][0]() for name in HEAVY_ARCHIVES],
        [swollen_nifti()],
    ]

    with watch.looking():
        answers = [
            uploader.post(
                "/api/mri/uploads/", files=[("files", (f"{place}.bin", one)) for place, one in enumerate(files)]
            )
            for files in deliveries
        ]

    assert {answer.status_code for answer in answers} == {422}
    assert {answer.json()["code"] for answer in answers} == {"nothing_readable"}
    assert watch.most - watch.before < MORE_MEMORY
    assert len(watch.round_trips) > len(answers)
    assert files_below(stack) == before


def said_to(stack: Stack, head: str, body: bytes = b"") -> bytes:
    """The first the server answers to bytes on a socket; nothing when it just closes."""
    with socket.create_connection(("127.0.0.1", stack.port), timeout=20.0) as line:
        with suppress(ConnectionError):  # it may have answered before so many bytes had come
            line.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        return line.recv(65536)


HEAD = "POST /api/mri/uploads/ HTTP/1.1\nHost: localhost\nContent-Type: multipart/form-data; boundary=b\n"
CASES: dict[str, tuple[str, bytes, tuple[int, ...]]] = {
    "10 GB claimed": (HEAD + "Content-Length: 10737418240\n", b"x" * 1000, (413,)),
    "a length beyond all": (HEAD + f"Content-Length: {'9' * 40}\n", b"x", (400, 413)),
    "a length below nothing": (HEAD + "Content-Length: -1\n", b"x", (400, 401)),
    "a length that is no number": (HEAD + "Content-Length: ten\n", b"x", (400,)),
    "two lengths": (HEAD + "Content-Length: 3\nContent-Length: 5\n", b"xxxxx", (400,)),
    "chunks without end": (
        HEAD + "Transfer-Encoding: chunked\n",
        b"100000\r\n" + b"x" * (1 << 20) + (b"\r\n100000\r\n" + b"x" * (1 << 20)) * 11,
        (413,),
    ),
    "chunks of no size": (HEAD + "Transfer-Encoding: chunked\n", b"zz\r\nxx\r\n0\r\n\r\n", (400,)),
    "a length and chunks": (
        HEAD + "Content-Length: 4\nTransfer-Encoding: chunked\n",
        b"1\r\nx\r\n0\r\n\r\n",
        (400, 401),
    ),
    "an unknown encoding": (HEAD + "Transfer-Encoding: gzip, chunked\n", b"1\r\nx\r\n0\r\n\r\n", (400, 401, 501)),
    "nobody signed in": (HEAD + "Content-Length: 4\n", b"xxxx", (400, 401)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_request_whose_length_lies(stack, name):
    head, body, statuses = CASES[name]
    before = files_below(stack)

    heard = said_to(stack, head, body)

    assert heard.startswith(b"HTTP/1.1 "), heard[:200]
    assert int(heard[9:12]) in statuses
    assert files_below(stack) == before


def test_a_body_that_breaks_off_leaves_nothing_and_others_are_served(stack, reader):
    before = files_below(stack)

    with socket.create_connection(("127.0.0.1", stack.port), timeout=20.0) as line:
        line.sendall((HEAD + "Content-Length: 4000000\n").replace("\n", "\r\n").encode() + b"\r\n" + b"x" * 1000)

    assert reader.get("/api/mri/studies/").status_code == 200
    assert files_below(stack) == before


def test_the_body_of_a_chunk_is_bounded_by_what_was_announced(stack, uploader):
    """PATCHes side by side at one offset: one counts, the others are told; the file is what the one sent."""
    version = {"Tus-Resumable": "1.0.0"}
    location = uploader.post("/api/mri/uploads/tus/", headers={**version, "Upload-Length": "4000000"}).headers[
        "Location"
    ]
    answers: list[int] = []

    def send(letter: bytes) -> None:
        headers = {**version, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        answers.append(uploader.patch(location, headers=headers, content=letter * 2_000_000).status_code)

    threads = [threading.Thread(target=send, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    kept = Path(stack.data_dir / "uploads" / location.rpartition("/")[2]).read_bytes()
    assert answers.count(204) == 1
    assert set(answers) <= {204, 409, 423}
    assert len(set(kept[:2_000_000])) == 1
    assert uploader.delete(location, headers=version).status_code == 204
