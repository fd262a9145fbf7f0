"""`make scale-demo` comes up, computes, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from tests.system.faults.patients import make_patient
from tests.system.stack import ROOT, click, ended, free_port, upload, wait_for
from tests.tools import require_tool

pytestmark = pytest.mark.system

START_SECONDS = 240
END_SECONDS = 60


def signed_in(url: str, *, username: str, password: str) -> httpx.Client:
    """A browser with a session, as a person signs in."""
    client = httpx.Client(base_url=url, timeout=30, headers={"Origin": url})
    page = client.get("/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token is not None
    form = {"username": username, "password": password, "csrfmiddlewaretoken": token.group(1)}
    assert client.post("/login/", data=form).status_code == 302
    client.headers["X-CSRFToken"] = next(one.value for one in client.cookies.jar if "csrf" in one.name.lower()) or ""
    return client


@pytest.mark.faults
def test_it_comes_up_finishes_a_job_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    require_tool("redis-server", package="redis-server")
    port, log = free_port(), tmp_path / "demo.log"
    with log.open("wb") as out:
        demo = subprocess.Popen(
            [sys.executable, "-u", "tools/scale_demo.py", "--port", str(port), "--no-patient"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_for(lambda: "Sign in" in log.read_text() or demo.poll() is not None, seconds=START_SECONDS, what="demo")
        family = psutil.Process(demo.pid).children(recursive=True)
        words = re.search(r"Sign in   (\S+)  (\S+)", log.read_text())
        assert words is not None, log.read_text()[-3000:]
        with closing(signed_in(f"http://127.0.0.1:{port}", username=words[1], password=words[2])) as client:
            study = upload(client, make_patient(tmp_path / "patient", seed=7))
            done = ended(client, click(client, study).raise_for_status().json()["id"])
    finally:
        demo.send_signal(signal.SIGINT)
        code = demo.wait(END_SECONDS)
    _, left = psutil.wait_procs(family, timeout=10)

    assert done["state"] == "succeeded"
    assert (code, left) == (0, [])
