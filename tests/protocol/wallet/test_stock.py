from collections.abc import Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol import selection
from protocol.commission import NO_COMMISSION, Commission
from protocol.errors import OurError
from protocol.money import MAX_AMOUNT
from protocol.selection import TARGET, SelectionError, select_coins
from protocol.wallet.stock import Ageing, Swap, next_tending, plan_change, plan_stock, plan_tidying, refresh_at

POWERS = [2**k for k in range(10)]
SERIES = [step * 10**k for k in range(3) for step in (1, 2, 5)]
MAX = 100
MANY = 8
DAY = 86_400_000

denominations_of_any_kind = st.one_of(
    st.sampled_from([POWERS, POWERS[:4], POWERS[2:6], SERIES, [1, 10, 100], [3, 5], [6, 10, 15]]),
    st.lists(st.integers(1, 60), max_size=6),
)
commissions = st.one_of(
    st.just(NO_COMMISSION),
    st.builds(Commission, st.integers(0, 5), st.sampled_from([0, 10_000, 300_000]), st.just(0), st.just(0)),
)
power_purses = st.dictionaries(st.sampled_from(POWERS), st.integers(0, 12))


def purses(values: list[int]) -> st.SearchStrategy[dict[int, int]]:
    return st.dictionaries(st.one_of(st.sampled_from([*values, 7]), st.integers(1, 60)), st.integers(0, 12), max_size=7)


def worth(coins: Mapping[int, int]) -> int:
    return sum(value * count for value, count in coins.items())


def size(coins: Mapping[int, int]) -> int:
    return sum(coins.values())


def payable(held: Mapping[int, int]) -> set[int]:
    sums = 1  # bit n: the sum n can be made
    for value, count in held.items():
        for _ in range(count):
            sums |= sums << value
    return {n for n, bit in enumerate(reversed(f"{sums:b}")) if bit == "1"}


def reach(held: Mapping[int, int]) -> int:
    sums = payable(held)
    return next(n for n in range(worth(held) + 1) if n + 1 not in sums)


def pays(amount: int, held: Mapping[int, int], max_coins: int) -> bool:
    try:
        return size(select_coins(amount, held)) <= max_coins
    except SelectionError:
        return False


def check(swap: Swap, held: Mapping[int, int], denominations: list[int], commission: Commission, most: int) -> None:
    """What the bank and the purse ask of every exchange."""
    assert worth(swap.inputs) == worth(swap.outputs) + swap.commission
    assert swap.commission == commission.charge(worth(swap.inputs))
    assert 0 < size(swap.inputs) <= most
    assert 0 < size(swap.outputs) <= most
    assert all(0 < count <= held[value] for value, count in swap.inputs.items())
    assert all(count > 0 for count in swap.outputs.values())
    assert set(swap.outputs) <= set(denominations)
    after = swap.applied(held)
    assert all(
        after.get(value, 0) == held.get(value, 0) - swap.inputs.get(value, 0) + swap.outputs.get(value, 0)
        for value in {*held, *after}
    )
    assert 0 not in after.values()
    for coins in (swap.inputs, swap.outputs):
        assert list(coins) == sorted(coins, reverse=True)


@given(denominations_of_any_kind, commissions, st.integers(1, 30), st.data())
def test_after_the_change_the_amount_can_be_paid(
    denominations: list[int], commission: Commission, most: int, data: st.DataObject
) -> None:
    held = data.draw(purses(denominations))
    amount = data.draw(st.integers(0, worth(held) + 3))
    swap = plan_change(amount, held, denominations, commission, most)
    if pays(amount, held, most):
        assert swap == Swap({}, {}, 0)
    elif swap is not None:
        check(swap, held, denominations, commission, most)
        assert pays(amount, swap.applied(held), most)


