"""How a machine becomes a worker, and how it stops being one.

Flow: 3 dispatch
"""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from server.audit.services import SERVER, note
from server.core.events import Expiry, LeaseExpired
from server.core.job import Route
from server.dispatch import keys, selectors, wakeups
from server.dispatch.errors import EnrolRefused
from server.dispatch.models import EnrolToken, Worker, WorkerSession
from server.jobs import services as jobs
from server.topics import services as topics
from worker_client.protocol.identity import enrol_text, rotate_text

WORKERS_TOPIC = "workers"
STATE_ACTIONS = {
    Worker.State.PENDING: "worker.pend",
    Worker.State.ACTIVE: "worker.activate",
    Worker.State.SUSPENDED: "worker.suspend",
    Worker.State.REVOKED: "worker.revoke",
}


@dataclass(frozen=True, kw_only=True)
class Application:
    """What a machine sends to become a worker; `public_key` and `proof` are base64. `address` is where it is."""

    token: str
    name: str
    public_key: str
    proof: str
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class Permission:
    """What an enrol token allows. `network` limits from where, as 10.1.0.0/16; empty is anywhere."""

    name: str
    route: str = "lab"
    labels: tuple[str, ...] = ()
    network: str = ""
    needs_approval: bool = False
    uses: int = 1
    seconds: float | None = None
    """How long it is good; LIMITS.enrol_token_seconds when nothing is said."""


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A worker's wish for another key (base64), signed by the old one (`sig`) and by itself (`proof`)."""

    worker_id: str
    session: int
    public_key: str
    sig: str
    proof: str


def issue_enrol_token(*, name: str, route: str = "lab", created_by: Any = None) -> str:
    """A new one-time token for the machine `name`, shown this once."""
    return issue(Permission(name=name, route=route), created_by=created_by)


def issue(permission: Permission, *, created_by: Any = None) -> str:
    """A new token with this permission, shown this once."""
    token = keys.new_enrol_token()
    seconds = settings.LIMITS.enrol_token_seconds if permission.seconds is None else permission.seconds
    EnrolToken.objects.create(
        digest=keys.digest_of(token),
        name=permission.name,
        route=Route(permission.route).value,
        labels=list(permission.labels),
        network=permission.network,
        needs_approval=permission.needs_approval,
        uses_left=permission.uses,
        expires_at=jobs.now() + timedelta(seconds=seconds),
        created_by=created_by,
    )
    return token


@transaction.atomic
def enrol(application: Application) -> Worker:
    """Register a machine's public key for a token. The same request again, after a lost answer, is the same worker.

    Raises:
        EnrolRefused: whatever is wrong; the proof is looked at in any case, so that all refusals take as long.
    """
    token, key = application.token, application.public_key
    text = enrol_text(token=token, name=application.name, public_key=key)
    has_key = keys.is_public_key(key)
    is_proven = keys.has_signed(public_key=key if has_key else "", signature=application.proof, text=text)
    digest = keys.digest_of(token)
    if not is_proven or not keys.is_enrol_token(token):
        raise EnrolRefused
    known = Worker.objects.filter(Q(public_key=key) | Q(old_public_key=key)).first()
    if known is not None:
        if known.enrolled_with == digest and known.public_key == key and known.state != Worker.State.REVOKED:
            return known
        raise EnrolRefused
    permission = _spend(digest, address=application.address)
    worker = Worker.objects.create(
        name=application.name,
        public_key=key,
        route=permission.route,
        labels=permission.labels,
        state=Worker.State.PENDING if permission.needs_approval else Worker.State.ACTIVE,
        key_made_at=jobs.now(),
        created_by=permission.created_by,
        enrolled_with=digest,
    )
    note(actor=f"worker:{worker.id}", action="worker.enrol", worker=worker.id, token=str(permission.pk))
    tell_watchers(worker.id, "worker.enrolled")
    return worker


@transaction.atomic
def set_state(worker: Worker, state: Worker.State, *, actor: str = SERVER) -> None:
    """Suspend, revoke or activate a worker. A revoked one loses its connection and its jobs at once, and for good: it
    has to enrol anew, with another key."""
    if not Worker.objects.filter(pk=worker.pk).exclude(state__in=[state, Worker.State.REVOKED]).update(state=state):
        return
    note(actor=actor, action=STATE_ACTIONS[state], worker=worker.pk)
    if state == Worker.State.REVOKED:
        for job in selectors.held_by(worker.pk):
            expired = LeaseExpired(at=jobs.now(), fence=job.fence, why=Expiry.WORKER_REVOKED)
            jobs.record_if_allowed(job.pk, expired)
    tell_watchers(worker.pk, "worker.state")
    _after_commit(worker.pk)


