"""Broken frames of a browser, made by code: what is sent, and the code of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

DEEP = 100_000
"""Brackets inside brackets: Python's own reader fails on far fewer."""


@dataclass(frozen=True)
class Case:
    """`text` None is a binary frame. `error` is the code of the answer; a socket that ends instead ends with `bye`."""

    name: str
    text: str | None
    error: str | None = None
    bye: int | None = None


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _no_frames()
    yield from _odd_subs()
    yield from _odd_pings()
    yield from _too_much()


def _no_frames() -> Iterator[Case]:
    texts = {
        "empty": "",
        "a space": " ",
        "half an object": '{"t":"sub"',
        "two objects": '{"t":"ping"}{"t":"ping"}',
        "a list": '[{"t":"ping"}]',
        "a number": "7",
        "null": "null",
        "a byte order mark": '\ufeff{"t":"ping"}',
        "a NUL": '{"t":"ping"}\x00',
        "half a character": '{"t":"unsub","topic":"\\ud800"}',
        "single quotes": "{'t':'ping'}",
        "no type": '{"topic":"job:1"}',
        "type null": '{"t":null}',
        "type number": '{"t":1}',
        "type list": '{"t":["ping"]}',
        "HTML": "<script>alert(1)</script>",
        "HTTP": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "lists without end": "[" * 60_000,
        "objects without end": '{"a":' * 10_000,
        "a deep unknown field": '{"t":"ping","x":' + "[" * 30_000 + "]" * 30_000 + "}",
    }
    for name, text in texts.items():
        yield Case(name, text, error="bad_frame")
    for kind in ("dance", "", "SUB", "sub ", "job.offer", "hello", "event", "mask.begin", "__class__", "한국어"):
        yield Case(f"type {kind!r}", json.dumps({"t": kind}), error="unknown_type")


def _odd_subs() -> Iterator[Case]:
    topics = [
        "",
        " ",
        "job: ",
        "job:../../etc/passwd",
        "job:' OR 1=1--",
        "job:%00",
        "job:\x00",
        "job:" + "A" * 49,
        "Job:1",
        "job::1",
        "job:1:2",
        "작업:1",
        "job:1\n",
        "*",
        "job:*",
    ]
    for topic in topics:
        yield Case(f"topic {topic[:24]!r}", json.dumps({"t": "sub", "topic": topic}), error="bad_frame")
    for topic in ("user:1", "user", "job", "job:", "study:", "workers:1", "admin:1", "worker:1", "nobody:1"):
        error = "bad_frame" if topic.endswith(":") else "not_found"
        yield Case(f"topic {topic!r}", json.dumps({"t": "sub", "topic": topic}), error=error)
    odd = {
        "seq": ["1", -1, 1.5, True, [], {}, 10**400, "NaN"],
        "epoch": [1, [], {}, False],
        "mask": ["", "all", 1, None, []],
        "id": ["x" * 65, 1.5, [], {}, None],
        "topic": [None, 1, [], {}],
    }
    for field, values in odd.items():
        for value in values:
            frame = {"t": "sub", "topic": "job:1"} | {field: value}
            yield Case(f"{field} {str(value)[:24]!r}", json.dumps(frame), error="bad_frame")


def _odd_pings() -> Iterator[Case]:
    for value in ("NaN", "Infinity", "-Infinity", '"1"', "[]", "1e999", "0x10", "01", "1."):
        yield Case(f"ts {value}", f'{{"t":"ping","ts":{value}}}', error="bad_frame")
    yield Case("a ticket after sign-in", '{"t":"auth","ticket":"segt_x"}', error="already_signed_in")
    yield Case("a ticket without end", json.dumps({"t": "auth", "ticket": "x" * 513}), error="bad_frame")


def _too_much() -> Iterator[Case]:
    yield Case("70 KiB", json.dumps({"t": "ping", "x": "y" * 70 * 1024}), bye=4503)
    yield Case("64 KiB in characters, more in bytes", json.dumps({"t": "한" * 30_000}, ensure_ascii=False), bye=4503)
    yield Case("brackets without end", "[" * DEEP, bye=4503)
    yield Case("binary", None, bye=4503)
