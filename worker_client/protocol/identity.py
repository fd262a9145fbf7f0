"""Who a worker is: the texts that its Ed25519 key signs, and the paths it speaks to.

The signature binds the host that the worker enrolled with and the boot, so it cannot be relayed to another
host name or replayed (design: security, worker identity).
"""

from __future__ import annotations

from urllib.parse import urlsplit

SUBPROTOCOL = "seg.worker.v1"
WEBSOCKET_PATH = "/ws/worker/"
ENROL_PATH = "/api/worker/enrol/"
ARTIFACTS_PATH = "/api/worker/artifacts/"
UPLOADS_PATH = "/api/worker/uploads/"
SYNC_PATH = "/api/worker/sync/"
LINK_HEADER = "X-Segwire-Link"
"""Random, one a fall-back link: a balancer keeps its requests on one server by it. It authorises nothing."""
NONCE_BYTES = 32


def challenge_text(*, nonce: str, host: str, worker_id: str, boot_id: str) -> bytes:
    """What `hello.sig` signs. `nonce` is the base64 text of the challenge, `host` that of PUBLIC_URL."""
    return f"seg-worker-auth-v1|{nonce}|{host}|{worker_id}|{boot_id}".encode()


def enrol_text(*, token: str, name: str, public_key: str) -> bytes:
    """What the enrolment proof signs: who enrols holds the private key. `public_key` is base64 of 32 raw bytes."""
    return f"seg-worker-enrol-v1|{token}|{name}|{public_key}".encode()


def rotate_text(*, worker_id: str, session: int, public_key: str) -> bytes:
    """What both keys sign when a worker takes a new one. `public_key` is the new one, base64 of 32 raw bytes."""
    return f"seg-worker-rotate-v1|{worker_id}|{session}|{public_key}".encode()


def host_of(url: str) -> str:
    """Host name of a server's URL, with its port when one is written: the same text on both sides."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()
