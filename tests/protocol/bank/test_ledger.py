import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bank.ledger import (
    Entry,
    _balanced,
    account_ledger,
    coins_ledger,
    deposit_entries,
    funding_entries,
    withdrawal_entries,
)
from protocol.errors import OurError

A, B = b"\xaa" * 32, b"\xbb" * 32
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


def test_money_that_comes_in_is_owed_to_an_account() -> None:
    assert funding_entries(7, "USD", 500) == (Entry("cash/USD", -500), Entry("account/7", 500))


def test_nothing_is_entered_where_nothing_changes() -> None:
    assert [entry.ledger for entry in withdrawal_entries(7, "USD", {A: 100}, 0)] == [
        account_ledger(7),
        coins_ledger(A),
    ]
    assert [entry.ledger for entry in deposit_entries(7, "USD", {A: 5}, 5)] == [coins_ledger(A), "commission/USD"]


@given(TOTALS, st.integers(0, 2**40))
def test_what_is_entered_sums_to_zero(totals: dict[bytes, int], commission: int) -> None:
    for entries in (
        withdrawal_entries(1, "USD", totals, commission),
        deposit_entries(1, "USD", totals, commission),
        funding_entries(1, "USD", commission),
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
