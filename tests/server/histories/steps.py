"""The steps that a random history is made of, and how often each is taken."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

from tests.server.histories.cloud import Moment
from tests.server.histories.world import World


def wander(world: World, luck: random.Random, *, steps: int, favours: Collection[str] = ()) -> None:
    """A random history: mostly ordinary steps, and a fault every now and then, those that it `favours` more often."""
    # Every history has its own leanings: what is rare everywhere never meets what is rare everywhere else.
    leaning = {name: luck.choice([0.3, 1.0, 1.0, 3.0] if name in ORDINARY else [0.0, 0.3, 1.0, 4.0]) for name in STEPS}
    leaning |= dict.fromkeys(favours, FAVOURED)
    weights = [weight * leaning[name] for name, (weight, _) in STEPS.items()]
    for _ in range(steps):
        name = luck.choices(list(STEPS), weights)[0]
        STEPS[name][1](world, luck)


def _lab(luck: random.Random) -> int:
    return luck.randrange(2)


def _yes(luck: random.Random) -> bool:
    return luck.random() < 0.5


FAVOURED = 8.0
MOMENTS: tuple[Moment, ...] = ("before", "after", "fail")
ORDINARY = frozenset(
    {"click", "connect", "come back", "to server", "to worker", "flow", "finish", "upload", "look", "start server"}
)
Step = Callable[[World, random.Random], None]
STEPS: dict[str, tuple[float, Step]] = {
    "click": (4, lambda world, luck: world.click(luck.randrange(2))),
    "cancel": (0.5, lambda world, luck: world.cancel(luck.randrange(3))),
    "connect": (3, lambda world, luck: world.connect(_lab(luck))),
    "come back": (6, lambda world, luck: world.come_back(_lab(luck))),
    "to server": (5, lambda world, luck: world.to_server(_lab(luck))),
    "to worker": (5, lambda world, luck: world.to_worker(_lab(luck))),
    "flow": (8, lambda world, luck: world.flow(_lab(luck))),
    "look": (4, lambda world, luck: world.look()),
    "finish": (2, lambda world, luck: world.finish(_lab(luck))),
    "upload": (3, lambda world, luck: world.upload(_lab(luck))),
    "time flows": (4, lambda world, luck: world.pass_time(luck.choice([1, 4, 7, 12]), is_flowing=True)),
    "time stands": (0.7, lambda world, luck: world.pass_time(luck.choice([3, 11, 21]), is_flowing=False)),
    "start server": (3, lambda world, luck: world.start_server()),
    "cut": (2, lambda world, luck: world.cut(_lab(luck), server_knows=_yes(luck), worker_knows=_yes(luck))),
    "lose frame": (0.7, lambda world, luck: world.lose_frame(_lab(luck), is_up=_yes(luck))),
    "double frame": (1, lambda world, luck: world.double_frame(_lab(luck), is_up=_yes(luck))),
    "swap frames": (1, lambda world, luck: world.swap_frames(_lab(luck), is_up=_yes(luck))),
    "kill child": (0.3, lambda world, luck: world.kill_child(_lab(luck))),
    "forget silently": (0.4, lambda world, luck: world.forget_silently(_lab(luck))),
    "crash worker": (0.7, lambda world, luck: world.crash_worker(_lab(luck))),
    "crash server": (0.4, lambda world, luck: world.crash_server()),
    "go away": (
        1.0,
        lambda world, luck: world.go_away(_lab(luck), luck.choice([12, 24]), server_knows=_yes(luck)),
    ),
    "strike": (3, lambda world, luck: world.strike(_lab(luck), luck.randrange(4), luck.choice(MOMENTS))),
    "arm": (0.5, lambda world, luck: world.arm(luck.randrange(6), luck.choice(MOMENTS))),
    "fill disk": (0.3, lambda world, luck: world.fill_disk(_lab(luck), is_full=_yes(luck))),
    "set clock": (0.4, lambda world, luck: world.set_clock(luck.choice([-3600.0, -40.0, 40.0, 3600.0]))),
    "lose pokes": (0.5, lambda world, luck: world.lose_pokes(is_losing=_yes(luck))),
}
