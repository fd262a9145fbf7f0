"""The worker's folder, key and addresses."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker_client.address import on_server, server_url, socket_url
from worker_client.errors import BadAddress, ForeignPath, HomeBusy, HomeUnsafe, NotEnrolled
from worker_client.home import Home, IdentityFile

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps rights in its own lists")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.prepare()
    return made


def remember(home: Home) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    identity = IdentityFile(worker_id="w1", name="lab", server="https://segwire.example:8443", epoch="e1")
    home.remember(identity, key=key)
    return key


def test_what_was_enrolled_is_there_again(home):
    key = remember(home)

    identity = home.identity()

    assert (identity.worker_id, identity.host, identity.epoch) == ("w1", "segwire.example:8443", "e1")
    assert identity.sign(b"text") == Home(home.path).identity().sign(b"text")
    assert key.private_bytes_raw() == identity.key.private_bytes_raw()


def test_the_key_is_not_in_what_is_printed(home):
    remember(home)

    assert "key" not in repr(home.identity())


@posix_only
def test_folder_and_key_are_for_this_user_alone(home):
    remember(home)

    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((home.path / "worker.key").stat().st_mode) == 0o600


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(home, mode):
    remember(home)
    (home.path / "worker.key").chmod(mode)

    with pytest.raises(HomeUnsafe, match="chmod 600"):
        home.identity()


@posix_only
def test_a_folder_that_others_can_read_is_refused(home):
    remember(home)
    home.path.chmod(0o750)

    with pytest.raises(HomeUnsafe, match="chmod 700"):
        home.identity()


@posix_only
def test_an_empty_folder_made_by_somebody_else_is_closed_to_others(tmp_path):
    (tmp_path / "given").mkdir(mode=0o755)

    Home(tmp_path / "given").prepare()

    assert stat.S_IMODE((tmp_path / "given").stat().st_mode) == 0o700


@pytest.mark.parametrize("missing", ["worker.key", "identity.json"])
def test_half_an_identity_is_none(home, missing):
    remember(home)
    (home.path / missing).unlink()

    with pytest.raises(NotEnrolled, match="enrol"):
        home.identity()


def test_a_damaged_key_is_no_identity(home):
    remember(home)
    (home.path / "worker.key").write_text("-----BEGIN NOTHING-----")

    with pytest.raises(NotEnrolled):
        home.identity()


def test_a_second_worker_is_kept_out_until_the_first_has_gone(home):
    with home.locked(), pytest.raises(HomeBusy, match="Another worker"), Home(home.path).locked():
        pass

    with home.locked():
        pass


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://Segwire.Example/", "https://segwire.example"),
        ("https://segwire.example:8443", "https://segwire.example:8443"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_address_is_kept_without_its_slash(given, kept):
    assert server_url(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "segwire.example",
        "ftp://segwire.example",
        "https://",
        "https://user:secret@segwire.example",
        "https://segwire.example/app",
        "https://segwire.example/?a=b",
        "http://segwire.example",
        "http://10.0.0.4:8000",
    ],
)
def test_an_address_that_is_none_or_could_be_read_on_the_way_is_refused(given):
    with pytest.raises(BadAddress):
        server_url(given)


def test_plain_http_is_taken_when_a_person_insists():
    assert server_url("http://10.0.0.4:8000", plain_http=True) == "http://10.0.0.4:8000"


def test_the_socket_is_as_safe_as_the_address():
    assert socket_url("https://segwire.example") == "wss://segwire.example/ws/worker/"
    assert socket_url("http://127.0.0.1:8000") == "ws://127.0.0.1:8000/ws/worker/"


@pytest.mark.parametrize("path", ["/api/worker/artifacts/a", "https://segwire.example/api/worker/uploads/u"])
def test_paths_on_the_server_are_followed(path):
    assert on_server("https://segwire.example", path).startswith("https://segwire.example/api/worker/")


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/x",
        "//evil.example/x",
        "http://segwire.example/x",
        "https://segwire.example:8443/x",
        "https://segwire.example@evil.example/x",
        "file:///etc/passwd",
        "\\\\evil.example\\x",
        "/x\r\nHost: evil.example",
        " /x",
    ],
)
def test_a_server_cannot_send_the_worker_elsewhere(path):
    with pytest.raises(ForeignPath):
        on_server("https://segwire.example", path)
