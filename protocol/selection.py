"""Exact selection of coins: what to spend for a sum, and what to withdraw.

Two goals pull against each other: to use few coins, and to keep a purse that can pay many sums. The rules:

* To spend: the fewest coins; among equals, the choice that leaves the most even counts.
* To withdraw: first up to `TARGET` coins of each value, the smallest values first, then the fewest coins.

What that buys where the values are 1, 2, 4 … 2**k (and what the tests check): a purse with two or more coins of
each value can still pay every sum up to its worth after any one payment. For other values this is a heuristic
without such a promise; 1, 10, 100, say, would need 18 of each. A purse that has run down to single coins gets
holes, and it is for the caller to change coins or to withdraw again.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import gcd
from types import MappingProxyType
from typing import Final, NamedTuple

from .errors import OurError
from .money import MAX_AMOUNT

TARGET: Final = 2  # coins of each value that a withdrawal aims for: one to spend, one to stay
NODE_LIMIT: Final = 50_000  # steps of one search; some tenths of a second

_EMPTY: Final[Mapping[int, int]] = MappingProxyType({})


class SelectionError(ValueError):
    """There is no selection of coins to give."""


class CannotMakeAmount(SelectionError):
    """No coins of these values and counts add up to the amount."""


class SelectionTooHard(SelectionError):
    """The search was given up: whether the amount can be made is not known."""


def select_coins(amount: int, held: Mapping[int, int]) -> dict[int, int]:
    """Choose coins worth exactly the amount.

    Exact and with the fewest coins when each value divides the next, in time linear in the number of values. For
    other values the search is exact too unless it reaches `NODE_LIMIT`; then the best choice so far is returned.

    Args:
        amount: minor units, 0 to `MAX_AMOUNT`.
        held: number of coins at hand by value in minor units.

    Returns:
        Number of coins to spend by value, without zeros; empty for amount 0.

    Raises:
        CannotMakeAmount: no choice adds up to the amount.
        SelectionTooHard: none was found within `NODE_LIMIT` steps.
        OurError: an argument is out of bounds.
    """
    _check(amount, held, held.values())
    return _Search(held, even=True).run(amount)


def choose_denominations(
    amount: int, denominations: Sequence[int], stock: Mapping[int, int] = _EMPTY
) -> dict[int, int]:
    """Choose what to withdraw for exactly the amount.

    Where each value divides the next there are at most `TARGET` + ratio - 1 coins of each value but the largest,
    ratio being that of the next value to it, and at most amount / largest of the largest.

    Args:
        amount: minor units, 0 to `MAX_AMOUNT`.
        denominations: values on offer in minor units, in any order.
        stock: number of coins that the purse holds by value; they count towards `TARGET`.

    Returns:
        Number of coins to withdraw by value, without zeros; empty for amount 0.

    Raises:
        CannotMakeAmount: the amount is no sum of these values.
        SelectionTooHard: no sum was found within `NODE_LIMIT` steps.
        OurError: an argument is out of bounds.
    """
    _check(amount, denominations, stock.values())
    base = _base(amount, denominations, stock)
    while True:
        rest = amount - sum(base)
        try:
            chosen = _Search({value: rest // value for value in denominations}, even=False).run(rest)
        except SelectionError:
            if not base:
                raise
            # What is left cannot be made, as 2 cannot of 3 and 5: set less aside, the small values last.
            base = base[: len(base) // 2]
        else:
            for value in base:
                chosen[value] = chosen.get(value, 0) + 1
            return dict(sorted(chosen.items(), reverse=True))


def _base(amount: int, denominations: Iterable[int], stock: Mapping[int, int]) -> list[int]:
    """The coins that bring the purse to `TARGET` of each value, in ascending order, as far as the amount goes."""
    base: list[int] = []
    for value in sorted(set(denominations)):
        count = min(max(0, TARGET - stock.get(value, 0)), amount // value)
        base += [value] * count
        amount -= value * count
    return base


def _check(amount: int, values: Iterable[int], counts: Iterable[int]) -> None:
    if not 0 <= amount <= MAX_AMOUNT:
        raise OurError(f"{amount} minor units are not an amount")
    if any(value <= 0 for value in values) or any(count < 0 for count in counts):
        raise OurError("a coin has a positive value, and there are never fewer than no coins")


class _Node(NamedTuple):
    """Counts are fixed for the `depth` largest values; `rest` is left to be made of the others."""

    depth: int
    rest: int
    coins: int = 0
    unevenness: int = 0
    taken: int = 0  # of the last of those values
    parent: "_Node | None" = None


def _next(stack: list[Iterator[_Node]]) -> _Node | None:
    """The next node in depth-first order, or None when all were seen."""
    while stack:
        for node in stack[-1]:
            return node
        stack.pop()
    return None


class _Search:
    """Depth-first branch and bound over the values, the largest first.

    From the index where each value is divided by the next one down, no search is needed: to take as many as
    possible of the largest is exact and gives the fewest coins. For let a choice take fewer of the largest value
    v than it could. Its smaller coins are worth v or more; laid down in descending order, each step is a divisor
    of v and of all that lies there, so the pile never steps over v but reaches it, and those coins can be
    exchanged for one. Hence, too, the choice with the fewest coins is the only one with so few.

    The key of a choice is (number of coins, sum of the squares of the counts that stay). Among choices with the
    same number of coins the same number stays, so the least sum of squares is the most even purse.
    """

    def __init__(self, held: Mapping[int, int], *, even: bool) -> None:
        self._even = even
        self._values = sorted((value for value, count in held.items() if count), reverse=True)
        self._counts = [held[value] for value in self._values]
        worths = (value * count for value, count in zip(self._values, self._counts, strict=True))
        self._worth = list(accumulate(worths, initial=0))
        self._coins = list(accumulate(self._counts, initial=0))
        self._gcds = list(accumulate(reversed(self._values), gcd, initial=0))[::-1]
        self._chain = max(len(self._values) - 1, 0)
        while self._chain and self._values[self._chain - 1] % self._values[self._chain] == 0:
            self._chain -= 1

    def run(self, amount: int) -> dict[int, int]:
        """The best choice found, by value.

        Raises:
            CannotMakeAmount: there is none.
            SelectionTooHard: none was found within `NODE_LIMIT` steps.
        """
        if amount == 0:
            return {}
        if amount > self._worth[-1] or amount % self._gcds[0]:
            raise CannotMakeAmount(f"no coins of these values add up to {amount} minor units")
        best: _Node | None = None
        best_key = (self._coins[-1] + 1, 0)
        arrived: dict[tuple[int, int], tuple[int, int]] = {}
        stack: list[Iterator[_Node]] = [iter((_Node(0, amount),))]
        for _ in range(NODE_LIMIT):
            node = _next(stack)
            if node is None:
                break
            key = node.coins, node.unevenness
            bound = node.coins + self._fewest(node)
            if (bound, 0) >= best_key:
                # Less of a larger value never lowers the bound: the later siblings are no better.
                stack.pop()
                continue
            # Whatever can follow was followed from here before, at no greater cost.
            if arrived.get((node.depth, node.rest), best_key) <= key:
                continue
            arrived[node.depth, node.rest] = key
            if node.depth < self._chain:
                stack.append(self._branches(node))
                continue
            leaf = self._descend(node)
            if leaf.rest == 0 and (leaf.coins, leaf.unevenness) < best_key:
                best, best_key = leaf, (leaf.coins, leaf.unevenness)
        else:
            if best is None:
                raise SelectionTooHard(f"no coins that add up to {amount} minor units were found in time")
        if best is None:
            raise CannotMakeAmount(f"no coins of these values add up to {amount} minor units")
        return self._choice(best)

    def _fewest(self, node: _Node) -> int:
        """Lower bound on the coins that make the rest: the largest first, the last one cut to fit."""
        target = self._worth[node.depth] + node.rest
        whole = bisect_right(self._worth, target) - 1
        coins = self._coins[whole] - self._coins[node.depth]
        left = target - self._worth[whole]
        return coins + -(-left // self._values[whole]) if left else coins

    def _branches(self, node: _Node) -> Iterator[_Node]:
        """The counts of one value from most to least, without those that the smaller values cannot complete."""
        depth, rest = node.depth, node.rest
        value, common = self._values[depth], self._gcds[depth]
        modulus = self._gcds[depth + 1] // common
        most = min(self._counts[depth], rest // value)
        least = -((self._worth[-1] - self._worth[depth + 1] - rest) // value)
        # What stays must be a multiple of the smaller values' divisor, which fixes the count modulo `modulus`.
        residue = rest // common * pow(value // common, -1, modulus)
        for count in range(most - (most - residue) % modulus, max(least, 0) - 1, -modulus):
            yield self._child(node, count)

    def _descend(self, node: _Node) -> _Node:
        """Take as many as possible of each value to the end; exact along the chain."""
        for depth in range(node.depth, len(self._values)):
            node = self._child(node, min(self._counts[depth], node.rest // self._values[depth]))
        return node

    def _child(self, node: _Node, count: int) -> _Node:
        stays = self._counts[node.depth] - count if self._even else 0
        return _Node(
            node.depth + 1,
            node.rest - count * self._values[node.depth],
            node.coins + count,
            node.unevenness + stays * stays,
            count,
            node,
        )

    def _choice(self, leaf: _Node) -> dict[int, int]:
        choice: dict[int, int] = {}
        node = leaf
        while node.parent is not None:
            if node.taken:
                choice[self._values[node.depth - 1]] = node.taken
            node = node.parent
        return dict(reversed(choice.items()))
