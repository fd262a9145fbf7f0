"""The sandbox against real child processes that crash, freeze, chatter and refuse to stop."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from inference.contract import InputFile, Order, Preview, Progress, Stage
from inference.errors import Cancelled, ChildDied, ChildSilent, InferenceError, InputInvalid, ModelMissing
from inference.isolate import Sandbox
from inference.volume import pack, unpack
from tests.inference import heads


class OddSandbox(Sandbox):
    """A sandbox whose child is of the given kind."""

    def __init__(self, kind: str, *, home: Path, **limits: float) -> None:
        super().__init__(device="cpu", home=home, **limits)
        self.kind = kind

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.inference.odd_child", self.kind]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Callable[..., OddSandbox]]:
    """Makes sandboxes, and closes them after the test."""
    made: list[OddSandbox] = []

    def make(kind: str, **limits: float) -> OddSandbox:
        made.append(OddSandbox(kind, home=tmp_path / "home", **limits))
        return made[-1]

    yield make
    for each in made:
        each.close()


def order_in(folder: Path) -> Order:
    """A small head, packed for the child."""
    grid = heads.grid()
    volumes = heads.head(grid)
    inputs = []
    for role, volume in volumes.items():
        path = folder / f"{role}.zst"
        inputs.append(InputFile(role=role, path=path, packed=pack(volume, path)))
    return Order(id="order-1", inputs=tuple(inputs), grid=grid, model=None, output=folder / "mask.zst")


def cancelled_soon(sandbox: Sandbox, *, grace_seconds: float) -> Callable[[Progress | Preview], None]:
    """A listener that has the order cancelled from another thread at the first news."""
    asked: list[threading.Thread] = []

    def listen(_news: Progress | Preview) -> None:
        if not asked:
            asked.append(threading.Thread(target=sandbox.cancel, args=(grace_seconds,)))
            asked[0].start()

    return listen


def test_an_order_goes_through_files_and_comes_back_as_a_mask(sandbox, tmp_path):
    order, news = order_in(tmp_path), []

    outcome = sandbox("obedient").segment(order, news.append)

    mask = unpack(order.output, outcome.mask)
    assert heads.dice(mask.voxels > 0, heads.ball(order.grid)) > 0.9
    assert mask.grid.is_close_to(order.grid)
    assert {item.stage for item in news if isinstance(item, Progress)} >= {Stage.PREPROCESS, Stage.INFERENCE}
    assert any(isinstance(item, Preview) and item.labels.any() for item in news)


def test_the_child_stays_warm_for_the_next_order(sandbox, tmp_path):
    box, order = sandbox("obedient"), order_in(tmp_path)
    box.segment(order, lambda _: None)
    first = box.pid

    box.segment(order, lambda _: None)

    assert box.pid == first
    assert box.device == "cpu"


def test_what_a_library_prints_does_not_reach_the_parent(sandbox, tmp_path):
    """A progress bar on stdout once corrupted the stream of answers."""
    order = order_in(tmp_path)

    outcome = sandbox("chatty").segment(order, lambda _: None)

    assert outcome.mask.dtype == "uint8"


@pytest.mark.parametrize(("kind", "status"), [("crash", -11), ("exit", 7)])
def test_a_crash_is_known_at_once(sandbox, tmp_path, kind, status):
    box, order = sandbox(kind), order_in(tmp_path)
    box.start()
    began = time.monotonic()

    with pytest.raises(ChildDied) as caught:
        box.segment(order, lambda _: None)

    assert caught.value.exit_code == status
    assert time.monotonic() - began < 5.0
    assert not box.alive


def test_after_a_crash_the_next_order_gets_a_new_child(sandbox, tmp_path):
    box, order = sandbox("crash"), order_in(tmp_path)
    with pytest.raises(ChildDied):
        box.segment(order, lambda _: None)
    box.kind = "obedient"

    outcome = box.segment(order, lambda _: None)

    assert outcome.volumes_ml


def test_a_frozen_child_is_killed(sandbox, tmp_path):
    box, order = sandbox("frozen", silence_seconds=2.0), order_in(tmp_path)

    with pytest.raises(ChildSilent):
        box.segment(order, lambda _: None)

    assert not box.alive


def test_a_child_that_lives_but_does_not_advance_is_killed(sandbox, tmp_path):
    box, order = sandbox("deaf", stall_seconds=1.0), order_in(tmp_path)

    with pytest.raises(ChildSilent):
        box.segment(order, lambda _: None)

    assert not box.alive


def test_a_child_that_talks_nonsense_is_killed(sandbox, tmp_path):
    box, order = sandbox("garbled"), order_in(tmp_path)

    with pytest.raises(ChildDied):
        box.segment(order, lambda _: None)

    assert not box.alive


def test_cancelling_is_obeyed_and_keeps_the_child_warm(sandbox, tmp_path):
    box, order = sandbox("slow"), order_in(tmp_path)

    with pytest.raises(Cancelled):
        box.segment(order, cancelled_soon(box, grace_seconds=20.0))

    assert box.alive


def test_a_child_that_does_not_obey_is_killed_after_the_grace(sandbox, tmp_path):
    box, order = sandbox("deaf"), order_in(tmp_path)

    with pytest.raises(Cancelled):
        box.segment(order, cancelled_soon(box, grace_seconds=0.2))

    assert not box.alive


def test_cancelling_nothing_is_nothing(sandbox):
    box = sandbox("slow")

    box.cancel(0.1)

    assert not box.alive


def test_a_listener_that_fails_does_not_leave_a_busy_child(sandbox, tmp_path):
    box, order = sandbox("slow"), order_in(tmp_path)

    def fail(_news: Progress | Preview) -> None:
        raise RuntimeError("the worker's own mistake")

    with pytest.raises(RuntimeError, match="own mistake"):
        box.segment(order, fail)

    assert not box.alive


def test_bad_input_is_named_and_costs_no_child(sandbox, tmp_path):
    box, order = sandbox("obedient"), order_in(tmp_path)
    (tmp_path / "T2.zst").write_bytes(b"x" * order.inputs[2].packed.size)

    with pytest.raises(InputInvalid) as caught:
        box.segment(order, lambda _: None)

    assert caught.value.code == "corrupt"
    assert str(caught.value).startswith("T2: ")
    assert box.alive


def test_what_nobody_foresaw_is_told_without_its_words(sandbox, tmp_path):
    """Exception texts may hold names of files and patients; they stay in the child's own log."""
    box, order = sandbox("broken"), order_in(tmp_path)

    with pytest.raises(InferenceError) as caught:
        box.segment(order, lambda _: None)

    assert caught.value.code == "internal"
    assert "patient" not in str(caught.value)


