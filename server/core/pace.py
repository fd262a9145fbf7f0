"""How long a worker takes, measured, and what that means for those who wait.

Flow: 3 dispatch
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from inference.contract import Stage
from server.core.progress import STAGE_SHARES, is_before

REMEMBERED = 5
"""A new job counts one part in so many once there were that many."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that one worker takes for each stage with one model: a moving mean over the last `jobs`."""

    stages: Mapping[Stage, float] = field(default_factory=dict)
    jobs: int = 0

    @property
    def seconds(self) -> float:
        """A whole job."""
        return sum(self.stages.values())

    def after(self, seconds: Mapping[Stage, float]) -> "Pace":
        """The pace once another job is counted."""
        share = 1.0 / min(self.jobs + 1, REMEMBERED)
        stages = {
            stage: _moved(self.stages.get(stage), seconds.get(stage), share)
            for stage in STAGE_SHARES
            if stage in self.stages or stage in seconds
        }
        return Pace(stages=stages, jobs=self.jobs + 1)

    def left(self, stage: Stage, fraction: float) -> float:
        """Seconds to the end of a job that is `fraction` (0 to 1) through `stage`."""
        here = self.stages.get(stage, 0.0) * (1.0 - min(max(fraction, 0.0), 1.0))
        return here + sum(seconds for later, seconds in self.stages.items() if is_before(stage, later))


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Who serves one kind of job: how many `slots`, how long one job takes them, and how much they still have to do."""

    slots: int
    seconds_each: float | None
    seconds_begun: float = 0.0

    def eta(self, place: int) -> float | None:
        """Seconds to the end of the job at this place of the queue (1: next); None when nobody knows."""
        if self.slots <= 0 or self.seconds_each is None:
            return None
        ahead = self.seconds_begun + (place - 1) * self.seconds_each
        return round(ahead / self.slots + self.seconds_each, 1)


def _moved(mean: float | None, new: float | None, share: float) -> float:
    if mean is None or new is None:
        return (mean or 0.0) if new is None else new
    return mean + (new - mean) * share
