import random
from collections.abc import Mapping
from itertools import accumulate, pairwise, product
from operator import mul

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol import selection
from protocol.errors import OurError
from protocol.money import MAX_AMOUNT
from protocol.selection import (
    TARGET,
    CannotMakeAmount,
    SelectionError,
    SelectionTooHard,
    choose_denominations,
    select_coins,
)

POWERS = [2**k for k in range(41)]
SERIES = [step * 10**k for k in range(7) for step in (1, 2, 5)]

small_purses = st.dictionaries(st.integers(1, 40), st.integers(0, 4), max_size=5)
chains = st.lists(st.integers(2, 4), min_size=1, max_size=6).map(
    lambda ratios: list(accumulate(ratios, mul, initial=1))
)


def worth(coins: Mapping[int, int]) -> int:
    return sum(value * count for value, count in coins.items())


def less(held: Mapping[int, int], spent: Mapping[int, int]) -> dict[int, int]:
    return {value: count - spent.get(value, 0) for value, count in held.items()}


def payable(held: Mapping[int, int]) -> set[int]:
    sums = {0}
    for value, count in held.items():
        sums = {total + value * k for total in sums for k in range(count + 1)}
    return sums


def cost(held: Mapping[int, int], spent: Mapping[int, int]) -> tuple[int, int]:
    return sum(spent.values()), sum(count**2 for count in less(held, spent).values())


def brute_force(amount: int, held: Mapping[int, int]) -> tuple[int, int] | None:
    choices = (dict(zip(held, counts, strict=True)) for counts in product(*(range(n + 1) for n in held.values())))
    return min((cost(held, choice) for choice in choices if worth(choice) == amount), default=None)


@given(small_purses, st.data())
def test_the_choice_is_the_best_one_of_all(held: dict[int, int], data: st.DataObject) -> None:
    amount = data.draw(st.one_of(st.integers(0, worth(held) + 5), st.sampled_from(sorted(payable(held)))))
    best = brute_force(amount, held)
    if best is None:
        with pytest.raises(CannotMakeAmount):
            select_coins(amount, held)
    else:
        spent = select_coins(amount, held)
        assert worth(spent) == amount
        assert all(0 < count <= held[value] for value, count in spent.items())
        assert cost(held, spent) == best


@given(chains, st.data())
def test_the_choice_is_exact_when_each_value_divides_the_next(values: list[int], data: st.DataObject) -> None:
    held = {value: data.draw(st.integers(0, 3)) for value in values}
    sums = payable(held)
    amount = data.draw(st.integers(0, worth(held)))
    if amount in sums:
        assert worth(select_coins(amount, held)) == amount
    else:
        with pytest.raises(CannotMakeAmount):
            select_coins(amount, held)


def test_among_equals_the_most_even_purse_stays() -> None:
    # 12 = 2 + 10 = 5 + 7
    assert select_coins(12, {2: 1, 10: 1, 5: 4, 7: 4}) == {7: 1, 5: 1}
    assert select_coins(12, {2: 4, 10: 4, 5: 1, 7: 1}) == {10: 1, 2: 1}


@given(st.lists(st.integers(TARGET, 5), min_size=1, max_size=7), st.data())
def test_a_purse_with_two_of_each_power_of_two_has_no_holes_after_any_payment(
    counts: list[int], data: st.DataObject
) -> None:
    held = dict(zip(POWERS, counts, strict=False))
    stays = less(held, select_coins(data.draw(st.integers(0, worth(held))), held))
    assert payable(stays) == set(range(worth(stays) + 1))


def test_a_purse_of_single_coins_gets_holes() -> None:
    stays = less({1: 1, 2: 1, 4: 1}, select_coins(1, {1: 1, 2: 1, 4: 1}))
    assert payable(stays) == {0, 2, 4, 6}