def test_a_missing_model_is_told_at_the_start(sandbox):
    box = sandbox("unready")

    with pytest.raises(ModelMissing, match="moonlight"):
        box.start()

    assert not box.alive


def test_the_child_is_kept_off_the_network(sandbox, tmp_path):
    box, order = sandbox("curious"), order_in(tmp_path)

    with pytest.raises(InferenceError) as caught:
        box.segment(order, lambda _: None)

    assert caught.value.code == "internal"


def test_the_child_inherits_neither_descriptors_nor_secrets(sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "hush")
    with Path(os.devnull).open() as held:
        os.set_inheritable(held.fileno(), True)
        box = sandbox("slow")
        box.start()

        child = psutil.Process(box.pid)

        assert "SECRET_KEY" not in child.environ()
        assert child.num_fds() <= 8
        assert child.net_connections() == []


def test_the_child_leaves_when_its_parent_dies(tmp_path):
    """A worker killed by the system must not leave a process behind that holds the GPU."""
    order_in(tmp_path)
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
    )
    child = psutil.Process(int(parent.stdout.readline()))

    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert psutil.wait_procs([child], timeout=10.0)[0] == [child]


_PARENT = """
from pathlib import Path
from tests.inference.test_isolate import OddSandbox
box = OddSandbox("slow", home=Path("."))
box.start()
print(box.pid, flush=True)
input()
"""


def test_closing_ends_the_child(sandbox):
    box = sandbox("slow")
    box.start()
    child = psutil.Process(box.pid)

    box.close()

    assert not child.is_running()
    assert not box.alive


def test_a_parent_that_stood_still_does_not_take_a_full_pipe_for_silence(sandbox, monkeypatch):
    """After a stop of the worker the wait had run out, although the child had spoken every second."""
    box = sandbox("slow")
    box.start()
    child = box._child
    assert child is not None

    class WokenUp:
        """The first wait is over at once, as after a stop; the words of the child come a moment later."""

        waits = 0

        def put(self, line: bytes) -> None:
            """What the child says meanwhile."""

        def get(self, timeout: float) -> bytes:
            self.waits += 1
            if self.waits == 1:
                raise queue.Empty
            return b'{"t":"alive"}\n'

    monkeypatch.setattr(child, "_said", WokenUp())

    assert child._next_line(14.0) is not None
    assert box.alive
