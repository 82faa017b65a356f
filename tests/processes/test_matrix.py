"""The catalogue of crashes is covered: each of its hundred points has a death, or a reason why it has none."""

from .matrix import MATRIX, SCENES, STEPS, At, Not
from .points import declared


def test_every_step_has_a_row_for_the_death_before_it_and_the_one_after_it() -> None:
    assert len(STEPS) == 50
    assert MATRIX.keys() == {f"{step}{side}" for step in STEPS for side in "ba"}


def test_every_death_is_at_a_point_that_exists_in_a_scenario_that_has_it() -> None:
    deaths = {number: row for number, row in MATRIX.items() if isinstance(row, At)}
    assert {row.point.partition(":")[0] for row in deaths.values()} <= declared()
    assert {number for number, row in deaths.items() if row.point not in SCENES[row.scene]} == set()


def test_most_steps_exist_here_and_every_other_has_its_reason() -> None:
    reasons = [row.reason for row in MATRIX.values() if isinstance(row, Not)]
    assert all(reasons)
    assert len(MATRIX) - len(reasons) >= 65
