"""An analysis process with a character, for the tests of the sandbox: `python -m tests.inference.odd_child KIND`.

obedient   thresholds FLAIR with the real pipeline       slow     counts until it is cancelled
deaf       counts and does not listen                    crash    dies of a segmentation fault
exit       leaves with status 7 in the middle            frozen   is stopped by a signal, as by a debugger
chatty     prints to stdout, then does the work          garbled  writes something that is no message
curious    tries to open a connection                    broken   raises what nobody foresaw
unready    cannot load its model
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from typing import NoReturn

from inference.child import private_streams, serve, settle
from inference.contract import Order, Outcome, Stage
from inference.errors import ModelMissing
from inference.watch import Watch

KINDS = ("obedient", "slow", "deaf", "crash", "exit", "frozen", "chatty", "garbled", "curious", "broken", "unready")


class OddWork:
    """Work that goes wrong in the way its kind says."""

    device = "cpu"

    def __init__(self, kind: str) -> None:
        if kind == "unready":
            raise ModelMissing("moonlight")
        self.kind = kind

    def do(self, order: Order, watch: Watch) -> Outcome:
        """Announce one stage, then be odd."""
        return watch.stage(Stage.INFERENCE, getattr(self, f"_{self.kind}"), order, watch)

    def _obedient(self, order: Order, watch: Watch) -> Outcome:
        from inference.child import read_inputs
        from inference.contract import Scans
        from inference.pipeline import segment
        from inference.volume import pack_mask
        from tests.inference.bright import bright_model

        found = segment(Scans(volumes=read_inputs(order), grid=order.grid), model=bright_model(), watch=watch)
        mask = pack_mask(found.labels, order.output, affine=found.grid.affine)
        return Outcome(mask=mask, model=found.model, volumes_ml=found.volumes_ml, stage_seconds=found.stage_seconds)

    def _slow(self, order: Order, watch: Watch) -> NoReturn:
        started = time.monotonic()
        while True:
            watch.advance((time.monotonic() - started) / 600.0)

    def _deaf(self, order: Order, watch: Watch) -> NoReturn:
        while True:
            time.monotonic()

    def _crash(self, order: Order, watch: Watch) -> NoReturn:
        ctypes.string_at(0)
        raise AssertionError("survived a segmentation fault")

    def _exit(self, order: Order, watch: Watch) -> NoReturn:
        os._exit(7)

    def _frozen(self, order: Order, watch: Watch) -> NoReturn:
        os.kill(os.getpid(), signal.SIGSTOP)
        raise AssertionError("ran on after being stopped")

    def _chatty(self, order: Order, watch: Watch) -> Outcome:
        sys.stdout.write("a library writes\n")
        sys.stdout.flush()
        os.write(1, b"and so does one written in C\n")
        return self._obedient(order, watch)

    def _garbled(self, order: Order, watch: Watch) -> NoReturn:
        os.write(self.pipe, b'{"t":"ready","device":[]}\n')
        while True:
            time.monotonic()

    def _curious(self, order: Order, watch: Watch) -> NoReturn:
        socket.create_connection(("127.0.0.1", 9))
        raise AssertionError("was let onto the network")

    def _broken(self, order: Order, watch: Watch) -> NoReturn:
        raise KeyError("patient name")


def main(kind: str) -> int:
    """Serve the parent as `inference.child` does, with odd work."""
    settle()
    with private_streams() as (source, target):
        OddWork.pipe = target.fileno()
        return serve(lambda: OddWork(kind), source=source, target=target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
