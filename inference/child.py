"""The analysis process: it loads the model once, then does one order after another until its parent goes away.

It is started by `inference.isolate`, speaks `inference.pipe` on its standard input and output, and trusts neither
the scans it reads nor itself to survive them.

Flow: 6 run
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import gc
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from inference.contract import Order, Outcome, Scans, Sequence, Volume
from inference.errors import Cancelled, DeviceUnavailable, DiskFailed, InferenceError, InputInvalid
from inference.pipe import (
    MAX_LINE_BYTES,
    Alive,
    Begin,
    Done,
    Failed,
    FromChild,
    Ready,
    failed,
    line_of,
    order_of,
    read_to_child,
    telling,
)
from inference.watch import Watch

if TYPE_CHECKING:
    from inference.models.registry import LoadedModel, Registry

logger = logging.getLogger(__name__)

ALIVE_SECONDS = 1.0
NICENESS = 5
"""Below the web process and the worker's link, which share this machine and must answer in milliseconds."""

_LOST_PARENT = 3
_DISK_FAILURES = frozenset({errno.ENOSPC, errno.EIO, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)})
_WARM_UP_EDGES = (32, 32, 32)


class Work(Protocol):
    """What the process does with an order. Tests bring work of their own."""

    device: str

    def do(self, order: Order, watch: Watch) -> Outcome:
        """Raises InferenceError."""


class Analyst:
    """The real work: a registry, a device, and the models loaded so far, at most one of them kept."""

    def __init__(self, *, device: str, models_folder: Path | None) -> None:
        from inference.models.registry import Registry

        self.device = usable_device(device)
        self._registry: Registry = Registry(models_folder)
        self._model: LoadedModel = self._registry.load(self._registry.find(None), device=self.device)
        _warm_up(self._model)

    def do(self, order: Order, watch: Watch) -> Outcome:
        """Files in, file out. Raises InferenceError."""
        from inference.pipeline import segment
        from inference.volume import pack_mask

        model = self._loaded(order)
        found = segment(Scans(volumes=read_inputs(order), grid=order.grid), model=model, watch=watch)
        return Outcome(
            mask=pack_mask(found.labels, order.output, affine=found.grid.affine),
            model=found.model,
            volumes_ml=found.volumes_ml,
            stage_seconds=found.stage_seconds,
            warnings=found.warnings,
            alignment=found.alignment,
            brain=found.brain,
        )

    def _loaded(self, order: Order) -> LoadedModel:
        wanted = order.model
        if wanted is not None:
            entry = self._registry.find(wanted.name, version=wanted.version, sha256=wanted.sha256)
        else:
            entry = self._registry.default_for([item.role for item in order.inputs])
        if self._model.entry != entry:
            self._model = self._registry.load(entry, device=self.device)
        return self._model


def usable_device(wanted: str) -> str:
    """`auto` becomes the first GPU or `cpu`. Raises DeviceUnavailable if the device asked for is not there."""
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda"):
        index = int(wanted.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise DeviceUnavailable(f"This machine has no device {wanted}.")
    return wanted


def serve(make_work: Callable[[], Work], *, source: IO[bytes], target: IO[bytes]) -> int:
    """Answer the parent until it goes away; returns the exit status. Raises nothing: failures are answers."""
    inbox, say = _Inbox(source), _Voice(target)
    threading.Thread(target=_keep_saying_alive, args=(say,), name="alive", daemon=True).start()
    inbox.start()
    try:
        work = make_work()
    except InferenceError as error:
        say(failed(error))
        return 1
    say(Ready(device=work.device))
    while True:
        order = inbox.next_order()
        answer = _answer(work, order, Watch(lambda news: say(telling(news)), is_cancelled=inbox.is_stopped))
        if isinstance(answer, Failed):
            give_memory_back()
        say(answer)
        # After something unforeseen, or when memory ran out, a new process is the only clean one.
        if isinstance(answer, Failed) and answer.family in ("internal", "oom") and answer.code != Cancelled.code:
            return 1


def _answer(work: Work, order: Order, watch: Watch) -> Done | Failed:
    try:
        return Done(outcome=work.do(order, watch))
    except InferenceError as error:
        return failed(error)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_FAILURES:
            return Failed(
                family="internal", code=DiskFailed.code, sentence=f"The machine's disk failed ({error.strerror})."
            )
        logger.exception("analysis failed")
        return Failed(family="internal", code="internal", sentence="The analysis failed for an unforeseen reason.")


def give_memory_back() -> None:
    """Let the system have what an order that ended early took; the model stays warm.

    A finished order's memory is kept: the next one needs it at once, and faulting it in again costs seconds.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # a C library without it frees by itself
            ctypes.CDLL(None).malloc_trim(0)


class _Inbox(threading.Thread):
    """Reads what the parent says while the analysis runs, and ends the process when the parent is gone."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__(name="inbox", daemon=True)
        self._source = source
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._stopped: set[str] = set()
        self._current = ""

    def run(self) -> None:
        while line := self._source.readline(MAX_LINE_BYTES):
            message = read_to_child(line)
            if isinstance(message, Begin):
                self._orders.put(order_of(message))
            else:
                self._stopped.add(message.id)
        # The main thread may be deep inside a convolution; nobody is left who wants its result.
        os._exit(_LOST_PARENT)

    def next_order(self) -> Order:
        order = self._orders.get()
        self._current = order.id
        return order

    def is_stopped(self) -> bool:
        return self._current in self._stopped


class _Voice:
    """Says one line at a time, from any thread."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._lock = threading.Lock()

    def __call__(self, message: FromChild) -> None:
        with self._lock:
            try:
                self._target.write(line_of(message))
                self._target.flush()
            except BrokenPipeError:
                os._exit(_LOST_PARENT)


def _keep_saying_alive(say: _Voice) -> None:
    never = threading.Event()
    while not never.wait(ALIVE_SECONDS):
        say(Alive())


def read_inputs(order: Order) -> dict[Sequence, Volume]:
    """The order's scans, by sequence. Raises InputInvalid naming the sequence."""
    from inference.volume import unpack

    volumes = {}
    for given in order.inputs:
        try:
            volumes[given.role] = unpack(given.path, given.packed)
        except InputInvalid as error:
            raise error.about(str(given.role)) from error
    return volumes


def _warm_up(model: LoadedModel) -> None:
    """One small pass: the first run of a network costs a second on a CPU, which no doctor should wait for.

    A network too deep for so small a piece is left cold.
    """
    import torch

    with torch.inference_mode(), suppress(RuntimeError, ValueError):
        model.network(torch.zeros(1, len(model.entry.sequences), *_WARM_UP_EDGES, device=model.device))


@contextmanager
def private_streams() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The pipes to the parent, out of reach of any library that prints: its output goes to standard error."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with source, target:
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        yield source, target


def settle() -> None:
    """Make this process a good neighbour: lower priority, no Ctrl-C of its own, no core files, no network."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse_network)


def _refuse_network(event: str, _arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"):
        raise PermissionError("The analysis has no business on the network.")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `python -m inference.child`, which only `inference.isolate` calls."""
    parser = argparse.ArgumentParser(prog="inference.child")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models-folder", type=Path, default=None)
    options = parser.parse_args(arguments)
    settle()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    with private_streams() as (source, target):
        return serve(
            lambda: Analyst(device=options.device, models_folder=options.models_folder), source=source, target=target
        )


if __name__ == "__main__":
    sys.exit(main())
