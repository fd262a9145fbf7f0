"""`make scale-demo`: two servers, PostgreSQL, Redis, three workers, and nginx where it is installed, until Ctrl-C.

Every part is the ordinary program with the shipped settings; honcho runs ours and shows what they say. PostgreSQL,
Redis and nginx get free ports on this machine and a folder that is removed at the end.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from demo import USERNAME, Demo, DemoFailed, say  # noqa: E402
from honcho import manager as honcho  # noqa: E402

from tests.system.services import Nginx, Postgres, Redis, nginx, postgres_server, redis_server  # noqa: E402
from tests.system.stack import free_port  # noqa: E402

SERVERS = ("server-1", "server-2")
WORKERS = ("worker-1", "worker-2", "worker-3")
READY_SECONDS = 180.0
END_SECONDS = 40
"""A server says goodbye, answers and ends its own worker first."""
NEEDED = {"redis-server": "redis-server", "initdb": "postgresql"}


class ScaleDemo(Demo):
    """The servers and workers of one demo, on services that run already."""

    def __init__(self, *, port: int, data_dir: Path, postgres: Postgres, redis: Redis, ports: list[int]) -> None:
        super().__init__(host="127.0.0.1", port=port, data_dir=data_dir)
        self.ports = ports
        self.env |= {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "PYTHONUNBUFFERED": "1"}
        self.children = honcho.Manager()

    def enrol_later(self, name: str) -> Path:
        """A one-time token in a file that only we read; the worker enrols with it as soon as a server answers."""
        file = self.data_dir / f"{name}.token"
        file.touch(mode=0o600)
        file.write_text(self.manage("enrol_token", f"Demo {name}", "--route", "lab") + "\n")
        return file

    def run(self) -> int:
        """Everything ours, until something ends or the person has had enough. Answers the exit code."""
        for name, port in zip(SERVERS, self.ports, strict=True):
            self._add(name, [sys.executable, "-m", "server", "--port", str(port)])
        for name in WORKERS:
            told = [str(self.enrol_later(name)), str(self.data_dir / name)]
            self._add(name, [sys.executable, str(Path(__file__).resolve()), "--worker", self.url, name, *told])
        honcho.KILL_WAIT = END_SECONDS
        threading.Thread(target=self._say_when_ready, daemon=True).start()
        self.children.loop()
        was_asked = self.children.returncode in {130, 143}
        return 0 if was_asked else 1

    def _add(self, name: str, command: list[str]) -> None:
        self.children.add_process(name, "exec " + shlex.join(command), env=self.env, cwd=str(ROOT))

    def _say_when_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if _connected_workers(self.url) >= len(WORKERS):
                say()
                say(f"  Viewer    {self.url}/")
                say(f"  Servers   {'  '.join(f'http://127.0.0.1:{port}/' for port in self.ports)}")
                say(f"  Admin     {self.url}/admin/dispatch/worker/")
                say(f"  Sign in   {USERNAME}  {self._password()}")
                say()
                say("Ctrl-C ends the demo; nothing of it is kept.")
                return
            time.sleep(0.5)


def _connected_workers(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
    except (urllib.error.URLError, OSError):
        return 0
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("segwire_connected_workers{"))


def work(*, url: str, name: str, token_file: Path, home: Path) -> int:
    """One worker: enrol as soon as the server answers, then become the ordinary program."""
    _wait_for(f"{url}/healthz")
    told = ("--server", url, "--name", f"Demo {name}", "--token-stdin", "--home", str(home))
    with token_file.open() as token:
        done = subprocess.run([sys.executable, "-m", "worker_client", "enrol", *told], cwd=ROOT, stdin=token)
    token_file.unlink()
    if done.returncode:
        return done.returncode
    os.execv(sys.executable, [sys.executable, "-m", "worker_client", "run", "--home", str(home)])  # noqa: S606
    return 1


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)


def demonstrate(*, port: int, has_patient: bool) -> int:
    """Start the services, then what is ours, and end them in the other order."""
    for program, package in NEEDED.items():
        if not shutil.which(program) and not list(Path("/usr/lib/postgresql").glob(f"*/bin/{program}")):
            raise DemoFailed(f"{program} is not installed; on Debian: apt-get install {package}")
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="segwire-scale-demo-")))
        say("  Redis ...")
        redis = stack.enter_context(redis_server(folder / "redis"))
        say("  PostgreSQL ...")
        postgres = stack.enter_context(postgres_server(folder / "postgres"))
        if shutil.which("nginx"):
            say("  nginx ...")
            front: Nginx = stack.enter_context(nginx(folder / "nginx", ports, port=port))
            port = front.port
        else:
            say("  nginx is not installed: the first server is spoken to directly")
            ports[0] = port
        demo = ScaleDemo(port=port, data_dir=folder / "data", postgres=postgres, redis=redis, ports=ports)
        demo.prepare(has_patient=has_patient)
        say("  two servers and three workers ...")
        return demo.run()


def main() -> int:
    """Run the demo; the exit code is 1 when a part failed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--no-patient", action="store_true", help="start with an empty database")
    parser.add_argument("--worker", nargs=4, metavar=("URL", "NAME", "TOKEN_FILE", "HOME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        url, name, token_file, home = options.worker
        return work(url=url, name=name, token_file=Path(token_file), home=Path(home))
    say("Starting two servers")
    try:
        return demonstrate(port=options.port, has_patient=not options.no_patient)
    except KeyboardInterrupt:
        return 0
    except DemoFailed as error:
        say(f"The demo could not go on: {error}")
        return 1
    finally:
        say("The demo has ended")


if __name__ == "__main__":
    sys.exit(main())
