"""The tests that touch the database or the channel layer once more, on PostgreSQL and on Redis.

They are written for the settings of one process; here they run again, unchanged, on those of several.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.services import postgres_server, redis_server
from tests.system.stack import ROOT

pytestmark = pytest.mark.system

RUN_SECONDS = 400
ON_POSTGRES_AND_REDIS = (
    *(f"tests/server/dispatch/test_{name}.py" for name in ("side_by_side", "sessions", "assigner", "socket", "epoch")),
    *("tests/server/jobs", "tests/server/topics/test_topics.py", "tests/server/imaging/test_tus.py"),
    "tests/frontend_bridge/test_consumer.py",
)
ON_THE_OTHER_LAYER = ("tests/frontend_bridge/test_consumer.py", "tests/server/topics/test_topics.py")


def run_again(*paths: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest on these paths, in a process of its own with other settings."""
    inherited = {name: value for name, value in os.environ.items() if name != "DATA_DIR"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *paths],
        cwd=ROOT,
        env={**inherited, **environment},
        text=True,
        capture_output=True,
        check=False,
        timeout=RUN_SECONDS,
    )


@pytest.mark.faults
def test_the_database_tests_pass_on_postgresql_with_redis_between_the_sockets(tmp_path: Path) -> None:
    with postgres_server(tmp_path / "postgres") as postgres, redis_server(tmp_path / "redis") as redis:
        done = run_again(*ON_POSTGRES_AND_REDIS, DATABASE_URL=postgres.url, REDIS_URL=redis.url)

    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.faults
def test_the_sockets_live_on_the_other_layer_of_redis_as_well(tmp_path: Path) -> None:
    """It has groups that run out, capacities and an order of its own; nothing may depend on which one is used."""
    with redis_server(tmp_path / "redis") as redis:
        done = run_again(*ON_THE_OTHER_LAYER, REDIS_URL=redis.url, TEST_LAYER="channels_redis.core.RedisChannelLayer")

    assert done.returncode == 0, done.stdout[-6000:]
