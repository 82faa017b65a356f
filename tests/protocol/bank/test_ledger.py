import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bank.ledger import (
    Entry,
    _balanced,
    account_ledger,
    coins_ledger,
    deposit_entries,
    exchange_entries,
    funding_entries,
    payout_entries,
    return_entries,
    settlement_entries,
    withdrawal_entries,
)
from protocol.errors import OurError

A, B, C = b"\xaa" * 32, b"\xbb" * 32, b"\xcc" * 32
TOTALS = st.dictionaries(st.binary(min_size=32, max_size=32), st.integers(1, 2**40), min_size=1, max_size=5)


def test_a_withdrawal_turns_what_is_owed_to_an_account_into_coins() -> None:
    assert withdrawal_entries(7, "USD", {B: 200, A: 100}, 3) == (
        Entry("account/7", -303),
        Entry("coins/" + "aa" * 32, 100),
        Entry("coins/" + "bb" * 32, 200),
        Entry("commission/USD", 3),
    )


def test_a_deposit_turns_coins_into_what_is_owed_to_an_account() -> None:
    assert deposit_entries(7, "USD", {B: 200, A: 100}, 3) == (
        Entry("coins/" + "aa" * 32, -100),
        Entry("coins/" + "bb" * 32, -200),
        Entry("account/7", 297),
        Entry("commission/USD", 3),
    )


def test_an_exchange_turns_coins_into_others_and_a_commission() -> None:
    assert exchange_entries("USD", {B: 200, A: 100}, {C: 290}, 10) == (
        Entry("coins/" + "aa" * 32, -100),
        Entry("coins/" + "bb" * 32, -200),
        Entry("coins/" + "cc" * 32, 290),
        Entry("commission/USD", 10),
    )


def test_a_payout_that_is_queued_is_on_its_way() -> None:
    assert payout_entries(7, "USD", 500, 3) == (
        Entry("account/7", -503),
        Entry("clearing/USD", 500),
        Entry("commission/USD", 3),
    )


def test_a_payout_that_has_left_is_no_longer_on_its_way() -> None:
    assert settlement_entries("USD", 500) == (Entry("clearing/USD", -500), Entry("cash/USD", 500))


def test_a_payout_that_came_back_is_owed_again_wherever_it_was() -> None:
    assert return_entries(7, "USD", 500, settled=False) == (Entry("clearing/USD", -500), Entry("account/7", 500))
    assert return_entries(7, "USD", 500, settled=True) == (Entry("cash/USD", -500), Entry("account/7", 500))


@given(st.integers(1, 2**40), st.integers(0, 2**40), st.booleans())
def test_a_payout_that_came_back_costs_its_commission_and_nothing_else(
    amount: int, commission: int, settled: bool
) -> None:
    books: dict[str, int] = {}
    left = settlement_entries("USD", amount) if settled else ()
    back = return_entries(7, "USD", amount, settled=settled)
    for entry in (*payout_entries(7, "USD", amount, commission), *left, *back):
        books[entry.ledger] = books.get(entry.ledger, 0) + entry.amount
    found = {name: amount for name, amount in books.items() if amount}
    assert found == ({"account/7": -commission, "commission/USD": commission} if commission else {})


def test_money_that_comes_in_is_owed_to_an_account() -> None:
    assert funding_entries(7, "USD", 500) == (Entry("cash/USD", -500), Entry("account/7", 500))


def test_nothing_is_entered_where_nothing_changes() -> None:
    assert [entry.ledger for entry in withdrawal_entries(7, "USD", {A: 100}, 0)] == [
        account_ledger(7),
        coins_ledger(A),
    ]
    assert [entry.ledger for entry in deposit_entries(7, "USD", {A: 5}, 5)] == [coins_ledger(A), "commission/USD"]
    assert [entry.ledger for entry in exchange_entries("USD", {A: 5}, {}, 5)] == [coins_ledger(A), "commission/USD"]


@given(TOTALS, st.integers(0, 2**40))
def test_what_is_entered_sums_to_zero(totals: dict[bytes, int], commission: int) -> None:
    for entries in (
        withdrawal_entries(1, "USD", totals, commission),
        deposit_entries(1, "USD", totals, commission),
        exchange_entries("USD", {C: sum(totals.values()) + commission}, totals, commission),
        funding_entries(1, "USD", commission),
        payout_entries(1, "USD", sum(totals.values()), commission),
        settlement_entries("USD", commission),
        return_entries(1, "USD", commission, settled=True),
    ):
        assert sum(entry.amount for entry in entries) == 0
        assert all(entry.amount for entry in entries)
        assert len({entry.ledger for entry in entries}) == len(entries)


@given(TOTALS)
def test_to_deposit_what_was_withdrawn_leaves_the_coins_at_zero(totals: dict[bytes, int]) -> None:
    books: dict[str, int] = {}
    for entry in (*withdrawal_entries(1, "USD", totals, 2), *deposit_entries(2, "USD", totals, 1)):
        books[entry.ledger] = books.get(entry.ledger, 0) + entry.amount
    total = sum(totals.values())
    expected = {"account/1": -total - 2, "account/2": total - 1, "commission/USD": 3}
    assert {name: amount for name, amount in books.items() if amount} == {k: v for k, v in expected.items() if v}


def test_entries_that_do_not_balance_are_our_own_fault() -> None:
    with pytest.raises(OurError):
        _balanced(Entry("account/1", -1), Entry("account/2", 2))
    with pytest.raises(OurError):
        exchange_entries("USD", {A: 100}, {B: 101}, 0)
