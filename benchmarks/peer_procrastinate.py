"""procrastinate on PostgreSQL, as its own guide sets it up."""

from __future__ import annotations

import os

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from benchmarks import peer_bell

app = App(connector=SyncPsycopgConnector(conninfo=os.environ["PEER_DATABASE"]))
worker_app = app.with_connector(PsycopgConnector(conninfo=os.environ["PEER_DATABASE"]))


@app.task
def ring() -> None:
    """The whole task."""
    peer_bell.ring()
