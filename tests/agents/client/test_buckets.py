import hashlib
from collections.abc import Callable, Iterable

import pytest

from agents.client.buckets import DECOYS, UNTOLD_DIGITS, WHOLE, Limit, Search, limit_by
from protocol.errors import PeerError
from protocol.recovery import MAX_SPENDINGS
from protocol.refusals import Refusal
from tests.simulation.entropy import SeededEntropy


def decoy(number: int) -> bytes:
    return hashlib.sha256(b"decoy" + number.to_bytes(4)).digest()[:16]


def serials(name: str, count: int) -> list[str]:
    entropy = SeededEntropy(name)
    return [entropy.bytes(32).hex() for _ in range(count)]


def honest(spent: Iterable[str]) -> Callable[[str], int | None]:
    """A bank of which these coins are spent."""
    spent = sorted(spent)

    def answer(prefix: str) -> int | None:
        found = sum(serial.startswith(prefix) for serial in spent)
        return found if found <= MAX_SPENDINGS else None

    return answer


def questions(own: list[str], answer: Callable[[str], int | None], limit: Limit) -> list[list[str]]:
    """Everything that is asked, by level."""
    search, levels = Search(own, decoy), list[list[str]]()
    while search.questions:
        levels.append(search.questions)
        for prefix in search.questions:
            search.told(prefix, answer(prefix))
        search.descend(limit)
    return levels


@pytest.mark.parametrize("count", [0, 64, 65, 600, 3000])
def test_what_is_asked_of_an_honest_bank_does_not_depend_on_the_coins_that_are_meant(count: int) -> None:
    spent = serials("spent", count)
    bank = honest(spent)
    asked = questions(spent[:3], bank, limit_by(count))
    assert asked == questions(serials("unspent", 1), bank, limit_by(count)) == questions(spent, bank, limit_by(count))
    leaves = {prefix for level in asked for prefix in level if bank(prefix) is not None}
    assert all(sum(serial.startswith(leaf) for leaf in leaves) == 1 for serial in spent), "nobody's payment stands out"


def crowded(prefix: str) -> int | None:
    """A bank with too much to tell below three digits."""
    return None if len(prefix) < 3 else MAX_SPENDINGS


def test_beyond_the_budget_own_coins_are_asked_about_among_decoys_that_stay_the_same() -> None:
    own = serials("own", 5)
    levels = questions(own, crowded, limit_by(200_000))
    assert [len(level) for level in levels[:3]] == [1, 16, 256]
    last = set(levels[3])
    true = {serial[:3] for serial in own}
    assert true < last
    assert len(last - true) >= DECOYS * len(true) - 1, "two may fall together"
    assert len(last) <= WHOLE
    assert questions(own, crowded, limit_by(200_000)) == levels, "two askings have no less in common than one"
    assert set(questions(own[:1], crowded, limit_by(200_000))[3]) - true <= last


def test_decoys_are_followed_as_far_as_the_coins() -> None:
    own = serials("own", 2)

    def deep(prefix: str) -> int | None:
        return None if len(prefix) < 5 else MAX_SPENDINGS

    levels = questions(own, deep, Limit(8, None))
    lines = set(levels[5])
    assert {prefix[:3] for prefix in lines} == set(levels[3])
    assert {serial[:5] for serial in own} < lines
    assert len(lines) >= (1 + DECOYS) * len(own) - 1


def test_a_prefix_grows_no_longer_than_the_totals_let_it() -> None:
    assert limit_by(None) == (UNTOLD_DIGITS, None)
    assert limit_by(0) == (2, 64)
    assert limit_by(200) == (2, 464)
    assert limit_by(224) == (2, 512)
    assert limit_by(225) == (3, 514)
    assert limit_by(2**53 - 1).digits <= 16


@pytest.mark.parametrize(
    ("spent", "digits"), [(0, 0), (33, 1), (300, 1), (1000, 2), (10_000, 4), (100_000, 5), (None, UNTOLD_DIGITS)]
)
def test_a_bank_that_never_tells_is_left_long_before_it_knows_the_coins(spent: int | None, digits: int) -> None:
    asked = list[str]()

    def silent(prefix: str) -> None:
        asked.append(prefix)

    with pytest.raises(PeerError, match="contradicts itself") as caught:
        questions(serials("own", 4), silent, limit_by(spent))
    assert caught.value.refusal is Refusal.AMOUNT_MISMATCH
    assert max(map(len, asked)) == digits


def test_a_bank_that_says_too_much_and_then_tells_little_is_left() -> None:
    def feigned(fill: int) -> Callable[[str], int | None]:
        return lambda prefix: None if not prefix else fill if prefix == "0" else 4

    with pytest.raises(PeerError, match="told after all"):
        questions(serials("own", 1), feigned(4), limit_by(None))
    assert len(questions(serials("own", 1), feigned(5), limit_by(None))) == 2, "65 were too much indeed"
