"""What time itself brings about: leases and sessions that run out, and what a starting server owes the workers.

Flow: 3 dispatch
"""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from server.core.events import LeaseExpired
from server.core.job import State
from server.dispatch.enrolment import tell_watchers
from server.dispatch.models import WorkerSession
from server.jobs import services as jobs
from server.jobs.models import Job
from server.jobs.selectors import held_jobs


@transaction.atomic
def on_start(*, node: str, is_alone: bool) -> None:
    """Give leases that ran out while no server was up some seconds more, so that their workers can come back.

    `is_alone`: this is the only server process, so every open session of another one is dead.
    """
    soon = jobs.now() + timedelta(seconds=settings.POLICY.orphan_seconds)
    held_jobs().filter(lease_until__lt=soon).update(lease_until=soon)
    if is_alone:
        _close(WorkerSession.objects.filter(closed_at=None).exclude(node=node))


def expire(*, jump: float = 0.0) -> None:
    """Queue jobs whose lease has run out, and close sessions that nobody renewed.

    `jump`: the clock that leases are measured by was set by so many seconds since the last time.
    """
    if jump:
        put_right(jump)
    at = jobs.now()
    overdue = held_jobs().filter(lease_until__lte=at)
    for job_id, fence in list(overdue.values_list("pk", "fence")):
        jobs.record_if_allowed(job_id, LeaseExpired(at=at, fence=fence))
    silent = WorkerSession.objects.filter(closed_at=None, lease_until__lte=at)
    if silent.exists():
        with transaction.atomic():
            _close(silent)


@transaction.atomic
def put_right(jump: float) -> None:
    """The clock was set by `jump` seconds: no lease ends for that, and none lasts for that.

    What was renewed by the new clock already keeps its time. What seems to have run out lasts as long as a new lease;
    what seems to last longer than any lease is cut to one.
    """
    at = jobs.now()
    until = at + timedelta(seconds=settings.POLICY.lease_seconds)
    alive = WorkerSession.objects.filter(closed_at=None)
    for leases in (held_jobs(), alive):
        wrong = leases.filter(lease_until__lte=at) if jump > 0 else leases.filter(lease_until__gt=until)
        wrong.update(lease_until=until)
    if jump < 0:
        # A worker to be left alone for seconds would be for an hour.
        Job.objects.filter(state=State.QUEUED).exclude(avoid=[]).update(avoid=[])


def _close(sessions: QuerySet[WorkerSession]) -> None:
    at, closed = jobs.now(), []
    for worker_id in list(sessions.order_by("worker_id").values_list("worker_id", flat=True)):
        if WorkerSession.objects.filter(worker_id=worker_id, closed_at=None).update(closed_at=at, credits=0):
            closed.append(worker_id)
    # The log's row is locked last, as by a worker that signs in: nobody who has it waits for a session.
    for worker_id in closed:
        tell_watchers(worker_id, "worker.disconnected")
