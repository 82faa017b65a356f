"""Rules of money are broken one at a time, and each time a test or the simulator turns red."""

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from .rules import RULES
from .trial import notice, trials

Noticed = dict[str, Future[tuple[bool, str]]]


@pytest.fixture(scope="module")
def noticed() -> Iterator[Noticed]:
    with trials() as pool:
        yield {rule.name: pool.submit(notice, rule) for rule in RULES}


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_a_broken_rule_is_noticed(name: str, noticed: Noticed) -> None:
    caught, said = noticed[name].result()
    assert caught, said


def test_there_are_enough_of_them() -> None:
    assert len({(rule.file, rule.old, rule.new) for rule in RULES}) == len(RULES) >= 30
