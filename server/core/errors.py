"""Failures that a person or a program on the other side may see, as RFC 9457 problems.

Problem                 anything the API answers with application/problem+json
└── subclasses live beside what they speak of: imaging.errors, jobs.errors, dispatch.errors
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar


class Problem(Exception):
    """A refusal with an HTTP `status`, a stable `code`, a short `title` and a sentence (`detail`) for the person.

    `extra` holds members beside the five standard ones. The sentence never holds a patient's data, a path or a token.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "The request cannot be served"
    headers: Mapping[str, str] = MappingProxyType({})
    """HTTP headers that go with the answer."""

    def __init__(self, detail: str = "", *, extra: Mapping[str, Any] | None = None) -> None:
        self.detail = detail or self.title
        self.extra: Mapping[str, Any] = extra or {}
        super().__init__(self.detail)


class NotAllowed(Problem):
    """The person is signed in and may not do this."""

    status = 403
    code = "not_allowed"
    title = "You may not do this"


class NotFound(Problem):
    """There is nothing here that this person may see."""

    status = 404
    code = "not_found"
    title = "Nothing is here that you may see"
