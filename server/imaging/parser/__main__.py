"""The child's entry: fences first, then the heavy imports, then one order, one answer."""

from __future__ import annotations

import ctypes
import errno
import resource
import signal
import sys

import msgspec

from server.imaging.parser.orders import Answer, Bounds, Order, ReadOrder, Unwritten

_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.", "webbrowser.")
_OPEN_FILES = 256
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def main() -> None:
    """Read the order from stdin, obey it, write the answer to stdout."""
    order: Order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    fence_in(order.bounds)
    sys.stdout.buffer.write(msgspec.json.encode(told(order)))


def fence_in(bounds: Bounds) -> None:
    """Bound memory, CPU, files and core dumps, leave the network, start nothing, and do not outlive the server."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Without privileges a network namespace needs a user namespace; where both are forbidden the hook below stands.
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        libc.unshare(_CLONE_NEWNET)
    for limit, value in (
        (resource.RLIMIT_AS, bounds.memory_bytes),
        (resource.RLIMIT_CPU, bounds.cpu_seconds),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    sys.addaudithook(_forbid)


def _forbid(event: str, _arguments: tuple[object, ...]) -> None:
    """No sockets and no programs for Python code, also where no namespace is to be had. Native code is not stopped."""
    if event.startswith(_FORBIDDEN):
        raise PermissionError(errno.EPERM, f"the parser does not do {event}")


def told(order: Order) -> Answer:
    """The answer; or that the disk failed, which is not the fault of what was to be read."""
    try:
        return answer(order)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        return Unwritten(number=error.errno or 0)


def answer(order: Order) -> Answer:
    """Do what the order asks."""
    if isinstance(order, ReadOrder):
        from server.imaging.parser.reading import read

        return read(order)
    from server.imaging.parser.proving import prove

    return prove(order)


if __name__ == "__main__":
    main()
