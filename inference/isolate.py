"""The analysis in a process of its own: it can be killed, may crash, and never blocks or takes down who asked.

The child is a fresh interpreter (never a fork: the caller has threads and sockets), inherits no descriptor but
its two pipes and no variable that is not on a list, keeps its model warm between orders, and leaves when the
caller dies.

Flow: 6 run
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

import inference
from inference.contract import Order, Outcome, Preview, Progress
from inference.errors import Cancelled, ChildDied, ChildSilent
from inference.pipe import (
    MAX_LINE_BYTES,
    Alive,
    Done,
    Failed,
    FromChild,
    Moved,
    Ready,
    Shown,
    Stop,
    ToChild,
    begin,
    error_of,
    line_of,
    news_of,
    read_from_child,
)

logger = logging.getLogger(__name__)

START_SECONDS = 300.0
"""Importing torch from a cold network disk can take minutes, and holds the interpreter's lock meanwhile."""
SILENCE_SECONDS = 30.0
"""The child says it is alive once a second."""
STALL_SECONDS = 300.0
"""Alive but without any progress: even one layer on one slow core is done by then."""
LEAVE_SECONDS = 5.0
LISTEN_SECONDS = 1.0

# What a compute process needs to find its libraries and its GPU. Keys, tokens and addresses stay behind.
_PASSED_ON = ("PATH", "HOME", "USERPROFILE", "LANG", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV")
_PASSED_ON_PREFIXES = ("LC_", "LD_LIBRARY", "DYLD_", "CUDA_", "NVIDIA_", "XDG_", "PYTORCH_", "OMP_", "KMP_", "GOMP_")

# glibc gives large blocks back to the system and faults them in again at every layer. Kept, a window of
# 160 x 192 x 160 takes 0.5 instead of 2.1 s of system time beside 5.5 s of computing.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class Sandbox:
    """One child process with a warm model, seen from the side of the caller.

    The methods block; `cancel` may be called from another thread than the one in `segment`. One order at a time.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        models_folder: Path | None = None,
        home: Path | None = None,
        threads: int | None = None,
        silence_seconds: float = SILENCE_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._device = device
        self._models_folder = models_folder
        self._home = home
        self._threads = threads
        self._silence_seconds = silence_seconds
        self._stall_seconds = stall_seconds
        self._child: _Child | None = None
        self._turn = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._stopping = threading.Event()
        self._order_id = ""

    @property
    def alive(self) -> bool:
        """Whether the child is there. Also false before `start`."""
        return self._child is not None and self._child.is_running

    @property
    def pid(self) -> int | None:
        """Process id of the child, for telemetry; None if there is none."""
        return self._child.pid if self._child is not None and self._child.is_running else None

    @property
    def device(self) -> str:
        """What the child computes on: `cpu` or `cuda:N` once it has started, before that what was asked for."""
        return self._device

    def start(self) -> None:
        """Start the child and wait until its model is warm; nothing if it is. Raises InferenceError, ChildDied."""
        with self._turn:
            self._ensure_child()

    def segment(self, order: Order, on_news: Callable[[Progress | Preview], None]) -> Outcome:
        """Do one order; `on_news` is called in this thread. Starts the child if there is none.

        Raises InputInvalid, ModelError, OutOfMemory, DeviceUnavailable, ChildDied, ChildSilent, Cancelled.
        """
        with self._turn:
            self._stopping.clear()
            self._order_id = order.id
            self._idle.clear()
            try:
                child = self._ensure_child()
                self._check_stopping()
                child.say(begin(order))
                return self._follow(child, on_news)
            except ChildDied as error:
                self._check_stopping(cause=error)
                raise
            finally:
                self._idle.set()

    def cancel(self, grace_seconds: float = 2.0) -> None:
        """Stop the order that runs now: ask, and kill the child if it has not ended within `grace_seconds`.

        Returns when the order has ended; nothing happens if none runs. `segment` then raises Cancelled.
        """
        if self._idle.is_set():
            return
        self._stopping.set()
        child = self._child
        if child is not None:
            child.say(Stop(id=self._order_id))
        if not self._idle.wait(grace_seconds):
            if child := self._child:
                child.kill()
            self._idle.wait(LEAVE_SECONDS)

    def close(self) -> None:
        """End the child, whatever it does. The sandbox may be started again."""
        child, self._child = self._child, None
        if child is not None:
            child.leave()

    def command(self) -> list[str]:
        """How the child is started."""
        folder = ["--models-folder", str(self._models_folder)] if self._models_folder else []
        return [sys.executable, "-m", "inference.child", "--device", self._device, *folder]

    def _ensure_child(self) -> _Child:
        if self._child is not None and self._child.is_running:
            return self._child
        if self._home is not None:
            self._home.mkdir(parents=True, exist_ok=True)
        child = self._child = _Child(self.command(), env=_environment(self._threads), folder=self._home)
        first = child.listen(START_SECONDS)
        while isinstance(first, Alive):
            first = child.listen(START_SECONDS)
        if isinstance(first, Failed):
            child.leave()
            raise error_of(first)
        if not isinstance(first, Ready):
            child.kill()
            raise ChildDied("The analysis process said something else than that it is ready.")
        self._device = first.device
        return child

    def _follow(self, child: _Child, on_news: Callable[[Progress | Preview], None]) -> Outcome:
        answer: Done | Failed | None = None
        try:
            answer = self._answer(child, on_news)
        finally:
            # Whatever went wrong here, a child that may still compute must not be taken for an idle one.
            if answer is None:
                child.kill()
        if isinstance(answer, Failed):
            raise error_of(answer)
        return answer.outcome

    def _answer(self, child: _Child, on_news: Callable[[Progress | Preview], None]) -> Done | Failed:
        moved_at = time.monotonic()
        while True:
            message = child.listen(self._silence_seconds)
            if isinstance(message, Done | Failed):
                return message
            if isinstance(message, Moved | Shown):
                moved_at = time.monotonic()
                on_news(news_of(message))
            elif time.monotonic() - moved_at > self._stall_seconds:
                raise ChildSilent("The analysis did not get any further and was stopped.")

    def _check_stopping(self, cause: BaseException | None = None) -> None:
        if self._stopping.is_set():
            raise Cancelled from cause


class _Child:
    """The process and its pipes. One thread reads what it says, one what it complains about."""

    def __init__(self, command: list[str], *, env: dict[str, str], folder: Path | None) -> None:
        # Popen closes every other descriptor; with no shell, the command is exactly these words.
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, cwd=folder
        )
        self._said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._complaints: deque[str] = deque(maxlen=40)
        self._threads = [
            threading.Thread(target=self._read_lines, name="child-says", daemon=True),
            threading.Thread(target=self._read_complaints, name="child-complains", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def say(self, message: ToChild) -> None:
        """A child that is gone is noticed by whoever listens, at once."""
        stdin = _pipe(self._process.stdin)
        try:
            stdin.write(line_of(message))
            stdin.flush()
        except (BrokenPipeError, ValueError):
            logger.debug("child is gone", extra={"pid": self.pid})

    def listen(self, seconds: float) -> FromChild:
        """The next thing the child says. Raises ChildSilent (and kills it) after `seconds`, ChildDied at its end."""
        line = self._next_line(seconds)
        if line is None:
            self.kill()
            raise ChildSilent(f"The analysis gave no sign of life for {seconds:g} s and was stopped.")
        if not line:
            raise self._death()
        try:
            return read_from_child(line)
        except msgspec.DecodeError as error:
            self.kill()
            raise ChildDied("The analysis process said something nobody understands, and was stopped.") from error

    def _next_line(self, seconds: float) -> bytes | None:
        """Silence counts only while somebody listens: a parent that stood still wakes up to a full pipe."""
        while seconds > 0.0:
            turn = min(seconds, LISTEN_SECONDS)
            with suppress(queue.Empty):
                return self._said.get(timeout=turn)
            seconds -= turn
        return None

    def kill(self) -> None:
        self._process.kill()
        self._bury(LEAVE_SECONDS)

    def leave(self) -> None:
        """Close its input, which tells it to go, and kill it if it does not."""
        _close(self._process.stdin)
        try:
            self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._bury(LEAVE_SECONDS)

    def _bury(self, seconds: float) -> None:
        self._process.wait(seconds)
        for thread in self._threads:
            thread.join(seconds)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _close(pipe)

    def _death(self) -> ChildDied:
        self._process.kill()  # it closed its output: that is the end, even if it lingers
        self._bury(LEAVE_SECONDS)
        status = self._process.returncode
        logger.warning("child died", extra={"pid": self.pid, "status": status, "complaints": list(self._complaints)})
        how = f"was ended by signal {-status}" if status < 0 else f"ended by itself with status {status}"
        return ChildDied(f"The analysis process {how}.", exit_code=status)

    def _read_lines(self) -> None:
        stdout = _pipe(self._process.stdout)
        while line := stdout.readline(MAX_LINE_BYTES):
            self._said.put(line)
        self._said.put(b"")

    def _read_complaints(self) -> None:
        for line in _pipe(self._process.stderr):
            self._complaints.append(line.decode(errors="replace").rstrip())


def _environment(threads: int | None) -> dict[str, str]:
    passed_on = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _PASSED_ON or name.upper().startswith(_PASSED_ON_PREFIXES)
    }
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)} if threads else {}
    # The child may start in another folder, and must find this very package.
    return {**passed_on, **_ALLOCATOR, **limits, "PYTHONPATH": str(Path(inference.__file__).resolve().parents[1])}


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream


def _close(stream: IO[bytes] | None) -> None:
    try:
        _pipe(stream).close()
    except (BrokenPipeError, ValueError):  # what was left in the buffer has no reader any more
        logger.debug("pipe was closed by the other side")
