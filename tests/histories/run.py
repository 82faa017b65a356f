"""Runs histories by the hundred: the same seed, the same histories."""

from collections import Counter

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from .bank import Workshop
from .machine import Histories

STEPS = 20
"""How many steps a history has."""


def run(
    workshop: Workshop, number: int, histories: int, steps: int = STEPS, tally: Counter[str] | None = None
) -> Counter[str]:
    """Run the histories of a seed and return what happened in them, counted in `tally` if one is given.

    Raises:
        AssertionError: books and model disagree; its notes tell the shortest history that shows it, and how to see it
            again.
    """
    counts: Counter[str] = Counter() if tally is None else tally

    @seed(number)
    def history() -> Histories:
        return Histories(workshop, counts)

    limits = settings(
        max_examples=histories,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.normal,
        print_blob=False,
    )
    try:
        run_state_machine_as_test(history, settings=limits)  # type: ignore[arg-type]
    except BaseException as error:
        again = f"--seed {number} --batch {histories} --histories {histories} --steps {steps}"
        error.add_note(f"python -m tests.histories {again}")
        raise
    return counts
