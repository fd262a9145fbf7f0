"""Who is at the other end of a connection: the address that counts for limits and for refused sign-ins.

`X-Forwarded-For` is believed only from a proxy that the operator named (TRUSTED_PROXIES), and only its last entry that
is no such proxy: everything before that one was written by the client itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from django.conf import settings
from django.http import HttpRequest

Network = IPv4Network | IPv6Network
_IPV6_SITE = 64


def of_request(request: HttpRequest) -> str:
    """The client's address; empty when it is not known."""
    return seen_from(request.META.get("REMOTE_ADDR") or "", request.META.get("HTTP_X_FORWARDED_FOR", ""))


def of_scope(scope: Mapping[str, Any]) -> str:
    """The client's address of a handshake; empty when it is not known."""
    forwarded = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
    return seen_from((scope.get("client") or ("",))[0] or "", ",".join(forwarded))


def seen_from(peer: str, forwarded: str) -> str:
    """The address of the client, given the other end of the connection and `X-Forwarded-For`."""
    seen = _parsed(peer)
    for hop in reversed(forwarded.split(",")):
        if seen is None or not _is_proxy(seen):
            break
        further = _parsed(hop.strip())
        if further is None:
            break
        seen = further
    return str(seen) if seen else ""


def group_of(address: str) -> str:
    """What shares one limit: an IPv4 address, or the /64 network in which a single host may choose any address."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _IPV6_SITE), strict=False))
    return str(parsed) if parsed else "unknown"


def is_trusted(address: str) -> bool:
    """Whether it is this machine's own, or one of the operator's proxies."""
    parsed = _parsed(address)
    return parsed is not None and _is_proxy(parsed)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_proxy(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in _proxies(tuple(settings.TRUSTED_PROXIES)))


@lru_cache(maxsize=8)
def _proxies(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(network) for network in networks)
