"""Celery with Redis, as its own guide sets it up; results are not stored."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks import peer_bell

app = Celery("peer", broker=os.environ["PEER_BROKER"])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@app.task
def ring() -> None:
    """The whole task."""
    peer_bell.ring()
