"""The environment: one checked value, or a sentence that names the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.config import env
from server.imaging import bucket

NAMES = ("SECRET_KEY", "DEBUG", "ALLOWED_HOSTS", "PUBLIC_URL", "DATA_DIR", "DATABASE_URL", "REDIS_URL", "STORAGE_URL")
MORE = (
    "USE_LOCAL_INFERENCE",
    "ALLOWED_ORIGINS",
    "MODELS_DIR",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "LIMITS",
    "STORAGE_URL",
    "DICOMWEB_URL",
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*NAMES, *MORE):
        monkeypatch.setenv(name, "")  # so that what a `.env` puts there is taken away again
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


def test_nothing_set_is_enough_for_one_machine(tmp_path: Path) -> None:
    found = env.read(tmp_path)

    assert (found.debug, found.use_local_inference, found.database_url) == (False, False, "")
    assert found.public_url == "http://localhost:8000"
    assert "localhost" in found.allowed_hosts


def test_loopback_is_allowed_beside_what_the_operator_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server's own worker calls 127.0.0.1."""
    monkeypatch.setenv("ALLOWED_HOSTS", "segwire.example.org")

    assert set(env.read(tmp_path).allowed_hosts) == {"segwire.example.org", "localhost", "127.0.0.1", "[::1]"}


