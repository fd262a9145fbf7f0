"""Frames that no sound worker sends, made by code, each with the code that it must be answered with."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.protocol.samples import BOTH_SAMPLES, SERVER_SAMPLES, WORKER_SAMPLES
from worker_client.protocol import messages as m
from worker_client.protocol.codec import encode

BAD, UNKNOWN = "4503", "unknown_type"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Case:
    """A frame, and what a worker that is signed in hears of it: a close code, or the code of an error."""

    name: str
    frame: str | bytes
    answer: str

    def __str__(self) -> str:
        return self.name


def texts() -> Iterator[Case]:
    """What is no message at all."""
    for name, frame in {
        "empty": "",
        "blank": " \n",
        "prose": "hello, server",
        "half an object": '{"t":"hb"',
        "null": "null",
        "number": "1",
        "array": "[]",
        "no type": "{}",
        "type is null": '{"t":null}',
        "type is a number": '{"t":7}',
        "type is an array": '{"t":["hb"]}',
        "two objects": '{"t":"ping","ts":1.0}{"t":"ping","ts":1.0}',
        "nan": '{"t":"ping","ts":NaN}',
        "infinity": '{"t":"ping","ts":Infinity}',
        "beyond a float": '{"t":"ping","ts":1e999}',
        "half a character": '{"t":"job.accept","job":"\\ud800","fence":1}',
        "a lone surrogate": '{"t":"ping","ts":1.0,"x":"\ud800"}',
        "nul in an id": '{"t":"job.accept","job":"a\\u0000b","fence":1}',
        "line break in an id": '{"t":"job.accept","job":"a\\n","fence":1}',
        "a path as an id": '{"t":"job.accept","job":"../../etc/passwd","fence":1}',
        "fence of 64 bits": '{"t":"job.accept","job":"a","fence":9223372036854775808}',
        "fence of a thousand digits": '{"t":"job.accept","job":"a","fence":' + "9" * 1000 + "}",
        "negative fence": '{"t":"job.accept","job":"a","fence":-1}',
        "fence is true": '{"t":"job.accept","job":"a","fence":true}',
        "nested arrays": '{"t":"hb","session":1,"jobs":' + "[" * 30_000 + "]" * 30_000 + "}",
        "nested objects": '{"x":' * 10_000 + "1" + "}" * 10_000,
        "nested in an unknown field": '{"t":"ping","ts":1.0,"x":' + "[" * 30_000 + "]" * 30_000 + "}",
        "70 KiB": '{"t":"ping","ts":1.0,"x":"' + "x" * 70 * 1024 + '"}',
        "64 KiB of two-byte letters": '{"t":"ping","ts":1.0,"x":"' + "é" * 33 * 1024 + '"}',
        "300 KiB": "x" * 300 * 1024,
        "2 MiB": "[" * 2 * MIB,
    }.items():
        yield Case(name, frame, BAD)


def binaries() -> Iterator[Case]:
    """Bytes have no place on this socket."""
    yield Case("binary", b"\x00\x01\x02", BAD)
    yield Case("binary message", b'{"t":"ping","ts":1.0}', BAD)
    yield Case("invalid utf-8", b'{"t":"job.accept","job":"\xff\xfe","fence":1}', BAD)


def strangers() -> Iterator[Case]:
    """Types that are not a worker's: newer ones, made-up ones, and the server's own."""
    for tag in ("job.teleport", "", "HB", "hb ", "worker_rotate", "__class__"):
        yield Case(f"type {tag!r}", json.dumps({"t": tag, "id": 9}), UNKNOWN)
    shared = {type(sample) for sample in BOTH_SAMPLES}
    for sample in SERVER_SAMPLES:
        if type(sample) not in shared:
            yield Case(f"server's {type(sample).__name__}", encode(sample), UNKNOWN)


def maimed() -> Iterator[Case]:
    """Every required field of every message left out, or null, or of a kind that it is not."""
    for sample in (*WORKER_SAMPLES, *BOTH_SAMPLES):
        frame = json.loads(encode(sample))
        for name in required(type(sample)):
            without = {key: value for key, value in frame.items() if key != name}
            yield Case(f"{frame['t']} without {name}", json.dumps(without), BAD)
            for odd in (None, {}, [[]], "\u0000"):
                if not _fits(frame[name], odd):
                    yield Case(f"{frame['t']} {name}={odd!r}", json.dumps({**frame, name: odd}), BAD)


def everything() -> list[Case]:
    """All of them."""
    return [*texts(), *binaries(), *strangers(), *maimed()]


def required(kind: type[m.Message]) -> list[str]:
    """The fields that a message must have."""
    return [field.encode_name for field in msgspec.structs.fields(kind) if field.required]


def _fits(right: Any, odd: Any) -> bool:
    """Whether the odd value is of the right kind, so that it is not for the codec to refuse."""
    return isinstance(odd, str) and isinstance(right, str)
