"""The wallet's stock of coins: which coins to exchange at the bank, for which new ones, and when.

An exchange is anonymous, but the bank sees the values that come in and those that go out. So a plan keeps to two
rules: it breaks as few coins as it can, and it asks for a *stock*, small change of every value that follows from the
broken coin and from what the wallet lacks. Which sum is about to be paid shows only where a stock cannot make it.

What a wallet does by itself comes to rest: let the reach of a purse be the end of the sums that it pays without a hole.
`plan_stock` always raises the reach; `plan_tidying` never lowers it and leaves fewer coins. As the reach is at most
the worth, which neither changes, no purse comes back, and to follow both, in any order, ends.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice
from typing import Final, NamedTuple

from ..commission import Commission
from ..machine import Jitter
from ..money import MAX_AMOUNT
from ..selection import TARGET, SelectionError, choose_denominations, select_coins

TRIES: Final = 8  # sets of coins to break that one plan looks at; each costs a few searches

_HOUR_MS: Final = 3_600_000


class Swap(NamedTuple):
    """An exchange to make: worth(inputs) = worth(outputs) + commission, in minor units.

    Counts by value, without zeros, in descending order: to ask for the coins in this order tells nothing more.
    """

    inputs: dict[int, int]
    outputs: dict[int, int]
    commission: int

    def applied(self, held: Mapping[int, int]) -> dict[int, int]:
        """Return what `held` is after the exchange, without zeros."""
        return dict(Counter(held) - Counter(self.inputs) + Counter(self.outputs))


def plan_change(
    amount: int, held: Mapping[int, int], denominations: Sequence[int], commission: Commission, max_coins: int
) -> Swap | None:
    """Plan the exchange after which the amount can be paid exactly.

    Broken is one coin where that is enough: the smallest of those that are larger than what is missing. More are
    broken to make up for the commission, or where the payment would take too many coins. With powers of two, and
    outputs that fit into `max_coins`, what is found breaks the fewest coins; with other values this is a heuristic.

    Args:
        amount: minor units, 0 to `MAX_AMOUNT`.
        held: number of coins at hand by value.
        denominations: values that the bank mints now, in any order.
        commission: tariff of an exchange, charged on what goes in.
        max_coins: the most coins that go in, that come out, and that make one payment.

    Returns:
        The exchange; an empty one if the coins make the amount as they are. None if they are worth too little for
        the amount and the commission, or if no exchange was found in bounded work.

    Raises:
        OurError: the amount or a value or count is out of bounds.
    """
    if _pays(amount, held, max_coins):
        return Swap({}, {}, 0)
    for inputs, missing in islice(_breakable(amount, held, denominations, commission, max_coins), TRIES):
        worth = _worth(inputs)
        charge = commission.charge(worth)
        for outputs in _change(worth - charge, missing, denominations, Counter(held) - inputs):
            swap = Swap(_sorted(inputs), _sorted(outputs), charge)
            if outputs.total() <= max_coins and _pays(amount, swap.applied(held), max_coins):
                return swap
    return None


def plan_tidying(
    held: Mapping[int, int], denominations: Sequence[int], commission: Commission, max_coins: int, many: int = 8
) -> Swap | None:
    """Plan to put coins of one value together of which there are too many: the same worth, fewer coins, no sum lost.

    `TARGET` coins of the value stay; for the others come coins of this value or more. Where the denominations are
    1, 2, 4 … 2**k there is such an exchange for each value that is in excess; with others it may cost a sum, and is
    not made.

    Args:
        held: number of coins at hand by value.
        denominations: values that the bank mints now, in any order. Of the largest there are never too many.
        commission: tariff of an exchange.
        max_coins: the most coins that go in; fewer come out.
        many: how many coins of a value may lie, more than `TARGET`.

    Returns:
        The exchange, which is free of charge, of the smallest such value; None if there is none to make.
    """
    coins = +Counter(held)
    reach = _reach(coins, denominations)
    for value in sorted(value for value, count in coins.items() if count > many):
        inputs = Counter({value: min(coins[value] - TARGET, max_coins)})
        worth, stays = _worth(inputs), coins - inputs
        for outputs in _choose(worth, [larger for larger in denominations if larger >= value], stays):
            fewer = outputs.total() < inputs.total()
            if fewer and not commission.charge(worth) and _reach(stays + outputs, denominations) >= reach:
                return Swap(dict(inputs), _sorted(outputs), 0)
    return None


def plan_stock(
    held: Mapping[int, int], denominations: Sequence[int], commission: Commission, max_coins: int, up_to: int
) -> Swap | None:
    """Plan to break one coin where the purse has a hole: a sum that the coins are worth but cannot make.

    Where the denominations are 1, 2, 4 … 2**k and outputs fit into `max_coins`, a purse for which nothing is left to
    plan pays every sum up to `up_to` or its worth. That takes at most one exchange for each denomination, as each
    fills the purse up to the coin that it breaks.

    Args:
        held: number of coins at hand by value.
        denominations: values that the bank mints now, in any order; sums are multiples of the smallest.
        commission: tariff of an exchange.
        max_coins: the most coins that come out.
        up_to: minor units; what lies above need not be payable.

    Returns:
        The exchange, which is free of charge; None if there is none to make.
    """
    coins = +Counter(held)
    reach = _reach(coins, denominations)
    if reach >= min(up_to, _worth(coins)):
        return None
    for value in sorted(value for value in coins if value > reach and not commission.charge(value)):
        stays = coins - Counter([value])
        for outputs in _choose(value, [smaller for smaller in denominations if smaller < value], stays):
            if outputs.total() <= max_coins and _reach(stays + outputs, denominations) > reach:
                return Swap({value: 1}, _sorted(outputs), 0)
    return None


class Ageing(NamedTuple):
    """Until when a coin is good for what, by its denomination; milliseconds since 1970."""

    spend_until: int
    redeem_until: int

    def spendable(self, now: int) -> bool:
        """Whether a merchant can still deposit the coin."""
        return now < self.spend_until

    def exchangeable(self, now: int) -> bool:
        """Whether the bank still gives a new coin or account money for it."""
        return now < self.redeem_until


def refresh_at(spend_until: int, mint_until: int, jitter: Jitter) -> int:
    """Return when to exchange a coin for a fresh one: at 3/4 to 15/16 of the time from mint-until to spend-until.

    The whole of a denomination expires at once. If each wallet came on the last day, or a fixed time after it got the
    coin, the bank would have a peak of load, and the moment would tell the coins of one withdrawal, and so perhaps
    their owner. So the moment depends on nothing but public dates and chance. What is left, 1/16, is for a wallet that
    was switched off meanwhile; after that there is still redeem-until.

    Args:
        spend_until: of the coin's denomination, milliseconds since 1970.
        mint_until: of the same; at most `spend_until`.
        jitter: thousandths, drawn once for a wallet and a denomination, and kept or derived: the least of many draws
            would come early, and coins of one wallet at many times would be many chances to be seen.
    """
    return mint_until + (spend_until - mint_until) * (12_000 + 3 * jitter) // 16_000


def next_tending(now: int, jitter: Jitter) -> int:
    """Return when to look after the stock again: in 1 to 12 hours, evenly drawn.

    If it were done right after a purchase, or in a fixed rhythm, the bank could join an exchange to the payment before
    it, or the exchanges of one wallet to each other. Nothing of it is urgent.

    Args:
        now: milliseconds since 1970.
        jitter: thousandths, drawn anew each time.
    """
    return now + _HOUR_MS + 11 * _HOUR_MS * jitter // 1000


def _worth(coins: Mapping[int, int]) -> int:
    return sum(value * count for value, count in coins.items())


def _sorted(coins: Counter[int]) -> dict[int, int]:
    return dict(sorted(coins.items(), reverse=True))


def _pays(amount: int, held: Mapping[int, int], max_coins: int) -> bool:
    try:
        return sum(select_coins(amount, held).values()) <= max_coins
    except SelectionError:
        return False


def _reach(coins: Mapping[int, int], denominations: Sequence[int]) -> int:
    """The end of the sums that can be made without a hole, in steps of the smallest denomination.

    Coins in ascending order leave no hole as long as each is at most one step above the sum of those before it.
    """
    step = min(denominations, default=1)
    reach = 0
    for value in sorted(coins):
        if value > reach + step:
            break
        reach += value * coins[value]
    return reach


def _choose(amount: int, denominations: Sequence[int], stock: Mapping[int, int]) -> Iterator[Counter[int]]:
    """The coins of `choose_denominations`, or nothing at all if there are none."""
    if amount <= MAX_AMOUNT:
        try:
            yield Counter(choose_denominations(amount, denominations, stock))
        except SelectionError:
            return


def _fewest(amount: int, denominations: Sequence[int]) -> Iterator[Counter[int]]:
    """As `_choose`, but as few coins as can be: to a purse that has enough of each, nothing else is added."""
    return _choose(amount, denominations, dict.fromkeys(denominations, TARGET))


def _change(worth: int, missing: int, denominations: Sequence[int], stays: Counter[int]) -> Iterator[Counter[int]]:
    """What to ask for, the least telling first: a stock, the missing coins and a stock, the missing coins and few."""
    yield from _choose(worth, denominations, stays)
    for forced in _fewest(missing, denominations):
        for spare in chain(
            _choose(worth - missing, denominations, stays + forced), _fewest(worth - missing, denominations)
        ):
            yield forced + spare


def _greedy(amount: int, counts: Mapping[int, int]) -> tuple[Counter[int], int]:
    """As many as possible of each value, the largest first, and what they miss."""
    chosen: Counter[int] = Counter()
    for value in sorted(counts, reverse=True):
        chosen[value] = min(counts[value], amount // value)
        amount -= value * chosen[value]
    return chosen, amount


def _breakable(
    amount: int, held: Mapping[int, int], denominations: Sequence[int], commission: Commission, max_coins: int
) -> Iterator[tuple[Counter[int], int]]:
    """Coins to break, and what the new ones have to make together with those that stay; the fewest coins first.

    The greedy choice is kept for the payment. Each coin that it leaves is larger than what it misses, so the smallest
    of them is broken, or neighbours in size if the commission eats too much. Where the payment would have too many
    coins, the smallest of the choice go in as well.
    """
    choice, rest = _greedy(amount, held)
    chosen, unused = sorted(choice.elements()), sorted((Counter(held) - choice).elements())
    chosen_worth, unused_worth = list(accumulate(chosen, initial=0)), list(accumulate(unused, initial=0))
    firsts = [bisect_left(unused, value) for value in sorted(set(unused))]
    unlimited = dict.fromkeys(denominations, MAX_AMOUNT)
    # The coins that the payment would have, by how many of the choice go in.
    paying = [
        len(chosen) - given + _greedy(rest + worth, unlimited)[0].total()
        for given, worth in enumerate(chosen_worth[: max_coins + 1])
    ]

    def covers(worth: int, missing: int) -> bool:
        return worth - commission.charge(worth) >= max(missing, 1)

    for size in range(1, max_coins + 1):
        for given in range(max(size - len(unused), 0), min(size, len(chosen)) + 1):
            others = size - given
            missing = rest + chosen_worth[given]
            most = chosen_worth[given] + unused_worth[-1] - unused_worth[len(unused) - others]
            if paying[given] > max_coins or not covers(most, missing):
                continue
            for start in sorted({min(first, len(unused) - others) for first in firsts}) if others else [0]:
                worth = chosen_worth[given] + unused_worth[start + others] - unused_worth[start]
                if covers(worth, missing):
                    yield Counter(chosen[:given] + unused[start : start + others]), missing