@transaction.atomic
def drain(worker: Worker, *, seconds: float | None = None, actor: str = SERVER) -> None:
    """Give a worker no more offers. What it has not done within `seconds` it gives back, if it is able to."""
    until = None if seconds is None else jobs.now() + timedelta(seconds=seconds)
    Worker.objects.filter(pk=worker.pk).update(is_drain_wanted=True, drain_until=until)
    WorkerSession.objects.filter(worker=worker, closed_at=None).update(is_draining=True)
    note(actor=actor, action="worker.drain", worker=worker.pk)
    tell_watchers(worker.pk, "worker.state")
    _after_commit(worker.pk)


@transaction.atomic
def undrain(worker: Worker, *, actor: str = SERVER) -> None:
    """Offers are welcome again."""
    if not Worker.objects.filter(pk=worker.pk, is_drain_wanted=True).update(is_drain_wanted=False, drain_until=None):
        return
    WorkerSession.objects.filter(worker=worker, closed_at=None).update(is_draining=False)
    note(actor=actor, action="worker.undrain", worker=worker.pk)
    tell_watchers(worker.pk, "worker.state")
    _after_commit(worker.pk)


@transaction.atomic
def want_new_key(worker: Worker, *, actor: str = SERVER) -> None:
    """Ask a worker for another key, now or as soon as it is here."""
    Worker.objects.filter(pk=worker.pk).update(is_rotation_wanted=True)
    note(actor=actor, action="worker.want_key", worker=worker.pk)
    _after_commit(worker.pk)


@transaction.atomic
def rotate_key(wish: NewKey) -> bool:
    """Take a worker's new key; the old one counts for LIMITS.old_key_seconds more. False when it is not proven.

    The same wish again, after a lost answer, changes nothing.
    """
    worker = Worker.objects.select_for_update().get(pk=wish.worker_id)
    is_again = worker.public_key == wish.public_key
    signer = worker.old_public_key if is_again else worker.public_key
    text = rotate_text(worker_id=wish.worker_id, session=wish.session, public_key=wish.public_key)
    if not keys.is_public_key(wish.public_key) or not all(
        [
            keys.has_signed(public_key=signer, signature=wish.sig, text=text),
            keys.has_signed(public_key=wish.public_key, signature=wish.proof, text=text),
        ]
    ):
        return False
    if is_again:
        return True
    taken = Q(public_key=wish.public_key) | Q(old_public_key=wish.public_key)
    if worker.state == Worker.State.REVOKED or Worker.objects.filter(taken).exists():
        return False
    at = jobs.now()
    Worker.objects.filter(pk=worker.pk).update(
        public_key=wish.public_key,
        key_made_at=at,
        old_public_key=worker.public_key,
        old_key_until=at + timedelta(seconds=settings.LIMITS.old_key_seconds),
        is_rotation_wanted=False,
    )
    note(actor=f"worker:{worker.pk}", action="worker.rotate_key", worker=worker.pk)
    return True


def tell_watchers(worker_id: str, kind: str) -> None:
    """Add a line to the log of the topic `workers`; in the caller's transaction."""
    topics.append(WORKERS_TOPIC, kind=kind, payload={"worker": worker_id})


def _spend(digest: str, *, address: str) -> EnrolToken:
    """Use a token once, if it may be used from there. One that is unknown costs as much as one that was used."""
    usable = EnrolToken.objects.filter(digest=digest, uses_left__gt=0, expires_at__gt=jobs.now())
    if usable.update(uses_left=F("uses_left") - 1) != 1:
        raise EnrolRefused
    permission = EnrolToken.objects.get(digest=digest)
    if not _is_within(address, permission.network):
        raise EnrolRefused
    return permission


def _is_within(address: str, network: str) -> bool:
    if not network:
        return True
    try:
        place = ip_address(address)
        # A socket that listens on both protocols shows IPv4 clients as ::ffff:192.0.2.1.
        return (getattr(place, "ipv4_mapped", None) or place) in ip_network(network, strict=False)
    except ValueError:
        return False


def _after_commit(worker_id: str) -> None:
    """Let its socket look, and the assigner; both look by themselves if this is lost."""
    if WorkerSession.objects.filter(worker_id=worker_id, closed_at=None).exists():
        transaction.on_commit(lambda: wakeups.poke_worker(worker_id), robust=True)
    transaction.on_commit(wakeups.bell.ring, robust=True)
