"""`python -m server`: web, sockets and dispatcher in one process.

Flow: 3 dispatch
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import threading

THREADS_SECONDS = 5.0
"""How long the end waits for threads that still work; a mask that is being proven is delivered once more elsewhere."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C. The exit code is 1 when the address could not be listened on, when the database
    cannot be used, and when the dispatcher broke."""
    parser = argparse.ArgumentParser(prog="python -m server", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "server.config.settings")
    return serve(host=options.host, port=options.port)


def serve(*, host: str, port: int) -> int:
    """Put the parts together and run them. Imports come late: Twisted's reactor must be the asyncio one."""
    import daphne.server  # noqa: F401  (installs the reactor before anything else asks for one)

    from server.config.asgi import application  # isort: skip
    from django.conf import settings
    from django.db import connections
    from twisted.internet import reactor

    from server.launcher import database, layer
    from server.launcher.life import Life
    from server.launcher.local_worker import LocalWorker, home_beside, name_beside
    from server.launcher.web import WebServer

    trouble = database.trouble()
    connections.close_all()
    if trouble:
        sys.stderr.write(f"segwire cannot start. {trouble}\n")
        return 1
    loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop
    asyncio.set_event_loop(loop)
    if missing := loop.run_until_complete(layer.trouble()):
        sys.stderr.write(f"segwire starts without REDIS_URL's server: {missing}. Events are late until it answers.\n")
    web = WebServer(
        application, host=host, port=port, limits=settings.LIMITS, on_ready=lambda: loop.call_soon(life.start, loop)
    )
    loopback = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "::" else host  # noqa: S104
    name = name_beside(port=port, has_company=bool(settings.ENV.redis_url))
    local_worker = LocalWorker(
        name=name,
        home=home_beside(settings.DATA_DIR, name=name),
        server_url=f"http://{loopback}:{port}",
        models_dir=settings.MODELS_DIR,
        project_dir=settings.BASE_DIR,
    )
    life = Life(local_worker=local_worker, web=web)
    # What was loaded by now stays: walking over it again cost a click now and then a quarter of a second.
    gc.collect()
    gc.freeze()
    web.run()
    if web.listen_failure:
        sys.stderr.write(f"segwire cannot listen on {host}:{port}. {web.listen_failure}\n")
        return 1
    code = 1 if life.is_broken else 0
    _end_within(THREADS_SECONDS, code)
    return code


def _end_within(seconds: float, code: int) -> None:
    def end() -> None:
        logging.shutdown()
        os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main())
