"""The only reader of the process environment and of `.env`: one frozen value, or a sentence naming what is wrong."""

from __future__ import annotations

import math
import os
import secrets
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import get_type_hints
from urllib.parse import urlsplit

import environ

from server.config.limits import Limits
from server.imaging.bucket import Bucket, NoBucket, bucket_of
from server.pacs.place import NoPlace, Place, place_of

PROJECT_DIR = Path(__file__).resolve().parents[2]
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")
"""Always allowed: the server's own worker and health checks call there."""
SECRET_LENGTH = 50
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("console", "json")
DATABASES = ("sqlite", "postgres", "postgresql")
LAYERS = ("redis", "rediss", "unix")


class WrongSetting(Exception):
    """An environment variable has a value that cannot be used."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        super().__init__(f"{name}: {reason}")


@dataclass(frozen=True)
class Env:
    """What the operator has set. Times are in seconds, sizes in bytes."""

    secret_key: str
    debug: bool
    allowed_hosts: tuple[str, ...]
    public_url: str
    allowed_origins: tuple[str, ...]
    data_dir: Path
    database_url: str
    redis_url: str
    trusted_proxies: tuple[str, ...]
    """Networks whose X-Forwarded-For is believed."""
    storage: Bucket | None
    """None: finished files stay below DATA_DIR."""
    accel_location: str
    """Where nginx serves DATA_DIR internally, with a slash at both ends; empty: this server sends the bytes."""
    dicomweb: Place | None
    """The archive named "default"; None: none by that way."""
    use_local_inference: bool
    models_dir: Path
    log_level: str
    log_format: str
    limits: Limits


def read(base: Path = PROJECT_DIR) -> Env:
    """Read and check the environment. Raises WrongSetting naming the variable.

    A value in the process wins over the same one in `.env`.
    """
    values = environ.Env()
    values.prefix = ""
    if (base / ".env").is_file():
        environ.Env.read_env(base / ".env", overwrite=False)
    if "MONAI_ALLOW_PICKLE" in os.environ:
        raise WrongSetting("MONAI_ALLOW_PICKLE", "unset it; with it a weights file could run code")
    data_dir = _writable(Path(values.str("DATA_DIR", default=str(base / "data"))).expanduser().resolve())
    public_url = _url(values.str("PUBLIC_URL", default="http://localhost:8000"))
    debug = _private_debug(_boolean(values, "DEBUG", default=False), public_url)
    hosts = _named_hosts(tuple(values.list("ALLOWED_HOSTS", default=[])), public_url)
    origins = tuple(origin.rstrip("/") for origin in values.list("ALLOWED_ORIGINS", default=[]))
    return Env(
        secret_key=_long_secret(values.str("SECRET_KEY", default=""), public_url) or _kept_secret(data_dir),
        debug=debug,
        allowed_hosts=(*(hosts or (urlsplit(public_url).hostname or "localhost",)), *LOOPBACK),
        public_url=public_url,
        allowed_origins=tuple(_url(origin, name="ALLOWED_ORIGINS") for origin in origins),
        data_dir=data_dir,
        database_url=_service("DATABASE_URL", values.str("DATABASE_URL", default=""), DATABASES),
        redis_url=_service("REDIS_URL", values.str("REDIS_URL", default=""), LAYERS),
        trusted_proxies=_networks("TRUSTED_PROXIES", tuple(values.list("TRUSTED_PROXIES", default=LOOPBACK_NETWORKS))),
        storage=_storage(values.str("STORAGE_URL", default="")),
        accel_location=_location(values.str("ACCEL_LOCATION", default="")),
        dicomweb=_archive(values.str("DICOMWEB_URL", default="")),
        use_local_inference=_boolean(values, "USE_LOCAL_INFERENCE", default=False),
        models_dir=Path(values.str("MODELS_DIR", default=str(data_dir / "models"))),
        log_level=_one_of("LOG_LEVEL", values.str("LOG_LEVEL", default="INFO").upper(), LOG_LEVELS),
        log_format=_one_of("LOG_FORMAT", values.str("LOG_FORMAT", default="console"), LOG_FORMATS),
        limits=_limits(values.str("LIMITS", default="")),
    )


def _limits(text: str) -> Limits:
    """`name=number` pairs with commas between them; those not named keep their defaults."""
    kinds, found = get_type_hints(Limits), {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (part.strip() for part in pair.partition("="))
        if name not in kinds:
            raise WrongSetting("LIMITS", f"{name!r} is no limit; there are {', '.join(kinds)}")
        try:
            found[name] = kinds[name](number)
        except ValueError as error:
            raise WrongSetting("LIMITS", f"{name}={number!r} is no number") from error
        if not 0 < found[name] < math.inf:
            raise WrongSetting("LIMITS", f"{name}={number} is not a number above zero")
    return Limits(**found)


def _is_this_machine(public_url: str) -> bool:
    """Whether nobody else can be meant to use the server."""
    return urlsplit(public_url).hostname in ("localhost", "127.0.0.1", "::1", "testserver")


def _private_debug(is_wanted: bool, public_url: str) -> bool:  # noqa: FBT001
    if is_wanted and not _is_this_machine(public_url):
        raise WrongSetting("DEBUG", "its error pages show code and settings; PUBLIC_URL is not this machine alone")
    return is_wanted


def _named_hosts(hosts: tuple[str, ...], public_url: str) -> tuple[str, ...]:
    if "*" in hosts and not _is_this_machine(public_url):
        raise WrongSetting("ALLOWED_HOSTS", "'*' lets anybody choose the name under which the server is addressed")
    return hosts


def _long_secret(key: str, public_url: str) -> str:
    """Sessions, data tokens and the channel layer hang on it. The sentence does not repeat it."""
    is_weak = len(key) < SECRET_LENGTH or key.startswith("django-insecure-")
    if key and is_weak and not _is_this_machine(public_url):
        raise WrongSetting("SECRET_KEY", f"it is shorter than {SECRET_LENGTH} characters, or one of an example")
    return key


def _boolean(values: environ.Env, name: str, *, default: bool) -> bool:
    text = values.str(name, default="").strip().lower()
    if text == "":
        return default
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise WrongSetting(name, f"{text!r} is neither true nor false")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise WrongSetting(name, f"{value!r} is none of {', '.join(allowed)}")
    return value


def _url(text: str, *, name: str = "PUBLIC_URL") -> str:
    sentence = f"{text!r} is not a full origin such as https://segwire.example.org"
    try:
        parts = urlsplit(text)
        is_port_fine = parts.port != 0
    except ValueError as error:
        raise WrongSetting(name, sentence) from error
    is_origin = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
    if not (is_origin and is_port_fine):
        raise WrongSetting(name, sentence)
    return f"{parts.scheme}://{parts.netloc}"


def _service(name: str, url: str, schemes: tuple[str, ...]) -> str:
    """An address of a service, or an empty text. It may hold a password, so the sentence does not repeat it."""
    if url and url.partition("://")[0] not in schemes:
        raise WrongSetting(name, f"the address starts with none of {', '.join(f'{scheme}://' for scheme in schemes)}")
    return url


def _storage(url: str) -> Bucket | None:
    try:
        return bucket_of(url)
    except NoBucket as error:
        raise WrongSetting("STORAGE_URL", str(error)) from None


def _archive(url: str) -> Place | None:
    try:
        return place_of(url)
    except NoPlace as error:
        raise WrongSetting("DICOMWEB_URL", str(error)) from None


def _networks(name: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        try:
            ip_network(text)
        except ValueError as error:
            raise WrongSetting(name, f"{text!r} is no address and no network such as 10.0.0.0/24") from error
    return texts


def _location(path: str) -> str:
    if path and not (path.startswith("/") and path.endswith("/") and path.isascii() and path.isprintable()):
        raise WrongSetting("ACCEL_LOCATION", f"{path!r} is not a path with a slash at both ends, such as /stored/")
    return path


def _writable(data_dir: Path) -> Path:
    try:
        data_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise WrongSetting("DATA_DIR", f"{data_dir} cannot be written ({error.strerror})") from error
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise WrongSetting("DATA_DIR", f"{data_dir} cannot be written (Permission denied)")
    return data_dir


def _kept_secret(data_dir: Path) -> str:
    """The key that the first start made: a single machine needs no setting. Several processes set SECRET_KEY."""
    file = data_dir / "secret_key"
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_urlsafe(50))
    except FileExistsError:
        pass
    except OSError as error:
        raise WrongSetting("DATA_DIR", f"{data_dir} cannot be written ({error.strerror})") from error
    return file.read_text().strip()