@given(power_purses, st.data())
def test_powers_of_two_make_any_amount_by_breaking_the_smallest_coin_that_is_larger_than_what_is_missing(
    held: dict[int, int], data: st.DataObject
) -> None:
    amount = data.draw(st.integers(0, worth(held)))
    assume(not pays(amount, held, MAX))
    swap = plan_change(amount, held, POWERS, NO_COMMISSION, 200)
    assert swap is not None
    assert size(swap.inputs) == 1
    (broken,) = swap.inputs
    missing = amount - max(total for total in payable(held) if total <= amount)
    assert broken > missing
    spared = {value: count for value, count in held.items() if missing < value < broken}
    assert all(amount - missing not in payable(held | {value: held[value] - 1}) for value in spared if held[value])


@given(power_purses, commissions, st.data())
def test_no_change_of_powers_of_two_is_missed_that_the_commission_leaves_room_for(
    held: dict[int, int], commission: Commission, data: st.DataObject
) -> None:
    most = worth(held) - commission.charge(worth(held))
    assume(most > 0 and size(held) <= 200)
    assert plan_change(data.draw(st.integers(0, most)), held, POWERS, commission, 200) is not None


def test_the_change_is_a_stock_that_does_not_show_the_amount() -> None:
    plans = [plan_change(amount, {32: 1}, POWERS, NO_COMMISSION, MAX) for amount in range(1, 32)]
    assert plans == [Swap({32: 1}, {1: 2, 2: 3, 4: 2, 8: 2}, 0)] * 31


def test_what_the_purse_has_is_not_asked_for_again() -> None:
    assert plan_change(7, {1: 1, 2: 2, 16: 1}, POWERS, NO_COMMISSION, MAX) == Swap({16: 1}, {4: 3, 2: 1, 1: 2}, 0)


def test_of_several_coins_the_smallest_that_is_large_enough_is_broken() -> None:
    swap = plan_change(20, {64: 1, 16: 1, 8: 2, 512: 1}, POWERS, NO_COMMISSION, MAX)
    assert swap is not None
    assert swap.inputs == {8: 1}


def test_where_a_stock_does_not_fit_the_missing_coins_are_asked_for() -> None:
    assert plan_change(3, {32: 1}, POWERS, NO_COMMISSION, 9) == Swap({32: 1}, {8: 2, 4: 2, 2: 3, 1: 2}, 0)
    assert plan_change(3, {32: 1}, POWERS, NO_COMMISSION, 8) == Swap({32: 1}, {16: 1, 8: 1, 4: 1, 2: 1, 1: 2}, 0)


def test_as_many_coins_are_broken_as_the_commission_takes() -> None:
    flat = Commission(5, 0, 0, 0)
    swap = plan_change(6, {4: 3}, POWERS, flat, MAX)
    assert swap is not None
    assert swap.inputs == {4: 2}
    assert worth(swap.outputs) == 3
    swap = plan_change(7, {8: 1, 64: 2}, POWERS, flat, MAX)
    assert swap is not None
    assert swap.inputs == {64: 1}
    assert plan_change(9, {4: 3}, POWERS, flat, MAX) is None


def test_a_payment_with_too_many_coins_is_made_of_fewer() -> None:
    swap = plan_change(150, {1: 200}, POWERS, NO_COMMISSION, MAX)
    assert swap is not None
    assert size(swap.inputs) < 60
    assert pays(150, swap.applied({1: 200}), MAX)
    assert plan_change(900, {1: 1000}, POWERS, NO_COMMISSION, MAX) is None


def test_other_denominations_are_given_change_too() -> None:
    swap = plan_change(9, {5: 3}, [3, 5], NO_COMMISSION, MAX)
    assert swap == Swap({5: 3}, {3: 5}, 0)
    assert plan_change(9, {5: 3}, [3, 5], NO_COMMISSION, 4) is None
    assert plan_change(7, {5: 3}, [3, 5], NO_COMMISSION, MAX) is None


@pytest.mark.parametrize(
    ("amount", "held", "denominations", "most"),
    [(9, {8: 1}, POWERS, MAX), (1, {}, POWERS, MAX), (3, {8: 1}, [], MAX), (3, {8: 1}, POWERS, 1), (3, {8: 1}, [8], 9)],
)
def test_what_cannot_be_changed_is_not_planned(
    amount: int, held: dict[int, int], denominations: list[int], most: int
) -> None:
    assert plan_change(amount, held, denominations, NO_COMMISSION, most) is None


