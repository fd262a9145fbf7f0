"""How a machine becomes a worker, and how it stops being one.

Flow: 3 dispatch
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from server.core.events import Expiry, LeaseExpired
from server.core.job import Route
from server.dispatch import keys, selectors, wakeups
from server.dispatch.errors import EnrolRefused
from server.dispatch.models import EnrolToken, Worker, WorkerSession
from server.jobs import services as jobs
from server.topics import services as topics
from worker_client.protocol.identity import enrol_text

WORKERS_TOPIC = "workers"


@dataclass(frozen=True, kw_only=True)
class Application:
    """What a machine sends to become a worker; `public_key` and `proof` are base64."""

    token: str
    name: str
    public_key: str
    proof: str


def issue_enrol_token(*, name: str, route: str = "lab", created_by: Any = None) -> str:
    """A new one-time token for the machine `name`, shown this once."""
    token = keys.new_enrol_token()
    EnrolToken.objects.create(
        digest=keys.digest_of(token),
        name=name,
        route=Route(route).value,
        expires_at=timezone.now() + timedelta(seconds=settings.LIMITS.enrol_token_seconds),
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
    known = Worker.objects.filter(public_key=key).first()
    if known is not None:
        if known.enrolled_with == digest and known.state != Worker.State.REVOKED:
            return known
        raise EnrolRefused
    usable = EnrolToken.objects.filter(digest=digest, uses_left__gt=0, expires_at__gt=timezone.now())
    if usable.update(uses_left=F("uses_left") - 1) != 1:
        raise EnrolRefused
    permission = EnrolToken.objects.get(digest=digest)
    worker = Worker.objects.create(
        name=application.name,
        public_key=key,
        route=permission.route,
        labels=permission.labels,
        created_by=permission.created_by,
        enrolled_with=digest,
    )
    tell_watchers(worker.id, "worker.enrolled")
    return worker


@transaction.atomic
def set_state(worker: Worker, state: Worker.State) -> None:
    """Suspend, revoke or activate a worker. A revoked one loses its connection and its jobs at once."""
    if not Worker.objects.filter(pk=worker.pk).exclude(state=state).update(state=state):
        return
    tell_watchers(worker.id, "worker.state")
    if state == Worker.State.REVOKED:
        for job in selectors.held_by(worker.id):
            expired = LeaseExpired(at=jobs.now(), fence=job.fence, why=Expiry.WORKER_REVOKED)
            jobs.record_if_allowed(job.id, expired)
    if WorkerSession.objects.filter(worker=worker, closed_at=None).exists():
        transaction.on_commit(lambda: wakeups.poke_worker(worker.id), robust=True)
    transaction.on_commit(wakeups.bell.ring, robust=True)


def tell_watchers(worker_id: str, kind: str) -> None:
    """Add a line to the log of the topic `workers`; in the caller's transaction."""
    topics.append(WORKERS_TOPIC, kind=kind, payload={"worker": worker_id})
