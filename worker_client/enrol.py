"""Making this machine known to a server: a key of its own, registered by a one-time token."""

from __future__ import annotations

import contextlib
from pathlib import Path

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from worker_client.errors import EnrolRefused
from worker_client.home import Home, IdentityFile, public_text, sign
from worker_client.http import http_client
from worker_client.protocol.identity import ENROL_PATH, enrol_text

TRIES = 3


class _Enrolled(msgspec.Struct):
    worker_id: str
    server: str = ""
    epoch: str = ""


class _Problem(msgspec.Struct):
    detail: str = ""


def enrol(home: Home, *, server: str, name: str, token: str, ca_file: Path | None) -> str:
    """Make a new key, register it, and store both; answer the worker's id. An older identity is replaced at the end.

    Raises EnrolRefused, HomeUnsafe, HomeBusy.
    """
    home.prepare()
    with home.locked():
        key = Ed25519PrivateKey.generate()
        enrolled = register(server=server, name=name, token=token, key=key, ca_file=ca_file)
        home.remember(
            IdentityFile(
                worker_id=enrolled.worker_id,
                name=name,
                server=server,
                epoch=enrolled.epoch,
                ca_file=None if ca_file is None else str(ca_file.resolve()),
            ),
            key=key,
        )
    return enrolled.worker_id


def register(*, server: str, name: str, token: str, key: Ed25519PrivateKey, ca_file: Path | None) -> _Enrolled:
    """Show the server the token and the public key, signed. Raises EnrolRefused.

    A request whose answer is lost is made again with the same key: the token is used up by then, and the server
    knows the repetition by the key.
    """
    public_key = public_text(key)
    proof = sign(key, enrol_text(token=token, name=name, public_key=public_key))
    request = {"token": token, "name": name, "public_key": public_key, "proof": proof}
    response = _post(server, request, ca_file=ca_file)
    if response.status_code not in (200, 201):
        raise EnrolRefused(_detail(response), status=response.status_code)
    try:
        return msgspec.json.decode(response.content, type=_Enrolled)
    except msgspec.DecodeError as error:
        raise EnrolRefused("its answer is no enrolment; is this a Segwire server?", status=200) from error


def _post(server: str, request: dict[str, str], *, ca_file: Path | None) -> httpx.Response:
    with http_client(server, ca_file=ca_file) as client:
        for _ in range(TRIES - 1):
            with contextlib.suppress(httpx.TransportError):
                return client.post(ENROL_PATH, json=request)
        try:
            return client.post(ENROL_PATH, json=request)
        except httpx.TransportError as error:
            raise EnrolRefused(f"it could not be reached ({type(error).__name__})", status=0) from error


def _detail(response: httpx.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_Problem).detail or "no reason was given"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no reason was given; is this a Segwire server?"
