"""STORAGE_URL as a value: `s3://KEY:SECRET@host[:port]/bucket[/prefix][?tls=false&region=…]`. No Django here."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from urllib.parse import parse_qsl, unquote, urlsplit

_PACKAGES = ("storages", "boto3")
_QUERY = frozenset({"tls", "region"})


class NoBucket(ValueError):
    """The address cannot be used; the sentence repeats nothing of it, as it holds a secret."""


@dataclass(frozen=True)
class Bucket:
    """A bucket of an S3-compatible server. `endpoint` is its origin; `prefix` ends with a slash or is empty."""

    key: str
    secret: str = field(repr=False)
    endpoint: str
    name: str
    prefix: str = ""
    region: str = "us-east-1"


def bucket_of(url: str) -> Bucket | None:
    """The bucket that the address names; None for an empty address. Key and secret are percent-encoded.

    Raises:
        NoBucket.
    """
    if not url:
        return None
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise NoBucket("the address is malformed; percent-encode what is special in key and secret") from None
    name, _, prefix = parts.path.strip("/").partition("/")
    if parts.scheme != "s3" or not (parts.hostname and parts.username and parts.password and name):
        raise NoBucket("the address is not of the form s3://KEY:SECRET@host/bucket")
    if not query.keys() <= _QUERY or query.get("tls", "true") not in ("true", "false"):
        raise NoBucket("behind the question mark only tls=true or tls=false, and region=… may stand")
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise NoBucket("the packages of requirements-s3.txt are not installed")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Bucket(
        key=unquote(parts.username),
        secret=unquote(parts.password),
        endpoint=f"{'http' if query.get('tls') == 'false' else 'https'}://{host}{port}",
        name=name,
        prefix=f"{prefix}/" if prefix else "",
        region=query.get("region", "us-east-1"),
    )
