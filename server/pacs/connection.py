"""HTTP towards an archive: every answer has a limit in bytes and in time, no redirect is followed, failures have types.

An address of an archive is named by an administrator; what the archive answers is not trusted. Its redirects and the
addresses within its answers are never asked, so that it cannot send this server anywhere.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from functools import cache
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import DecodeError, HTTPError

from server.pacs.errors import (
    ArchiveAway,
    ArchiveBusy,
    ArchiveDenied,
    ArchiveRefused,
    ArchiveTooMuch,
    ArchiveUnclear,
    Stopping,
)

PIECE_BYTES = 1 << 16
_LATER = frozenset({408, 425, 429, 502, 503, 504})
_DENIED = frozenset({401, 403, 407})
_PLAIN = {"%2A": "*", "%3F": "?", "%2F": "/", "%3A": ":", "%40": "@", "%2C": ","}
_LONGEST_RETRY_AFTER = 3600.0


@dataclass(frozen=True)
class Patience:
    """Limits of one request. Times in seconds, size in bytes."""

    connect_seconds: float = 5.0
    silence_seconds: float = 15.0
    """Between two pieces of an answer."""
    whole_seconds: float = 30.0
    answer_bytes: int = 8 << 20


class Connection:
    """Requests to one archive. `is_stopping` is asked between the pieces of an answer."""

    def __init__(
        self,
        *,
        auth: requests.auth.AuthBase | None,
        patience: Patience,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.patience = patience
        self._is_stopping = is_stopping
        self.session = requests.Session()
        # Neither proxies nor passwords from the environment of the process or its user's files.
        self.session.trust_env = False
        self.session.auth = auth
        self.session.headers["User-Agent"] = "segwire"
        adapter = _Adapter(self)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)

    def close(self) -> None:
        """Hang up."""
        self.session.close()

    @contextmanager
    def answered(self, method: str, url: str, *, seconds: float | None = None, **options: Any) -> Iterator[Any]:
        """The answer to a request, its body not yet read; to be read by `pieces`. Raises what `told` tells."""
        timeout = (self.patience.connect_seconds, seconds or self.patience.silence_seconds)
        with (
            told(),
            self.session.request(method, url, stream=True, timeout=timeout, allow_redirects=False, **options) as answer,
        ):
            yield answer

    def pieces(self, answer: requests.Response, *, whole_seconds: float, whole_bytes: int) -> Iterator[bytes]:
        """The body as it comes. Raises ArchiveTooMuch, ArchiveAway, Stopping."""
        until, left = time.monotonic() + whole_seconds, whole_bytes
        # read1: `iter_content` waits for a whole piece, so that a drip every few seconds would never be late.
        while piece := answer.raw.read1(PIECE_BYTES, decode_content=True):
            left -= len(piece)
            if left < 0:
                raise ArchiveTooMuch
            if time.monotonic() > until:
                raise ArchiveAway("The archive answers too slowly.")
            if self._is_stopping():
                raise Stopping
            yield piece

    def whole(self, answer: requests.Response) -> bytes:
        """The body of a short answer."""
        limits = self.patience
        return b"".join(self.pieces(answer, whole_seconds=limits.whole_seconds, whole_bytes=limits.answer_bytes))


@cache
def _trusted() -> ssl.SSLContext:
    """The machine's own certificates; reading them takes a third of a second."""
    return ssl.create_default_context()


class _Adapter(HTTPAdapter):
    """Trusts the machine's own certificates beside the usual ones, and reads answers within limits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=_trusted(), **kwargs)

    def send(self, request: Any, stream: bool = False, **options: Any) -> requests.Response:  # noqa: FBT001, FBT002
        request.url = plainer(request.url)
        request.headers.pop("Host", None)  # a client that names it leaves the port out
        answer = super().send(request, stream=True, **options)
        try:
            check_status(answer)
            if not stream:
                # What a session reads by itself has no limit.
                answer._content = in_utf8(self._connection.whole(answer), answer.headers.get("Content-Type", ""))
                answer._content_consumed = True
        except BaseException:
            answer.close()
            raise
        return answer


@contextmanager
def told() -> Iterator[None]:
    """Turn failures of the network and of reading into ours.

    The originals are not kept: their texts hold addresses, and so what was searched for. OSErrors of our own disk pass.
    """
    try:
        yield
    except requests.exceptions.SSLError:
        raise ArchiveAway("The archive's certificate is not trusted, or it speaks another TLS.") from None
    except requests.Timeout:
        raise ArchiveAway("The archive does not answer in time.") from None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        raise ArchiveAway(f"No connection to the archive, or it was lost{_why(error)}.") from None
    except (requests.RequestException, DecodeError, ValueError, RecursionError):
        raise ArchiveUnclear from None
    except (HTTPError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise ArchiveAway(f"No connection to the archive, or it was lost{_why(error)}.") from None


def _why(error: BaseException) -> str:
    """What the operating system said, from the depth of a chain of wrappers."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno and seen.strerror:
            return f" ({seen.strerror})"
        reason = getattr(seen, "reason", None) or next((one for one in seen.args if isinstance(one, Exception)), None)
        seen = reason if isinstance(reason, BaseException) else seen.__cause__ or seen.__context__
    return ""


def plainer(url: str) -> str:
    """The address with what may stand in a query as it is (RFC 3986, 3.4): Orthanc's DICOMweb, up to version 1.10 at
    least, compares `DOE%2A` as it came and finds nobody."""
    path, mark, query = url.partition("?")
    for code, letter in _PLAIN.items():
        query = query.replace(code, letter)
    return f"{path}{mark}{query}"


def check_status(answer: requests.Response) -> None:
    """Raise what an answer's status means, except 404 and 409, which mean something else to each request."""
    status = answer.status_code
    if status < HTTPStatus.MULTIPLE_CHOICES or status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
        return
    named = f"The archive answered {status}{_phrase(status)}."
    if status < HTTPStatus.BAD_REQUEST:
        raise ArchiveUnclear("The archive sends requests on to another address; name that one instead.")
    if status in _DENIED:
        raise ArchiveDenied(f"{named} Its name and password are set in the admin, or in DICOMWEB_URL.")
    if status in _LATER:
        raise ArchiveAway(named, retry_after_seconds=_seconds(answer.headers.get("Retry-After", "")))
    raise (ArchiveBusy if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ArchiveRefused)(named)


def in_utf8(content: bytes, content_type: str) -> bytes:
    """JSON is UTF-8 (RFC 8259); some archives write their own character set all the same."""
    try:
        content.decode()
    except UnicodeDecodeError:
        charset = _charset(content_type)
        try:
            return content.decode(charset, errors="replace").encode()
        except LookupError:
            return content.decode("latin-1").encode()
    return content


def _charset(content_type: str) -> str:
    message = Message()
    message["Content-Type"] = content_type
    return message.get_content_charset("latin-1")


def json_of(content: bytes, content_type: str) -> Any:
    """The JSON of an answer; None of an empty one. Raises ArchiveUnclear."""
    try:
        return json.loads(in_utf8(content, content_type)) if content.strip() else None
    except (ValueError, RecursionError):
        raise ArchiveUnclear from None


def _seconds(text: str) -> float | None:
    return min(float(text), _LONGEST_RETRY_AFTER) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _phrase(status: int) -> str:
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""