def test_the_secret_is_made_once_and_kept_for_this_user_only(tmp_path: Path) -> None:
    first, second = env.read(tmp_path), env.read(tmp_path)

    assert first.secret_key == second.secret_key
    assert len(first.secret_key) >= 50
    assert (first.data_dir / "secret_key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "maybe"),
        ("USE_LOCAL_INFERENCE", "2"),
        ("PUBLIC_URL", "segwire.example.org"),
        ("PUBLIC_URL", "https://segwire.example.org/path"),
        ("PUBLIC_URL", "https://segwire.example.org:web"),
        ("ALLOWED_ORIGINS", "https://viewer.example.org,viewer"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("STORAGE_URL", "s3://bucket"),
        ("STORAGE_URL", "https://key:secret@localhost/bucket"),
        ("STORAGE_URL", "s3://key:secret@localhost:port/bucket"),
        ("STORAGE_URL", "s3://key:secret@localhost/bucket?tls=no"),
        ("STORAGE_URL", "s3://key:secret@localhost/bucket?acl=public"),
        ("ACCEL_LOCATION", "stored"),
        ("DICOMWEB_URL", "localhost:8042/dicom-web"),
        ("DICOMWEB_URL", "ftp://localhost/dicom-web"),
        ("DICOMWEB_URL", "http://localhost:web/dicom-web"),
        ("DICOMWEB_URL", "http://name@localhost/dicom-web"),
        ("DICOMWEB_URL", "http://localhost/dicom-web?key=1"),
        ("DATA_DIR", "/proc/nowhere"),
        ("DATABASE_URL", "segwire.sqlite3"),
        ("REDIS_URL", "127.0.0.1:6379"),
        ("TRUSTED_PROXIES", "10.0.0.0/24,balancer"),
        ("TRUSTED_PROXIES", "10.0.0.1/24"),
        ("MONAI_ALLOW_PICKLE", "0"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("SECRET_KEY", "x" * 50)

    with pytest.raises(env.WrongSetting, match=f"^{name}: "):
        env.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "oracle://segwire:hunter2@db/segwire"),
        ("STORAGE_URL", "s3://key:hunter2@localhost"),
        ("STORAGE_URL", "s3://key:hunter2/with/slashes@localhost/bucket"),
    ],
)
def test_the_sentence_about_a_service_does_not_repeat_its_password(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(name, url)

    with pytest.raises(env.WrongSetting) as wrong:
        env.read(tmp_path)

    assert "hunter2" not in str(wrong.value)


def test_a_bucket_is_named_by_one_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STORAGE_URL", "s3://key:sec%2Fret@127.0.0.1:9000/scans/clinic?tls=false&region=eu-west-1")

    found = env.read(tmp_path).storage

    assert found is not None
    assert (found.endpoint, found.name, found.prefix) == ("http://127.0.0.1:9000", "scans", "clinic/")
    assert (found.key, found.secret, found.region) == ("key", "sec/ret", "eu-west-1")
    assert "sec/ret" not in repr(found)


def test_a_missing_package_is_named_by_the_file_that_lists_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STORAGE_URL", "s3://key:secret@localhost/bucket")
    monkeypatch.setattr(bucket, "find_spec", lambda name: None)

    with pytest.raises(env.WrongSetting, match=r"requirements-s3\.txt"):
        env.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "meant"), [("true", True), ("1", True), ("False", False), ("", False), ("off", False)]
)
def test_a_switch_is_read_as_people_write_it(
    text: str, meant: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("USE_LOCAL_INFERENCE", text)

    assert env.read(tmp_path).use_local_inference is meant


def test_the_process_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=ERROR\nLOG_FORMAT=json\n")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    monkeypatch.setattr(env.os, "environ", env.os.environ.copy())

    found = env.read(tmp_path)

    assert (found.log_level, found.log_format) == ("DEBUG", "json")


def test_limits_are_changed_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMITS", "requests_per_minute=100000, hello_seconds=2.5")

    found = env.read(tmp_path).limits

    assert (found.requests_per_minute, found.hello_seconds, found.sockets_per_user) == (100_000, 2.5, 20)


@pytest.mark.parametrize(
    "text",
    [
        "requests=5",
        "hello_seconds=nan",
        "hello_seconds=inf",
        "requests_per_minute=many",
        "requests_per_minute=0",
        "hello_seconds",
    ],
)
def test_a_wrong_limit_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    monkeypatch.setenv("LIMITS", text)

    with pytest.raises(env.WrongSetting, match="LIMITS"):
        env.read(tmp_path)


@pytest.mark.parametrize("key", ["hunter2", "x" * 49, "django-insecure-" + "x" * 50])
def test_a_weak_key_stops_the_start_and_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    monkeypatch.setenv("SECRET_KEY", key)
    monkeypatch.setenv("PUBLIC_URL", "https://segwire.example.org")

    with pytest.raises(env.WrongSetting, match=r"^SECRET_KEY: ") as wrong:
        env.read(tmp_path)

    assert key not in str(wrong.value)


def test_any_host_name_is_for_this_machine_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "segwire.example.org,*")
    assert "*" in env.read(tmp_path).allowed_hosts

    monkeypatch.setenv("PUBLIC_URL", "https://segwire.example.org")
    with pytest.raises(env.WrongSetting, match=r"^ALLOWED_HOSTS: "):
        env.read(tmp_path)


def test_debug_pages_are_for_this_machine_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEBUG", "true")
    assert env.read(tmp_path).debug

    monkeypatch.setenv("PUBLIC_URL", "https://segwire.example.org")
    with pytest.raises(env.WrongSetting, match=r"^DEBUG: "):
        env.read(tmp_path)


def test_the_data_folder_is_made_for_this_user(tmp_path: Path) -> None:
    assert env.read(tmp_path).data_dir.stat().st_mode & 0o007 == 0


def test_an_archive_is_taken_apart_into_address_name_and_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DICOMWEB_URL", "https://seg:p%40ss@archive.example.org:8443/dicom-web/")

    found = env.read(tmp_path).dicomweb

    assert found is not None
    assert (found.url, found.username, found.password) == (
        "https://archive.example.org:8443/dicom-web",
        "seg",
        "p@ss",
    )
    assert "p@ss" not in repr(found)


def test_a_wrong_address_of_an_archive_is_not_repeated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DICOMWEB_URL", "ftp://seg:hunter2@archive.example.org/")

    with pytest.raises(env.WrongSetting) as refused:
        env.read(tmp_path)

    assert "hunter2" not in str(refused.value)
