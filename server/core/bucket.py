"""How often something may happen: so many at once, and so many a second after that."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket as a value. `at` is in seconds of whatever clock the caller keeps to."""

    per_second: float
    burst: float
    level: float
    at: float

    @classmethod
    def full(cls, *, per_second: float, burst: float, at: float) -> "Bucket":
        """A bucket that nobody has taken from yet."""
        return cls(per_second=per_second, burst=burst, level=burst, at=at)

    def take(self, at: float) -> tuple["Bucket", bool]:
        """The bucket after one more, and whether that one was allowed. A refused one costs nothing."""
        level = min(self.burst, self.level + max(0.0, at - self.at) * self.per_second)
        is_allowed = level >= 1.0
        return replace(self, level=level - 1.0 if is_allowed else level, at=max(at, self.at)), is_allowed
