"""`/metrics` for Prometheus: what the process library counts, the open jobs by state and the connected workers."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, ProcessCollector, generate_latest

from server import addresses
from server.accounts.auth import user_auth
from server.config.problems import problem_of
from server.core.errors import NotAllowed, Problem
from server.dispatch.selectors import connected_workers
from server.jobs.selectors import open_jobs_by_state
from server.pacs.selectors import counts as counts_of_archives


async def metrics(request: HttpRequest) -> HttpResponse:
    """Read afresh at every scrape, so that several servers tell the same truth. Names no patient and no user.

    For this machine and the proxies' (TRUSTED_PROXIES), and for staff from elsewhere, by session or API token.
    """
    try:
        return HttpResponse(await sync_to_async(_page_for)(request), content_type=CONTENT_TYPE_LATEST)
    except Problem as refusal:
        return problem_of(refusal)


def _page_for(request: HttpRequest) -> bytes:
    if not addresses.is_trusted(addresses.of_request(request)):
        user = next((found for found in (authenticate(request) for authenticate in user_auth) if found), None)
        if user is None or not user.is_staff:
            raise NotAllowed("Only staff may read the figures from another machine.")
    return _page()


def _page() -> bytes:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    jobs = Gauge("segwire_open_jobs", "Jobs that have not ended", ["state"], registry=registry)
    for state, count in open_jobs_by_state().items():
        jobs.labels(state=state).set(count)
    workers = Gauge("segwire_connected_workers", "Workers with a live session", ["route"], registry=registry)
    for route, count in connected_workers().items():
        workers.labels(route=route).set(count)
    sent = Gauge("segwire_deliveries", "DICOM objects that an archive has not got yet", ["state"], registry=registry)
    pulled = Gauge("segwire_open_pulls", "Studies on their way from an archive", ["state"], registry=registry)
    for gauge, by_state in zip((sent, pulled), counts_of_archives(), strict=True):
        for state, count in by_state.items():
            gauge.labels(state=state).set(count)
    return generate_latest(registry)
