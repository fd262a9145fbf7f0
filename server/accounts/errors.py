"""What can be refused to whoever signs in.

Problem
└── TooMany   429  too often; the header Retry-After says when to come again
"""

from math import ceil

from server.core.errors import Problem


class TooMany(Problem):
    """A limit was reached."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"

    def __init__(self, *, retry_after_seconds: float) -> None:
        self.retry_after_seconds = max(1, ceil(retry_after_seconds))
        super().__init__(
            f"That was too often; try again in {self.retry_after_seconds} seconds.",
            extra={"retry_after": self.retry_after_seconds},
        )
        self.headers = {"Retry-After": str(self.retry_after_seconds)}