@pytest.mark.parametrize("values", [POWERS, SERIES, SERIES[1:], [1, 7, 49, 343], [3, 5, 8, 1000, 4096]])
def test_ten_thousand_coins_are_searched(values: list[int]) -> None:
    source = random.Random(20)
    held = {value: 10_000 // len(values) for value in values}
    for _ in range(5):
        target = {value: source.randint(0, count) for value, count in held.items()}
        amount = worth(target)
        spent = select_coins(amount, held)
        assert worth(spent) == amount
        assert sum(spent.values()) <= sum(target.values())
        assert all(count <= held[value] for value, count in spent.items())


def test_ten_thousand_different_values_do_not_exhaust_the_stack() -> None:
    held = dict.fromkeys(range(20_001, 40_001, 2), 1)
    with pytest.raises(CannotMakeAmount):
        select_coins(worth(held) - 1, held)
    assert select_coins(worth(held), held) == held


def test_a_purse_that_lacks_the_amount_is_told_apart_from_a_search_that_was_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {6: 2, 10: 2, 15: 2}
    with pytest.raises(CannotMakeAmount):
        select_coins(29, held)
    monkeypatch.setattr(selection, "NODE_LIMIT", 2)
    with pytest.raises(SelectionTooHard):
        select_coins(31, held)


def test_arbitrary_large_values_end_within_the_bound() -> None:
    source = random.Random(7)
    values = [source.randrange(1, 2**36) for _ in range(20)]
    held = dict.fromkeys(values, 500)
    with pytest.raises(SelectionTooHard):
        select_coins(worth({value: source.randint(0, 500) for value in values}), held)


def test_the_best_choice_so_far_is_given_when_the_bound_is_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {1: 20, 7: 3, 10: 3}
    assert select_coins(14, held) == {7: 2}
    monkeypatch.setattr(selection, "NODE_LIMIT", 2)
    assert select_coins(14, held) == {10: 1, 1: 4}


@pytest.mark.parametrize("held", [{}, {1: 0}, {5: 3}])
def test_nothing_is_spent_for_nothing(held: dict[int, int]) -> None:
    assert select_coins(0, held) == {}


@pytest.mark.parametrize(("amount", "held"), [(1, {}), (1, {1: 0}), (16, {5: 3}), (4, {5: 3}), (MAX_AMOUNT, {1: 1})])
def test_an_amount_out_of_reach_is_refused(amount: int, held: dict[int, int]) -> None:
    with pytest.raises(CannotMakeAmount):
        select_coins(amount, held)


@pytest.mark.parametrize(
    ("amount", "held"), [(-1, {1: 1}), (MAX_AMOUNT + 1, {1: 1}), (1, {0: 1}), (1, {-1: 1}), (1, {1: -1})]
)
def test_arguments_out_of_bounds_are_the_callers_fault(amount: int, held: dict[int, int]) -> None:
    with pytest.raises(OurError):
        select_coins(amount, held)
    with pytest.raises(OurError):
        choose_denominations(amount, list(held), held)


@given(st.integers(0, 300), st.lists(st.integers(1, 30), max_size=5), small_purses)
def test_a_withdrawal_is_exact_whenever_the_denominations_allow_it(
    amount: int, denominations: list[int], stock: dict[int, int]
) -> None:
    possible = payable({value: amount // value for value in set(denominations)})
    if amount in possible:
        chosen = choose_denominations(amount, denominations, stock)
        assert worth(chosen) == amount
        assert set(chosen) <= set(denominations)
        assert all(count > 0 for count in chosen.values())
    else:
        with pytest.raises(CannotMakeAmount):
            choose_denominations(amount, denominations, stock)


@given(st.integers(1, MAX_AMOUNT), chains)
def test_a_withdrawal_takes_few_coins(amount: int, values: list[int]) -> None:
    chosen = choose_denominations(amount, values)
    assert worth(chosen) == amount
    for value, larger in pairwise(values):
        assert chosen.get(value, 0) <= TARGET + larger // value - 1
    assert chosen.get(values[-1], 0) <= amount // values[-1]


@given(st.integers(0, 500), st.integers(1, 8))
def test_what_is_withdrawn_in_powers_of_two_pays_every_sum(amount: int, kinds: int) -> None:
    assert payable(choose_denominations(amount, POWERS[:kinds])) == set(range(amount + 1))


@given(st.integers(0, 2000), st.dictionaries(st.sampled_from(POWERS[:8]), st.integers(0, 3)))
def test_a_withdrawal_brings_a_purse_to_two_of_each_when_it_can(amount: int, stock: dict[int, int]) -> None:
    lacking = sum(value * max(0, TARGET - stock.get(value, 0)) for value in POWERS[:8])
    assume(amount >= lacking)
    chosen = choose_denominations(amount, POWERS[:8], stock)
    assert all(stock.get(value, 0) + chosen.get(value, 0) >= TARGET for value in POWERS[:8])


def test_a_full_stock_is_not_added_to() -> None:
    assert choose_denominations(8, [1, 2, 4, 8]) == {2: 3, 1: 2}
    assert choose_denominations(8, [8, 4, 2, 1, 1], {1: 2, 2: 2, 4: 2, 8: 2}) == {8: 1}


def test_what_is_set_aside_is_given_up_where_it_bars_the_way() -> None:
    assert choose_denominations(8, [3, 5]) == {5: 1, 3: 1}
    assert choose_denominations(10, [4, 10]) == {10: 1}


@pytest.mark.parametrize(("amount", "denominations"), [(1, []), (7, [3, 5]), (3, [2, 4]), (1, [1000])])
def test_what_cannot_be_withdrawn_is_refused(amount: int, denominations: list[int]) -> None:
    with pytest.raises(SelectionError):
        choose_denominations(amount, denominations)


@pytest.mark.parametrize("denominations", [POWERS, SERIES, [3, 5], [7, 11, 13], [6, 10, 15], [7, 9973, 10_007]])
def test_large_withdrawals_are_exact(denominations: list[int]) -> None:
    for amount in (2**40 + 1, 1_234_567, MAX_AMOUNT):
        assert worth(choose_denominations(amount, denominations)) == amount