def test_a_search_that_is_too_hard_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "NODE_LIMIT", 1)
    assert plan_change(7, {5: 3}, [3, 5], NO_COMMISSION, MAX) is None


def test_coins_worth_more_than_any_amount_are_not_exchanged_at_once() -> None:
    huge = 2**52
    assert plan_tidying({huge: 9}, [1, huge, 2 * huge], NO_COMMISSION, MAX) is None


def test_arguments_out_of_bounds_are_the_callers_fault() -> None:
    for amount, held in ((-1, {1: 1}), (MAX_AMOUNT + 1, {1: 1}), (1, {0: 1}), (1, {1: -1})):
        with pytest.raises(OurError):
            plan_change(amount, held, POWERS, NO_COMMISSION, MAX)


@given(denominations_of_any_kind, commissions, st.integers(1, 30), st.integers(TARGET + 1, 10), st.data())
def test_tidying_is_free_and_leaves_fewer_coins(
    denominations: list[int], commission: Commission, most: int, many: int, data: st.DataObject
) -> None:
    held = data.draw(purses(denominations))
    swap = plan_tidying(held, denominations, commission, most, many)
    if swap is not None:
        check(swap, held, denominations, commission, most)
        after = swap.applied(held)
        assert swap.commission == 0
        assert worth(after) == worth(held)
        assert size(after) < size(held)
        (value,) = swap.inputs
        assert held[value] > many
        assert after[value] >= TARGET
        assert min(swap.outputs) >= value
        if min(denominations) == 1:
            assert reach(after) >= reach(held)


def test_what_lies_about_is_put_together() -> None:
    assert plan_tidying({1: 10}, POWERS, NO_COMMISSION, MAX) == Swap({1: 8}, {2: 2, 4: 1}, 0)
    assert plan_tidying({1: 9}, POWERS, NO_COMMISSION, 4) == Swap({1: 4}, {2: 2}, 0)
    assert plan_tidying({64: 9}, POWERS[:8], NO_COMMISSION, MAX) == Swap({64: 7}, {128: 3, 64: 1}, 0)


@pytest.mark.parametrize(
    ("held", "denominations", "commission"),
    [
        ({1: 8, 2: 8}, POWERS, NO_COMMISSION),
        ({1: 2, 8: 20}, POWERS[:4], NO_COMMISSION),
        ({1: 50}, POWERS, Commission(1, 0, 0, 0)),
        ({1: 50}, [], NO_COMMISSION),
        ({1: 12, 10: 1}, [1, 10, 100], NO_COMMISSION),  # without them a purse could not pay 3
        ({}, POWERS, NO_COMMISSION),
    ],
)
def test_what_is_tidy_or_would_cost_money_is_left(
    held: dict[int, int], denominations: list[int], commission: Commission
) -> None:
    assert plan_tidying(held, denominations, commission, MAX) is None


@given(power_purses, st.integers(0, 12_000))
def test_what_is_stocked_in_powers_of_two_pays_every_sum(held: dict[int, int], up_to: int) -> None:
    steps = 0
    while (swap := plan_stock(held, POWERS, NO_COMMISSION, MAX, up_to)) is not None:
        check(swap, held, POWERS, NO_COMMISSION, MAX)
        assert size(swap.inputs) == 1
        assert reach(swap.applied(held)) > reach(held)
        held = swap.applied(held)
        steps += 1
    assert steps < len(POWERS)
    assert payable(held) >= set(range(min(up_to, worth(held)) + 1))


def test_a_hole_is_filled_from_the_next_larger_coin() -> None:
    assert plan_stock({1: 2, 8: 1, 64: 3}, POWERS, NO_COMMISSION, MAX, 1000) == Swap({8: 1}, {2: 2, 4: 1}, 0)
    assert plan_stock({1: 2, 64: 1}, [1, 64], NO_COMMISSION, MAX, 1000) == Swap({64: 1}, {1: 64}, 0)


