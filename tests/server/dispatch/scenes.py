"""Jobs and workers as the tests of dispatch find them."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from server.core.events import Leased, Started
from server.core.reconcile import Hold
from server.core.scheduler import Model
from server.dispatch import assigner, sessions, survey
from server.dispatch.models import Worker, WorkerSession
from server.dispatch.sessions import Arrival, Pulse
from server.jobs import services
from server.jobs.models import Job
from server.jobs.outlook import Lease
from server.jobs.requests import Wish, request_segmentation
from tests.server.dispatch.fakes import Machine
from tests.server.shelf import a_study, a_user, four_series

MODEL = Model("compact", "1.0", "a" * 64)
RUN = {"name": "compact", "version": "1.0", "sha256": "a" * 64}
QUIET = Pulse(load=0.0, gpu=None)


def a_job(*, uid: str = "1.2.3", **wish: Any) -> Job:
    """A queued job of the lab route."""
    reader = User.objects.filter(username="reader").first() or a_user()
    four = four_series(a_study(reader, uid=uid))
    fields = {"series_ref": four[1].pk, "sequence_refs": tuple(one.pk for one in four), "use_local": True, **wish}
    return Job.objects.get(pk=request_segmentation(user=reader, wish=Wish(**fields))["id"])


def an_arrival(worker: Worker, **changes: Any) -> Arrival:
    """A worker that comes with nothing in its hands."""
    fields: dict[str, Any] = {
        "worker_id": worker.pk,
        "boot_id": "boot-1",
        "slots": 1,
        "models": (MODEL,),
        "device": "a test",
        "vram_mb": 0,
        "software": {"segwire": "0.1.0"},
        "running": (),
        "outbox": (),
        **changes,
    }
    return Arrival(**fields)


def a_worker(name: str = "lab-1", *, credits: int = 1, route: str = "lab", **arrival: Any) -> Worker:
    """A worker that is connected and has room."""
    worker = Machine().enrolled(name=name, route=route)
    seat = sessions.take_seat(an_arrival(worker, **arrival), node="node", channel_name=f"channel.{name}")
    sessions.note_ready(worker.pk, seat.session, credits=credits, pulse=QUIET, is_draining=False)
    return worker


def leased(job: Job, worker: Worker) -> Hold:
    """The job is offered to the worker."""
    lease = Lease(worker_name=worker.name, run_model=RUN)
    value = services.record(job.pk, Leased(at=timezone.now(), worker_id=worker.pk), lease=lease)
    return Hold(job.pk, value.fence)


def running(job: Job, worker: Worker) -> Hold:
    """The worker computes the job."""
    hold = leased(job, worker)
    services.record(job.pk, Started(at=timezone.now(), fence=hold.fence, worker_id=worker.pk))
    return hold


def session_of(worker: Worker) -> WorkerSession:
    """Its session as the row has it now."""
    return WorkerSession.objects.get(worker=worker)


def reread(job: Job) -> Job:
    """The job as the row has it now."""
    return Job.objects.get(pk=job.pk)


def overdue(job: Job, *, seconds: float = 1.0) -> None:
    """The job's lease ran out so long ago."""
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=seconds))


def one_round() -> assigner.Round:
    """The dispatcher looks once: it gives out, and looks around."""
    found = assigner.assign_round()
    survey.look_around()
    return found
