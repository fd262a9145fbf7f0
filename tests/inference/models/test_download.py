"""What is fetched is exactly what was pinned, and a broken line costs only what had not come yet."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.errors import WeightsMismatch
from inference.models.download import TRIES, fetch
from inference.models.errors import DownloadFailed
from tests.inference.models.web import Web, served

CONTENT = random.Random(3).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "weights").write_bytes(CONTENT)
    with served(tmp_path / "web") as web:
        yield web


def get(web: Web, target: Path, *, told: list[int] | None = None) -> None:
    heard = [] if told is None else told
    fetch(f"{web.address}/weights", target, size=len(CONTENT), sha256=DIGEST, tell=heard.append)


def test_a_file_comes_whole_and_tells_how_far_it_is(web: Web, tmp_path: Path):
    told: list[int] = []

    get(web, tmp_path / "weights", told=told)

    assert (tmp_path / "weights").read_bytes() == CONTENT
    assert told == sorted(told)
    assert told[-1] == len(CONTENT)
    assert list(tmp_path.glob("*.part")) == []


def test_a_line_that_breaks_is_taken_up_where_it_broke(web: Web, tmp_path: Path):
    web.breaks["weights"] = 100_000

    get(web, tmp_path / "weights")

    assert (tmp_path / "weights").read_bytes() == CONTENT
    assert web.asked == [("weights", 0), ("weights", 100_000)]


def test_another_call_goes_on_where_the_last_one_ended(web: Web, tmp_path: Path):
    """A process that was killed leaves the part; nothing of it is asked for again."""
    (tmp_path / "weights.part").write_bytes(CONTENT[:250_000])

    get(web, tmp_path / "weights")

    assert (tmp_path / "weights").read_bytes() == CONTENT
    assert web.asked == [("weights", 250_000)]


def test_a_server_without_ranges_sends_everything_again(web: Web, tmp_path: Path):
    web.ranges = False
    (tmp_path / "weights.part").write_bytes(b"x" * 1000)

    get(web, tmp_path / "weights")

    assert (tmp_path / "weights").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(web: Web, tmp_path: Path):
    (tmp_path / "weights.part").write_bytes(CONTENT + b"more")

    get(web, tmp_path / "weights")

    assert (tmp_path / "weights").read_bytes() == CONTENT


def test_what_is_there_already_is_not_asked_for(web: Web, tmp_path: Path):
    (tmp_path / "weights").write_bytes(CONTENT)

    get(web, tmp_path / "weights")

    assert web.asked == []


def test_a_tampered_file_is_refused_and_nothing_of_it_kept(web: Web, tmp_path: Path):
    web.instead["weights"] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])

    with pytest.raises(WeightsMismatch):
        get(web, tmp_path / "weights")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["web"]


def test_a_file_that_is_too_long_is_not_taken_to_its_end(web: Web, tmp_path: Path):
    web.instead["weights"] = CONTENT * 10

    with pytest.raises(DownloadFailed, match="longer"):
        get(web, tmp_path / "weights")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["web"]


def test_a_file_that_stays_too_short_is_given_up(web: Web, tmp_path: Path):
    web.instead["weights"] = CONTENT[:1000]

    with pytest.raises(DownloadFailed, match="try again"):
        get(web, tmp_path / "weights")

    assert not (tmp_path / "weights").exists()


def test_a_missing_file_is_named_with_the_servers_answer(web: Web, tmp_path: Path):
    with pytest.raises(DownloadFailed, match=r"nothing .*404"):
        fetch(f"{web.address}/nothing", tmp_path / "nothing", size=1, sha256=DIGEST, tell=lambda _: None)


def test_a_server_that_is_not_there_is_tried_a_few_times(web: Web, tmp_path: Path, monkeypatch):
    asked: list[str] = []

    def refuse(request: object, **_: object) -> None:
        asked.append("")
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(DownloadFailed, match="Connection refused"):
        get(web, tmp_path / "weights")

    assert len(asked) == TRIES


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "weights", "data:,x"])
def test_only_the_web_is_fetched_from(url: str, tmp_path: Path):
    with pytest.raises(DownloadFailed, match="https"):
        fetch(url, tmp_path / "x", size=1, sha256=DIGEST, tell=lambda _: None)
