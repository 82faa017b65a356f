"""Some histories, always the same; `python -m tests.histories` runs others, and more."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from .bank import Workshop, folder_of
from .run import run

HISTORIES = 40


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    folder = folder_of(tmp_path_factory.mktemp("histories"))
    with TemporaryDirectory(dir=folder) as inside, Workshop.at(Path(inside)) as made:
        yield made


TALLY: Counter[str] = Counter()


@pytest.mark.parametrize("number", range(4))
def test_whatever_happens_books_and_model_agree(workshop: Workshop, number: int) -> None:
    TALLY.update(run(workshop, number, HISTORIES))


def test_the_histories_have_crashes_repetitions_and_coins_that_are_spent_twice() -> None:
    if not TALLY:
        pytest.skip("the histories themselves were not run")
    rare = ("killed at before_commit", "killed at committed", "the same answer again", "coins used up")
    refused = ("exchange: already_spent", "deposit: already_spent", "redeem: redemption_capped", "withdraw: superseded")
    assert not [what for what in (*rare, *refused) if not TALLY[what]]
