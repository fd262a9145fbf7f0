"""The server's address, and why a worker never follows one that is not its own."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit

from worker_client.errors import BadAddress, ForeignPath
from worker_client.protocol.identity import SYNC_PATH, WEBSOCKET_PATH, host_of


def server_url(text: str, *, plain_http: bool = False) -> str:
    """The server's address without a trailing slash.

    Voxels and results travel over it, so it is https; http is taken for this very machine, or when a person
    insists (`plain_http`). Raises BadAddress.
    """
    parts = urlsplit(text.strip())
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise BadAddress(text, why="it must look like https://segwire.example")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadAddress(text, why="it must hold no user name, query or fragment")
    if parts.path.strip("/"):
        raise BadAddress(text, why="it must be the root of a host, without a path")
    if parts.scheme == "http" and not (plain_http or is_loopback(parts.hostname)):
        raise BadAddress(text, why="http can be read on the way; use https, or --plain-http on a network of your own")
    return f"{parts.scheme}://{host_of(text.strip())}"


def socket_url(server: str) -> str:
    """The WebSocket's address on a server."""
    scheme = "wss" if server.startswith("https:") else "ws"
    return f"{scheme}://{host_of(server)}{WEBSOCKET_PATH}"


def sync_url(socket: str) -> str:
    """The fall-back's address on the server of a WebSocket's address."""
    return urljoin(_over_http(socket), SYNC_PATH)


def health_url(socket: str) -> str:
    """The health page on the server of a WebSocket's address."""
    return urljoin(_over_http(socket), "/healthz")


def _over_http(socket: str) -> str:
    return f"http{socket.removeprefix('ws')}"


def origin_of(url: str) -> str:
    """Scheme, host and port of an address, spelled in one way; empty when it is none."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.password:
        return ""
    usual = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{parts.hostname}:{port or usual}"


def on_server(server: str, path: str) -> str:
    """The full address of a path that the server named. Raises ForeignPath when it leads anywhere else."""
    if "\\" in path or any(ord(letter) < 33 for letter in path):
        raise ForeignPath(path)
    url = urljoin(server + "/", path)
    here, there = urlsplit(server), urlsplit(url)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise ForeignPath(path)
    return url


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
