"""`/metrics` for Prometheus: what the process library counts, the open jobs by state and the connected workers."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, ProcessCollector, generate_latest

from server.dispatch.selectors import connected_workers
from server.jobs.selectors import open_jobs_by_state


async def metrics(_request: HttpRequest) -> HttpResponse:
    """Read afresh at every scrape, so that several servers tell the same truth. Names no patient and no user."""
    return HttpResponse(await sync_to_async(_page)(), content_type=CONTENT_TYPE_LATEST)


def _page() -> bytes:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    jobs = Gauge("segwire_open_jobs", "Jobs that have not ended", ["state"], registry=registry)
    for state, count in open_jobs_by_state().items():
        jobs.labels(state=state).set(count)
    workers = Gauge("segwire_connected_workers", "Workers with a live session", ["route"], registry=registry)
    for route, count in connected_workers().items():
        workers.labels(route=route).set(count)
    return generate_latest(registry)
