"""`make bench-queue`: a long queue against a short one, on SQLite and on PostgreSQL.

What one claim, one snapshot, one tick of the dispatcher, one click and the first page of the admin cost with 1,000,
10,000 and 100,000 jobs waiting: half of them one user's, the rest of 50 others, at three priorities. Each is done some
times and the median is printed, as CPU time of this process and as time on the wall (with the database's share).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import last_line
from tests.system.services import postgres_server

ROOT = Path(__file__).resolve().parents[1]
SIZES = (1_000, 10_000, 100_000)
ROUNDS = 15
CROWD = 50
ALONE_EVERY = 2
AT_ONCE = 2_000


def prepare() -> None:
    """Tables, users, one study, and a worker that is connected."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User

    User.objects.create_superuser("admin", password="of the benchmark")
    User.objects.bulk_create(User(username=f"user{number}") for number in range(CROWD))


def fill(total: int) -> None:
    """Queue jobs until there are `total`."""
    from datetime import timedelta

    from django.contrib.auth.models import User
    from django.utils import timezone

    from server.core.job import Route
    from server.core.scheduler import Demand
    from server.jobs.models import Job
    from server.jobs.rows import demand_word
    from tests.server.shelf import a_study, four_series

    users = list(User.objects.filter(username__startswith="user").order_by("pk"))
    study = a_study(users[0], uid=f"bench.{total}")
    series = four_series(study)
    word = demand_word(Demand(route=Route.LAB))
    began = timezone.now() - timedelta(hours=1)
    have = Job.objects.count()
    for start in range(have, total, AT_ONCE):
        Job.objects.bulk_create(
            Job(
                study=study,
                series=series[1],
                sequence_series_ids=[one.pk for one in series],
                requested_by=users[0] if number % ALONE_EVERY else users[number % CROWD],
                dedupe_key=f"{number:064}",
                rank=number % 3,
                route="lab",
                demand=word,
                waiting_reason="all_busy",
                created_at=began + timedelta(milliseconds=number),
                last_seq=1,
            )
            for number in range(start, min(total, start + AT_ONCE))
        )


def measured(act: Callable[[], object], *, between: Callable[[], object] = lambda: None) -> tuple[float, float]:
    """Median seconds of CPU and on the wall, over some rounds after one to warm up."""
    cpu, wall = [], []
    for number in range(ROUNDS + 1):
        cpu_before, wall_before = time.process_time(), time.perf_counter()
        act()
        if number:
            cpu.append(time.process_time() - cpu_before)
            wall.append(time.perf_counter() - wall_before)
        between()
    return statistics.median(cpu), statistics.median(wall)


def measure() -> None:
    """Fill and measure, in the process that has the database in its environment; prints lines of figures."""
    prepare()
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.utils import timezone

    from server.dispatch import assigner, housekeeping, survey
    from server.dispatch.models import WorkerSession
    from server.jobs import selectors
    from server.jobs.models import Job
    from tests.server.dispatch.scenes import a_worker

    a_worker(credits=1)
    browser = Client()
    browser.force_login(User.objects.get(username="admin"))

    def rest() -> None:
        """The worker is free again, and has been heard of."""
        Job.objects.filter(state="leased").update(state="failed", lease_until=None, finished_at=timezone.now())
        WorkerSession.objects.update(credits=1, lease_until=timezone.now() + timezone.timedelta(hours=1))

    def claim() -> None:
        assert assigner.assign_round().pokes

    def tick() -> None:
        housekeeping.expire()
        survey.look_around()

    def page() -> None:
        assert browser.get("/admin/jobs/job/", HTTP_HOST="localhost").status_code == 200

    for size in SIZES:
        fill(size)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        rest()
        last = Job.objects.filter(state="queued").order_by("-id")[0]
        acts: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "claim": (claim, rest),
            "snapshot": (lambda last=last: selectors.position_and_snapshot(last.pk), lambda: None),
            "tick": (tick, lambda: None),
            "admin": (page, lambda: None),
        }
        for name, (act, between) in acts.items():
            cpu, wall = measured(act, between=between)
            sys.stdout.write(f"{name} {size} {cpu} {wall}\n")
            sys.stdout.flush()


def run(name: str, **env: str) -> dict[tuple[str, int], tuple[float, float]]:
    """Measure in a process of its own, and print its table."""
    with tempfile.TemporaryDirectory() as folder:
        told = {"DATA_DIR": folder, "PUBLIC_URL": "http://localhost", "LOG_LEVEL": "ERROR", **env}
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.queue", "measure"],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "server.config.settings", **told},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for line in child.stdout.splitlines():
        act, size, cpu, wall = line.split()
        found[act, int(size)] = (float(cpu), float(wall))
    print(f"\n{name}: milliseconds of CPU here / on the wall, by the number of queued jobs")
    print("            " + "".join(f"{size:>18,}" for size in SIZES))
    for act in dict.fromkeys(act for act, _ in found):
        cells = (f"{found[act, size][0] * 1000:.1f} / {found[act, size][1] * 1000:.1f}" for size in SIZES)
        print(f"  {act:<10}" + "".join(f"{cell:>18}" for cell in cells))
    return found


def main() -> None:
    """Both databases; the last line has, for each act, its time with 100,000 as a multiple of that with 1,000."""
    figures: dict[str, str] = {}
    with postgres_server(options={"fsync": "on", "synchronous_commit": "on"}) as postgres:
        for name, env in (("sqlite", {"DATABASE_URL": ""}), ("postgresql", {"DATABASE_URL": postgres.url})):
            found = run(name, **env)
            for act in dict.fromkeys(act for act, _ in found):
                short, long = found[act, SIZES[0]][1], found[act, SIZES[-1]][1]
                figures[f"{name}_{act}"] = f"{long * 1000:.1f}ms"
                figures[f"{name}_{act}_growth"] = f"{long / short:.1f}x"
    last_line(**figures)


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["measure"] else main()
