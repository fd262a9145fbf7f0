"""Redis, PostgreSQL and nginx on 127.0.0.1, each on a free port and in a folder of its own: to be stopped and frozen.

None needs root. As root PostgreSQL, which refuses to run so, runs as the user `postgres` in a folder of its own.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import psycopg
import redis

from tests.system.stack import ROOT, StackFailed, free_port, wait_for
from tests.tools import require_tool

READY_SECONDS = 30.0
STOP_SECONDS = 15.0
POSTGRES_BINARIES = Path("/usr/lib/postgresql")
POSTGRES_USER = "postgres"
# Nothing here survives a power cut, and need not.
POSTGRES_OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
NGINX_TEMPLATE = ROOT / "deploy" / "nginx.conf"


S = TypeVar("S", bound="Service")


class Service:
    """One foreign program that can be ended, started again on the same port, and frozen."""

    def __init__(self, name: str, folder: Path, *, port: int | None = None) -> None:
        self.name = name
        self.folder = folder
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it answers before this returns."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.identity(),
            )
        wait_for(self._is_up, seconds=READY_SECONDS, what=f"answer from {self.name}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal and wait until it and its children are gone."""
        process, self.process = self.process, None
        if process is None:
            return
        family = _family(process.pid)
        if process.poll() is None:
            process.send_signal(self.signal_of(number))
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _, left = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for one in left:
            one.kill()

    def restart(self, number: int = signal.SIGTERM) -> None:
        """End it and start it again on the same port, with what it has stored."""
        self.stop(number)
        self.start()

    def freeze(self) -> None:
        """Stop it and its children in their tracks: connections stay open and nobody answers."""
        self._signal_everybody(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_everybody(signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen inside the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def log(self) -> str:
        """The end of what it said."""
        return (self.folder / f"{self.name}.log").read_text(errors="replace")[-4000:]

    def command(self) -> Sequence[str]:
        """How it is started."""
        raise NotImplementedError

    def identity(self) -> Mapping[str, Any]:
        """As whom it runs."""
        return {}

    def signal_of(self, number: int) -> int:
        """The signal to send when `number` is asked for."""
        return number

    def answers(self) -> bool:
        """Whether it can be used. May raise when it cannot."""
        raise NotImplementedError

    def _signal_everybody(self, number: int) -> None:
        if self.process is None:
            raise StackFailed(f"{self.name} does not run")
        for one in (psutil.Process(self.process.pid), *_family(self.process.pid)):
            with suppress(psutil.NoSuchProcess):
                one.send_signal(number)

    def _is_up(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise StackFailed(f"{self.name} ended: {self.log()}")
        try:
            return self.answers()
        except (OSError, psycopg.OperationalError, redis.RedisError, httpx.TransportError):
            return False


class Redis(Service):
    """A redis-server that keeps nothing on disk."""

    def __init__(self, folder: Path, *, port: int | None = None, options: Sequence[str] = ()) -> None:
        super().__init__("redis", folder, port=port)
        self.program = require_tool("redis-server", package="redis-server")
        self.options = tuple(options)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        return (self.program, *place, "--save", "", "--appendonly", "no", *self.options)

    def answers(self) -> bool:
        return bool(self.ask(lambda client: client.ping()))

    def flush(self) -> None:
        """Forget everything."""
        self.ask(lambda client: client.flushall())

    def ask(self, question: Callable[[redis.Redis], Any]) -> Any:
        """Answer of a question on a connection of its own."""
        with redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5) as client:
            return question(client)


class Postgres(Service):
    """A PostgreSQL cluster with one database `segwire`."""

    def __init__(self, folder: Path, *, port: int | None = None, options: Mapping[str, str] | None = None) -> None:
        super().__init__("postgres", folder, port=port)
        self.binaries = _postgres_binaries()
        self.options = {**POSTGRES_OPTIONS, **(options or {})}
        self.url = f"postgres://segwire@127.0.0.1:{self.port}/segwire"

    def create(self) -> None:
        """Make the cluster."""
        made = (self.binaries / "initdb", "-D", self.folder / "cluster", "-U", "segwire", "-E", "UTF8")
        done = subprocess.run(
            [*map(str, made), "--locale=C", "--auth=trust", "--no-sync", "--no-instructions"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self.identity(),
        )
        if done.returncode:
            raise StackFailed(f"initdb: {done.stderr[-2000:]}")

    def start(self) -> None:
        super().start()
        # Connecting to a database of a cluster that still recovers fails; `answers` has seen it ready.
        with self.connect("postgres") as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'segwire'").fetchone() is None:
                connection.execute("CREATE DATABASE segwire")

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            **self.options,
        }
        told = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return (str(self.binaries / "postgres"), "-D", str(self.folder / "cluster"), *told)

    def identity(self) -> Mapping[str, Any]:
        return {"user": POSTGRES_USER, "group": POSTGRES_USER, "extra_groups": []} if os.geteuid() == 0 else {}

    def signal_of(self, number: int) -> int:
        # SIGTERM would wait for every client; INT hangs up on them, and QUIT is as if it had crashed.
        return {signal.SIGTERM: signal.SIGINT, signal.SIGKILL: signal.SIGQUIT}.get(number, number)

    def answers(self) -> bool:
        with self.connect("postgres") as connection:
            return connection.execute("SELECT 1").fetchone() is not None

    def connect(self, database: str = "segwire") -> psycopg.Connection[Any]:
        """A connection that commits every statement; to be closed by the caller, or by `with`."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="segwire", dbname=database, autocommit=True, connect_timeout=5
        )

    def cut_connections(self) -> int:
        """Hang up on every client in the middle of whatever it does, and answer how many there were."""
        with self.connect("postgres") as connection:
            return len(
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                ).fetchall()
            )

    def count_connections(self) -> int:
        """How many clients are connected to `segwire`."""
        with self.connect("postgres") as connection:
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = 'segwire'").fetchone()
            return int(row[0]) if row else 0


class Nginx(Service):
    """nginx with the shipped configuration before servers on this machine."""

    def __init__(
        self, folder: Path, upstream_ports: Sequence[int], *, port: int | None = None, stored: Path | None = None
    ) -> None:
        super().__init__("nginx", folder, port=port)
        self.stored = stored or folder / "nothing"
        self.program = require_tool("nginx", package="nginx-light")
        self.upstream_ports = tuple(upstream_ports)
        self.url = f"http://127.0.0.1:{self.port}"

    def configure(self) -> None:
        """Write deploy/nginx.conf with this port and these servers, and a frame around it."""
        shipped = NGINX_TEMPLATE.read_text()
        lines = "".join(f"    server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;\n" for port in self.upstream_ports)
        shipped = re.sub(r"(    server 127\.0\.0\.1:\d+[^\n]*\n)+", lines, shipped, count=1)
        shipped = re.sub(
            r"^    listen 80;$", f"    listen 127.0.0.1:{self.port};", shipped, count=1, flags=re.MULTILINE
        )
        shipped = re.sub(r"alias [^;]+/series/;", f"alias {self.stored}/series/;", shipped, count=1)
        (self.folder / "segwire.conf").write_text(shipped)
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"    {kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        (self.folder / "nginx.conf").write_text(
            f"{user}\nworker_processes 1;\npid {self.folder}/nginx.pid;\nerror_log stderr warn;\ndaemon off;\n"
            f"events {{ worker_connections 8192; }}\nworker_rlimit_nofile 20000;\n"
            f"http {{\n{temporary}\n    access_log off;\n    include {self.folder}/segwire.conf;\n}}\n"
        )

    def command(self) -> Sequence[str]:
        return (self.program, "-p", str(self.folder), "-c", str(self.folder / "nginx.conf"), "-e", "stderr")

    def answers(self) -> bool:
        return httpx.get(self.url, timeout=5).status_code > 0


@contextmanager
def redis_server(folder: Path, *, options: Sequence[str] = ()) -> Iterator[Redis]:
    """A Redis; `options` go to its command line."""
    folder.mkdir(parents=True, exist_ok=True)
    with kept_running(Redis(folder, options=options)) as service:
        yield service


@contextmanager
def postgres_server(folder: Path | None = None, *, options: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """A PostgreSQL; `options` are its settings, for instance `{"fsync": "on"}`.

    As root its files lie in a folder under the system's temporary one, since `postgres` may not enter pytest's.
    """
    with _folder_for_postgres(folder) as own:
        service = Postgres(own, options=options)
        service.create()
        with kept_running(service) as running:
            yield running


@contextmanager
def nginx(
    folder: Path, upstream_ports: Sequence[int], *, port: int | None = None, stored: Path | None = None
) -> Iterator[Nginx]:
    """The shipped configuration before servers on these ports of 127.0.0.1; they need not run yet.

    `stored` is their DATA_DIR, for ACCEL_LOCATION=/stored/.
    """
    folder.mkdir(parents=True, exist_ok=True)
    service = Nginx(folder, upstream_ports, port=port, stored=stored)
    service.configure()
    with kept_running(service) as running:
        yield running


@contextmanager
def kept_running(service: S) -> Iterator[S]:
    """Started, and ended however the block ends."""
    service.start()
    try:
        yield service
    finally:
        if service.process is not None and service.process.poll() is None:
            service.thaw()
        service.stop()


@contextmanager
def _folder_for_postgres(folder: Path | None) -> Iterator[Path]:
    if os.geteuid() != 0 and folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    own = Path(tempfile.mkdtemp(prefix="segwire-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(own, POSTGRES_USER, POSTGRES_USER)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _postgres_binaries() -> Path:
    """The newest installed version's folder; Debian keeps them off the PATH."""
    found = sorted(POSTGRES_BINARIES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else Path(require_tool("postgres", package="postgresql")).parent


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
