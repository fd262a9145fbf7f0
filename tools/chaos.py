"""A random fault campaign: `make chaos SEED=n MINUTES=n [SCALED=1]`.

Starts the real programs behind proxies that cut, hold, delay and double what goes through; clicks, cancels and
follows while processes are killed, frozen and starved; heals, waits, and judges what everybody saw. Ends with one
line `jobs=… faults=… lost=… duplicated=… stale=…`, and with 0 only when nothing is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.system.faults.campaign import Campaign, Plan, folder_for, report
from tests.system.faults.checker import Verdict
from tests.system.faults.nemesis import Nemesis
from tests.system.faults.recovery import measure
from tests.system.faults.scaled import ScaledNemesis, ScaledStage
from tests.system.faults.stage import Stage
from tests.system.stack import StackFailed


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the campaign that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--scaled", action="store_true")
    asked = parser.parse_args()
    folder = folder_for(asked.seed)
    say(f"seed {asked.seed}, {asked.minutes:g} minutes, {'scaled out' if asked.scaled else 'embedded'}; {folder}")
    plan = Plan(seed=asked.seed, minutes=asked.minutes, say=say)
    verdict = play(plan, folder, is_scaled=asked.scaled)
    return 0 if verdict.is_clean else 1


def recovery_of(stage: Stage) -> str:
    """The two promised figures, measured on the healed stage."""
    try:
        return asyncio.run(measure(stage)).line()
    except (TimeoutError, StackFailed) as error:
        return f"recovery could not be measured: {type(error).__name__} {error}"


def play(plan: Plan, folder: Path, *, is_scaled: bool) -> Verdict:
    """The campaign on its stage, and what it came to."""
    kind, nemesis = (ScaledStage, ScaledNemesis) if is_scaled else (Stage, Nemesis)
    with kind(folder, seed=plan.seed) as stage:
        campaign = Campaign(stage, plan, nemesis=nemesis)
        verdict = asyncio.run(campaign.run())
        say(recovery_of(stage))
    for line in report(campaign, verdict):
        say(line)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
