"""Whose address counts: a client cannot choose it, and a proxy is believed only when the operator named it."""

from __future__ import annotations

import pytest

from server import addresses


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1, 10.1.2.3", "198.51.100.1"),
        ("127.0.0.1", "203.0.113.5, nonsense", "127.0.0.1"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_only_what_a_named_proxy_saw_counts(peer: str, forwarded: str, client: str, settings) -> None:
    settings.TRUSTED_PROXIES = ("127.0.0.0/8", "10.0.0.0/8")

    assert addresses.seen_from(peer, forwarded) == client


def test_a_handshake_is_read_like_a_request(settings) -> None:
    settings.TRUSTED_PROXIES = ("127.0.0.0/8",)
    scope = {"client": ("127.0.0.1", 5), "headers": [(b"x-forwarded-for", b"192.0.2.66, 198.51.100.1")]}

    assert addresses.of_scope(scope) == "198.51.100.1"
    assert addresses.of_scope({"client": None, "headers": []}) == ""


@pytest.mark.parametrize(
    ("address", "group"),
    [("198.51.100.1", "198.51.100.1"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("", "unknown")],
)
def test_a_host_cannot_leave_its_group_by_another_ipv6_address(address: str, group: str) -> None:
    assert addresses.group_of(address) == group