@pytest.mark.parametrize(
    ("held", "denominations", "commission", "most", "up_to"),
    [
        ({1: 1, 2: 1, 4: 1}, POWERS, NO_COMMISSION, MAX, 1000),
        ({1: 2, 64: 1}, POWERS, NO_COMMISSION, MAX, 2),
        ({64: 1}, POWERS, Commission(0, 10_000, 0, 0), MAX, 64),
        ({64: 1}, POWERS, NO_COMMISSION, 4, 64),
        ({5: 1}, [3, 5], NO_COMMISSION, MAX, 5),
        ({5: 1}, [], NO_COMMISSION, MAX, 5),
        ({}, POWERS, NO_COMMISSION, MAX, 1000),
    ],
)
def test_a_purse_that_pays_enough_or_cannot_be_mended_is_left(
    held: dict[int, int], denominations: list[int], commission: Commission, most: int, up_to: int
) -> None:
    assert plan_stock(held, denominations, commission, most, up_to) is None


def test_the_small_change_that_costs_nothing_is_made_where_larger_coins_cost_something() -> None:
    assert plan_stock({40: 1, 64: 1}, POWERS, Commission(0, 10_000, 0, 0), MAX, 64) == Swap(
        {40: 1}, {8: 3, 4: 2, 2: 3, 1: 2}, 0
    )


@given(denominations_of_any_kind, st.integers(1, 30), st.integers(0, 3000), st.lists(st.booleans()), st.data())
def test_tidying_and_stocking_come_to_rest_in_any_order(
    denominations: list[int], most: int, up_to: int, order: list[bool], data: st.DataObject
) -> None:
    held = data.draw(purses(denominations))
    steps = 0
    while True:
        plans = [
            plan_tidying(held, denominations, NO_COMMISSION, most, MANY),
            plan_stock(held, denominations, NO_COMMISSION, most, up_to),
        ]
        if order and order.pop():
            plans.reverse()
        swap = plans[0] or plans[1]
        if swap is None:
            return
        held = swap.applied(held)
        steps += 1
        assert steps <= 60


@given(power_purses, st.integers(10, MAX))
def test_at_rest_a_purse_of_powers_of_two_pays_every_sum_and_has_no_heaps(held: dict[int, int], most: int) -> None:
    while swap := (
        plan_tidying(held, POWERS, NO_COMMISSION, most, MANY) or plan_stock(held, POWERS, NO_COMMISSION, MAX, 100_000)
    ):
        held = swap.applied(held)
    assert reach(held) == worth(held)
    assert all(count <= MANY for value, count in held.items() if value < max(POWERS))


@given(power_purses, st.integers(2, MAX), st.integers(TARGET + 1, 10))
def test_no_heap_of_powers_of_two_is_left(held: dict[int, int], most: int, many: int) -> None:
    while swap := plan_tidying(held, POWERS, NO_COMMISSION, most, many):
        held = swap.applied(held)
    assert all(count <= many for value, count in held.items() if value < max(POWERS))


def test_a_coin_is_spent_until_one_date_and_exchanged_until_another() -> None:
    ageing = Ageing(spend_until=10, redeem_until=20)
    assert [(ageing.spendable(now), ageing.exchangeable(now)) for now in (9, 10, 19, 20)] == [
        (True, True),
        (False, True),
        (False, True),
        (False, False),
    ]


def test_a_coin_is_refreshed_in_the_last_quarter_but_not_in_the_last_sixteenth() -> None:
    assert [refresh_at(1600, 0, jitter) for jitter in (0, 500, 1000)] == [1200, 1350, 1500]
    assert refresh_at(7, 7, 500) == 7


@given(st.integers(0, 2**45), st.integers(0, 800 * DAY), st.integers(0, 1000), st.integers(0, 1000))
def test_the_day_of_refreshment_lies_before_the_last_of_spending_and_grows_with_the_draw(
    mint_until: int, life: int, a: int, b: int
) -> None:
    low, high = (refresh_at(mint_until + life, mint_until, jitter) for jitter in sorted((a, b)))
    assert mint_until + life * 3 // 4 <= low <= high <= mint_until + life * 15 // 16


def test_the_stock_is_looked_after_in_one_to_twelve_hours() -> None:
    assert [next_tending(DAY, jitter) - DAY for jitter in (0, 500, 1000)] == [3_600_000, 23_400_000, 43_200_000]
