"""Which buckets to ask about, so that the bank learns as little as can be of which coins are meant.

The questions about one denomination go down level by level; a level is all prefixes of one length. Below a bucket with
too much to tell *all* sixteen are asked about, whosever coins lie there: that depends on the bank's books alone, and
tells nothing of the asker. Only where a level would be more than `WHOLE` questions (of a denomination of which about
`WHOLE * MAX_SPENDINGS` coins are spent) just those towards own coins are asked, and those towards `DECOYS` times as
many serial numbers that derive from the seed: the same each time, for of two questions with fresh decoys the bank could
take what they have in common. What remains there: the bank knows that the coins are among these buckets, one in
`1 + DECOYS` of them, and a payment whose coins all lie in them is rather the asker's than another.

A bank could say that there is too much to tell until it has the coins' very serial numbers. But it announces, signed,
how many are spent: what contradicts that is no answer.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from protocol.errors import PeerError
from protocol.recovery import MAX_SPENDINGS
from protocol.refusals import Refusal

WHOLE: Final = 256
"""The most questions of one level for which own coins make no difference."""
DECOYS: Final = 4
"""How many made-up serial numbers are asked about for each own one, where levels are too large to be asked whole."""
UNTOLD_DIGITS: Final = 4
"""The longest prefix where the bank's totals do not say how many coins are spent."""
_DIGITS: Final = "0123456789abcdef"


class Limit(NamedTuple):
    """How long a prefix may grow, and how many spendings there can be in all (None: nobody knows)."""

    digits: int
    spendings: int | None


def limit_by(spent: int | None) -> Limit:
    """Return what a bank may say of a denomination of which, by its totals, so many coins are spent.

    Totals may be minutes old: twice as many and 64 more are believed. Serial numbers are hashes, so buckets fill
    evenly: where half a bucket's fill is to be expected there is never too much to tell, and one digit more is slack.
    """
    if spent is None:
        return Limit(UNTOLD_DIGITS, None)
    most, digits = 2 * spent + 64, 0
    while 16**digits * MAX_SPENDINGS // 2 < most:
        digits += 1
    return Limit(digits + 1, most)


class Search:
    """The questions about one denomination.

    Args:
        serials: of the coins that are meant, in hexadecimal.
        decoy: returns the 16 bytes of a decoy by number, from 0.

    Attributes:
        questions: the prefixes to ask about next, all of one length; none at the end.
    """

    def __init__(self, serials: Sequence[str], decoy: Callable[[int], bytes]) -> None:
        self.questions = [""]
        self._serials = serials
        self._decoy = decoy
        self._decoys: list[str] = []
        self._parents: list[str] = []
        self._told: dict[str, int | None] = {}

    def told(self, prefix: str, spendings: int | None) -> None:
        """Enter how many spendings a bucket has; None if the bank has too much to tell."""
        self._told[prefix] = spendings

    @property
    def ended(self) -> bool:
        """Whether the bank has told everything, in what it was asked so far."""
        return None not in self._told.values()

    def descend(self, limit: Limit) -> None:
        """Go one level down, when all questions are answered.

        Raises:
            PeerError: `AMOUNT_MISMATCH`, if what the bank says of this level contradicts what it said before.
        """
        full = sorted(prefix for prefix, spendings in self._told.items() if spendings is None)
        self._check(full, limit)
        questions = [prefix + digit for prefix in full for digit in _DIGITS]
        if len(questions) > WHOLE:
            self._decoys = self._decoys or self._make_decoys(full)
            wanted = {serial[: len(full[0]) + 1] for serial in (*self._serials, *self._decoys)}
            questions = [prefix for prefix in questions if prefix in wanted]
        self.questions, self._parents, self._told = questions, full, {}

    def _check(self, full: Sequence[str], limit: Limit) -> None:
        least = len(full) * (MAX_SPENDINGS + 1)
        if limit.spendings is not None and least > limit.spendings:
            raise _contradiction(f"at least {least} coins are spent, where by its totals it is {limit.spendings}")
        if full and len(full[0]) >= limit.digits:
            raise _contradiction(
                f"more than {MAX_SPENDINGS} spent coins begin with the same {limit.digits} digits, where by its totals "
                "they cannot be so many"
            )
        for parent in self._parents:
            below = [self._told.get(parent + digit) for digit in _DIGITS]
            known = [spendings for spendings in below if spendings is not None]
            if len(known) == len(below) and sum(known) <= MAX_SPENDINGS:
                raise _contradiction(f"{sum(known)} spendings are too much to tell, which it then told after all")

    def _make_decoys(self, full: Sequence[str]) -> list[str]:
        drawn = [self._decoy(number) for number in range(DECOYS * len(self._serials))]
        return [full[int.from_bytes(one[:8]) % len(full)] + one[8:].hex() for one in drawn]


def _contradiction(what: str) -> PeerError:
    return PeerError(
        Refusal.AMOUNT_MISMATCH, f"the bank contradicts itself, perhaps to learn which coins these are: {what}"
    )
