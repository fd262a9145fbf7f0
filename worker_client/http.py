"""HTTP clients for the enrolled server: its certificate always checked, no redirect followed, no proxy to oneself."""

from __future__ import annotations

import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from worker_client import __version__
from worker_client.address import is_loopback

_TIMEOUT = httpx.Timeout(connect=10.0, read=30.0, write=30.0, pool=60.0)
_HEADERS = {"User-Agent": f"segwire-worker/{__version__}"}


def tls_context(server: str, *, ca_file: Path | None) -> ssl.SSLContext | None:
    """How the server's certificate is checked: by the system's authorities, or by `ca_file` alone; None for http."""
    if not server.startswith("https:"):
        return None
    return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))


def uses_proxy(server: str) -> bool:
    """Whether the system's proxy settings apply: never on the way to this very machine."""
    return not is_loopback(urlsplit(server).hostname or "")


def http_client(server: str, *, ca_file: Path | None) -> httpx.Client:
    """A client for a few short requests."""
    return httpx.Client(
        base_url=server,
        headers=_HEADERS,
        timeout=_TIMEOUT,
        verify=tls_context(server, ca_file=ca_file) or True,
        trust_env=uses_proxy(server),
    )


def transfer_client(server: str, *, ca_file: Path | None) -> httpx.AsyncClient:
    """A client for the data plane and the fall-back."""
    return httpx.AsyncClient(
        headers=_HEADERS,
        # A worker has no use for cookies, and the server takes one for the mark of a browser.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=_TIMEOUT,
        verify=tls_context(server, ca_file=ca_file) or True,
        trust_env=uses_proxy(server),
    )
