"""The numbers the rules depend on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long a lease lasts and how often a job is tried."""

    offer_seconds: float = 3.0
    """A worker must accept an offer within this time, or the offer counts as unanswered."""
    heartbeat_seconds: float = 5.0
    lease_seconds: float = 20.0
    orphan_seconds: float = 10.0
    """What is left of a lease once the worker's socket was seen to close, and what a starting server adds."""
    silence_seconds: float = 15.0
    """A side that heard nothing for so long closes the connection."""
    unanswered_skip_seconds: float = 30.0
    """A worker that let an offer pass unanswered is not asked again for that job before this has passed."""
    max_attempts: int = 3
    retry_seconds: float = 2.0
    """How long a worker is spared a job that went wrong with it; twice as long after each further attempt."""
