"""DICOMWEB_URL as a value: `https://[USER:PASSWORD@]host[:port]/path`. No Django here."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


class NoPlace(ValueError):
    """The address cannot be used; the sentence repeats nothing of it, as it may hold a password."""


@dataclass(frozen=True)
class Place:
    """Where a DICOMweb service is, and by which name and password, if any. `url` has no slash at its end."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)


def place_of(text: str) -> Place | None:
    """The place that the address names; None for an empty address. Name and password are percent-encoded.

    Raises:
        NoPlace.
    """
    if not text:
        return None
    try:
        parts = urlsplit(text)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        raise NoPlace("the address is malformed; percent-encode what is special in name and password") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise NoPlace("the address is not of the form https://archive.example.org/dicom-web")
    if parts.query or parts.fragment or not text.isprintable() or " " in text:
        raise NoPlace("the address has a question mark, a hash or a space; it ends with the service's path")
    if bool(parts.username) != bool(parts.password):
        raise NoPlace("before the @ stand a name and a password, with a colon between them")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Place(
        url=f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}",
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )
