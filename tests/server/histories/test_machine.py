"""The same steps, chosen by hypothesis: a history that goes wrong is cut down to the steps that matter."""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.server.histories.conftest import Stage
from tests.server.histories.steps import ORDINARY, STEPS

EXAMPLES = int(os.environ.get("HISTORIES", "120")) // 6
LUCK = st.integers(min_value=0, max_value=999)


def test_no_sequence_of_steps_loses_doubles_or_outdates_anything(stage: Stage) -> None:
    class Histories(RuleBasedStateMachine):
        """One world; healed and judged when the steps are over."""

        def __init__(self) -> None:
            super().__init__()
            self.world = stage.new_world()

        @rule(name=st.sampled_from(sorted(ORDINARY)), luck=LUCK)
        def go_on(self, name: str, luck: int) -> None:
            STEPS[name][1](self.world, random.Random(luck))

        @rule(number=st.integers(min_value=0, max_value=1))
        def work(self, number: int) -> None:
            """A worker does all that it can do at once."""
            self.world.come_back(number)
            self.world.finish(number)
            self.world.upload(number)
            self.world.flow(number)

        @rule(name=st.sampled_from(sorted(set(STEPS) - ORDINARY)), luck=LUCK)
        def go_wrong(self, name: str, luck: int) -> None:
            STEPS[name][1](self.world, random.Random(luck))

        def teardown(self) -> None:
            try:
                self.world.heal()
                verdict = self.world.verdict()
            finally:
                self.world.close()
            assert verdict.violations == ()

    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
