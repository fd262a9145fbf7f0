"""`make demo`: a server, one lab worker, an admin and a simulated patient, until Ctrl-C.

The worker is enrolled by a one-time token like any other, and both are the ordinary programs.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0
STOP_SECONDS = 15.0
USERNAME = "admin"


class DemoFailed(Exception):
    """A part of the demo did not start."""


def say(text: str = "") -> None:
    """One line for the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Demo:
    """The processes of one demo and where they keep their things."""

    def __init__(self, *, host: str, port: int, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.url = f"http://{host}:{port}"
        self.listen = ("--host", host, "--port", str(port))
        self.env = {
            **os.environ,
            "DATA_DIR": str(data_dir),
            "PUBLIC_URL": self.url,
            "USE_LOCAL_INFERENCE": "true",
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def manage(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Run one management command and give back what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.env, **(env or {})},
            text=True,
            capture_output=True,
        )
        if done.returncode:
            raise DemoFailed(f"manage.py {arguments[0]} failed:\n{done.stderr[-2000:]}")
        return done.stdout.strip()

    def prepare(self, *, has_patient: bool = True) -> str:
        """Database, admin and patient. Answers the admin's password, which a second start keeps."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        say("  database ...")
        self.manage("migrate", "--verbosity", "0")
        password = self._password()
        if not has_patient:
            return password
        say("  demo patient (simulated tumour in template anatomy, not a patient) ...")
        self.manage("make_demo_patient", "--owner", USERNAME)
        return password

    def _password(self) -> str:
        kept = self.data_dir / "demo_password"
        if kept.is_file():
            return kept.read_text().strip()
        password = secrets.token_urlsafe(12)
        self.manage(
            "createsuperuser",
            "--noinput",
            "--username",
            USERNAME,
            "--email",
            "admin@localhost.invalid",
            env={"DJANGO_SUPERUSER_PASSWORD": password},
        )
        kept.touch(mode=0o600)
        kept.write_text(password + "\n")
        return password

    def start_server(self) -> None:
        """The web process; it answers before this returns."""
        say("  server ...")
        server = self._start("server", *self.listen)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if server.poll() is not None:
                raise DemoFailed("the server ended; is the port taken? PORT=8001 make demo uses another one")
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise DemoFailed(f"the server did not answer within {START_SECONDS:.0f} s")

    def start_worker(self) -> None:
        """A lab worker with a home of its own, enrolled on the first start."""
        say("  lab worker ...")
        home = self.data_dir / "demo_worker"
        if not (home / "enrolled").exists():
            token = self.manage("enrol_token", "Demo lab PC", "--route", "lab")
            command = ("enrol", "--server", self.url, "--name", "Demo lab PC", "--token-stdin", "--home", str(home))
            done = subprocess.run(
                [sys.executable, "-m", "worker_client", *command],
                cwd=ROOT,
                env=self.env,
                input=token + "\n",
                text=True,
                capture_output=True,
            )
            if done.returncode:
                raise DemoFailed(f"the worker could not enrol:\n{done.stderr[-2000:]}")
            (home / "enrolled").touch()
        self._start("worker_client", "run", "--home", str(home))

    def watch(self) -> None:
        """Wait until something ends or the person has had enough."""
        while all(process.poll() is None for process in self.running):
            time.sleep(0.5)
        raise DemoFailed("the server or the worker has ended by itself")

    def stop(self) -> None:
        """End worker and server in order."""
        for process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        # A session of their own: Ctrl-C reaches this process alone, which ends them in order.
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, env=self.env, start_new_session=True
        )
        self.running.append(process)
        return process


def main() -> int:
    """Run the demo; the exit code is 1 when a part failed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    options = parser.parse_args()
    demo = Demo(host=options.host, port=options.port, data_dir=options.data_dir.resolve())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    say("Starting the demo")
    try:
        password = demo.prepare()
        demo.start_server()
        demo.start_worker()
        say()
        say(f"  Viewer    {demo.url}/")
        say(f"  Admin     {demo.url}/admin/dispatch/worker/")
        say(f"  Sign in   {USERNAME}  {password}")
        say()
        say("Open the viewer, choose the simulated patient, click AI analysis. Ctrl-C ends the demo.")
        demo.watch()
    except KeyboardInterrupt:
        say("\nEnding the demo")
        return 0
    except DemoFailed as error:
        say(f"The demo could not go on: {error}")
        return 1
    finally:
        demo.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
