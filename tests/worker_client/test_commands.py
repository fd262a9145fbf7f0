"""enrol, run and doctor, as the person at the lab PC meets them."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.worker_client.desk import a_desk, enrolled
from tests.worker_client.fakes import fake_server
from worker_client import enrol
from worker_client.cli import Stopping, main
from worker_client.compose import make_box, profile_of
from worker_client.config import WorkerConfig, check_device, check_labels
from worker_client.home import Home
from worker_client.protocol import messages as wire
from worker_client.protocol.identity import enrol_text
from worker_client.telemetry import Device, Meter

# ── enrol ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_enrolling_makes_a_key_proves_it_and_keeps_both(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("sege_secret\n"))

    with a_desk() as desk:
        code = main(["enrol", "--server", desk.url, "--name", "lab", "--token-stdin", "--home", str(tmp_path / "w")])

    (sent,) = desk.seen
    identity = Home(tmp_path / "w").identity()
    text = enrol_text(token="sege_secret", name="lab", public_key=sent["public_key"])
    Ed25519PublicKey.from_public_bytes(base64.b64decode(sent["public_key"])).verify(
        base64.b64decode(sent["proof"]), text
    )
    assert code == 0
    assert (identity.worker_id, identity.server, identity.epoch) == ("w-9", desk.url, "e-1")
    assert "sege_secret" not in capsys.readouterr().out


def test_the_address_that_is_kept_is_the_one_the_person_gave(tmp_path):
    """A server that says another name must not be able to move the signature to that name."""
    with a_desk() as desk:
        enrol.enrol(Home(tmp_path / "w"), server=desk.url, name="lab", token="t", ca_file=None)

    assert Home(tmp_path / "w").identity().server == desk.url


def test_a_refused_token_says_why_and_keeps_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("sege_old\n"))
    with a_desk() as desk:
        desk.status = 403
        code = main(["enrol", "--server", desk.url, "--name", "lab", "--token-stdin", "--home", str(tmp_path / "w")])

    assert code == 2
    assert "The token was used." in capsys.readouterr().err
    assert not (tmp_path / "w" / "worker.key").exists()


def test_a_failed_enrolment_leaves_the_old_identity(tmp_path, monkeypatch):
    before = enrolled(tmp_path / "w", "http://127.0.0.1:1").identity()
    monkeypatch.setattr(sys, "stdin", io.StringIO("sege_new\n"))
    with a_desk() as desk:
        desk.status = 403
        main(["enrol", "--server", desk.url, "--name", "lab", "--token-stdin", "--home", str(tmp_path / "w")])

    assert Home(tmp_path / "w").identity().sign(b"x") == before.sign(b"x")


def test_a_lost_answer_is_asked_for_again_with_the_same_key(tmp_path, monkeypatch):
    """The token is used up by then; the server knows the repetition by its key."""
    real, calls = enrol.http_client, []

    def flaky(server, *, ca_file):
        client = real(server, ca_file=ca_file)
        post = client.post

        def once_lost(*arguments, **options):
            response = post(*arguments, **options)
            calls.append(1)
            if len(calls) == 1:
                raise enrol.httpx.ReadError("connection reset")
            return response

        client.post = once_lost
        return client

    monkeypatch.setattr(enrol, "http_client", flaky)
    with a_desk() as desk:
        worker_id = enrol.enrol(Home(tmp_path / "w"), server=desk.url, name="lab", token="t", ca_file=None)

    assert worker_id == "w-9"
    assert desk.seen[0] == desk.seen[1]


def test_a_token_is_never_taken_from_the_command_line(capsys):
    with pytest.raises(SystemExit):
        main(["enrol", "--server", "https://a.example", "--name", "lab", "--token", "sege_x"])

    assert "required: --token-stdin" in capsys.readouterr().err


def test_no_token_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))

    assert main(["enrol", "--server", "https://a.example", "--name", "lab", "--token-stdin"]) == 2
    assert "no token" in capsys.readouterr().err


# ── run ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("words", [[], ["run"]])
def test_a_worker_that_was_never_enrolled_says_how_to(tmp_path, capsys, words):
    assert main([*words, "--home", str(tmp_path / "none")]) == 2
    assert "enrol --server URL" in capsys.readouterr().err


def test_a_wrong_device_is_one_sentence(tmp_path, capsys):
    assert main(["run", "--home", str(tmp_path), "--device", "tpu"]) == 2
    assert "--device is 'tpu'" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices_that_can_be_named(device):
    assert check_device(device) == device


def test_a_second_worker_from_the_same_folder_is_told_so(tmp_path, capsys):
    home = enrolled(tmp_path / "w", "http://127.0.0.1:1")

    with home.locked():
        code = main(["run", "--home", str(home.path)])

    assert code == 3
    assert "Another worker" in capsys.readouterr().err


async def test_the_program_connects_drains_on_sigterm_and_ends_with_zero(tmp_path):
    async with fake_server() as server:
        home = enrolled(tmp_path / "w", f"http://127.0.0.1:{server.port}")
        program = [sys.executable, "-m", "worker_client", "run", "--home", str(home.path), "--device", "cpu"]
        process = await asyncio.create_subprocess_exec(*program, stderr=asyncio.subprocess.PIPE)
        try:
            caller = await server.caller(seconds=20)
            hello = await caller.welcome()
            ready = await caller.hear(wire.Ready)
            process.send_signal(signal.SIGTERM)
            bye = await caller.hear(wire.Bye)
        finally:
            async with asyncio.timeout(20):
                _, errors = await process.communicate()

    assert (hello.worker_id, ready.draining) == ("w1", False)
    assert hello.caps.models
    assert hello.software.python.startswith("3.")
    assert bye.reason == "the worker shuts down"
    assert process.returncode == 0, errors


def test_the_second_signal_ends_at_once():
    heard = []

    def exit_at_once(code: int) -> None:
        heard.append(code)
        raise SystemExit(code)

    stopping = Stopping(drain=lambda: heard.append("drain"), exit_at_once=exit_at_once)

    stopping()
    with pytest.raises(SystemExit):
        stopping()

    assert heard == ["drain", 130]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--slots", "0"], "--slots is 0"),
        (["--slots", "65"], "1 to 64"),
        (["--label", "Big GPU"], "--label is 'Big GPU'"),
        (["--fallback-after", "-1"], "--fallback-after is -1"),
        (["--cache-gb", "nan"], "--cache-gb is nan"),
        (["--rotate-after", "-2"], "--rotate-after is -2"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path, capsys, words, complaint):
    assert main(["run", "--home", str(tmp_path), *words]) == 2
    assert complaint in capsys.readouterr().err


def test_labels_count_once_and_slots_share_the_cores(tmp_path):
    config = WorkerConfig(home=tmp_path, slots=2, labels=check_labels(["gpu-24gb", "site.a", "gpu-24gb"]))

    box = make_box(config, home=Home(tmp_path))

    assert config.labels == ("gpu-24gb", "site.a")
    assert box._threads == max(1, (os.cpu_count() or 1) // 2)
    assert box._silence_seconds == 14.0


def test_hello_names_what_each_model_needs(tmp_path):
    config = WorkerConfig(home=tmp_path, labels=("site.a",))
    identity = enrolled(tmp_path / "w", "http://127.0.0.1:1").identity()

    profile = profile_of(identity, config=config, device=Device("cpu", "CPU"), meter=Meter())

    assert profile.caps.labels == ("site.a",)
    assert all(model.memory_mb > 0 for model in profile.caps.models)
