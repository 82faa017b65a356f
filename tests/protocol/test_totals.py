from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerError
from protocol.keyset import Keyset
from protocol.messages import Signed
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.totals import DenominationTotal, Outstanding, Totals, check_growth, open_totals, sums
from tests.world import BANK, NOW, VALUES, alter, seed
from tests.world import world as make_world

WORLD = make_world()
CENTS, EUROS = WORLD.ids["USD", 100], WORLD.ids["EUR", 100]
TOTALS = Totals(BANK, WORLD.keyset.hash, 17, NOW, (DenominationTotal(CENTS, 30, 12), DenominationTotal(EUROS, 4, 4)))


def successor(keyset: Keyset) -> Keyset:
    return msgspec.structs.replace(keyset, number=keyset.number + 1, chain=(*keyset.chain, keyset.hash))


def signed(totals: Totals, by: bytes = WORLD.identity_seed) -> Signed:
    return Signed.make(by, Domain.TOTALS, totals)


def with_first(**fields: Any) -> Totals:
    first, *rest = TOTALS.denominations
    return msgspec.structs.replace(TOTALS, denominations=(msgspec.structs.replace(first, **fields), *rest))


def refusal_of(statement: Signed, keyset: Keyset = WORLD.keyset) -> Refusal:
    with pytest.raises(PeerError) as caught:
        open_totals(statement, keyset)
    return caught.value.refusal


def test_anybody_with_the_keyset_checks_the_totals() -> None:
    assert open_totals(signed(TOTALS), WORLD.keyset) == TOTALS


def test_totals_stay_good_under_later_keysets() -> None:
    later = successor(successor(WORLD.keyset))
    assert open_totals(signed(TOTALS), later) == TOTALS


def test_totals_of_a_keyset_that_is_not_in_the_chain_are_foreign() -> None:
    assert refusal_of(signed(alter(TOTALS, "keyset"))) is Refusal.FOREIGN_KEYSET
    ahead = alter(TOTALS, "keyset", successor(WORLD.keyset).hash)
    assert refusal_of(signed(ahead)) is Refusal.FOREIGN_KEYSET


@pytest.mark.parametrize("field", Totals.__struct_fields__)
def test_totals_with_one_field_altered_are_refused(field: str) -> None:
    statement = signed(TOTALS)
    changed = with_first(minted=31) if field == "denominations" else alter(TOTALS, field)
    assert refusal_of(Signed(changed.encode(), statement.signature)) is Refusal.BAD_SIGNATURE


def test_totals_are_signed_by_the_bank_and_about_it() -> None:
    assert refusal_of(signed(TOTALS, by=seed("eve"))) is Refusal.BAD_SIGNATURE
    assert refusal_of(Signed.make(WORLD.identity_seed, Domain.PROOF, TOTALS)) is Refusal.BAD_SIGNATURE
    assert refusal_of(signed(alter(TOTALS, "bank", "south"))) is Refusal.WRONG_BANK


def test_a_denomination_that_is_not_announced_or_stands_twice_is_refused() -> None:
    assert refusal_of(signed(with_first(denomination=bytes(32)))) is Refusal.UNKNOWN_DENOMINATION
    assert refusal_of(signed(with_first(denomination=EUROS))) is Refusal.UNKNOWN_DENOMINATION


def test_no_more_coins_come_back_than_went_out() -> None:
    assert open_totals(signed(with_first(spent=30)), WORLD.keyset)
    assert refusal_of(signed(with_first(spent=31))) is Refusal.AMOUNT_MISMATCH


def test_what_is_no_statement_is_malformed() -> None:
    garbage = Signed.make(WORLD.identity_seed, Domain.TOTALS, DenominationTotal(CENTS, 1, 1))
    assert refusal_of(garbage) is Refusal.MALFORMED


# ---------------------------------------------------------------- growth


def later(totals: Totals) -> Totals:
    return msgspec.structs.replace(totals, journal=totals.journal + 1)


def growth_refused(before: Totals, after: Totals, keyset: Keyset = WORLD.keyset) -> bool:
    try:
        check_growth(before, after, keyset)
    except PeerError as error:
        return error.refusal is Refusal.AMOUNT_MISMATCH
    return False


def test_totals_may_stay_or_grow() -> None:
    first_only = alter(TOTALS, "denominations", TOTALS.denominations[:1])
    assert not growth_refused(TOTALS, TOTALS)
    assert not growth_refused(TOTALS, alter(TOTALS, "at", NOW + 1))
    assert not growth_refused(TOTALS, later(with_first(minted=31, spent=13)))
    assert not growth_refused(first_only, later(TOTALS))


@pytest.mark.parametrize(
    "after",
    [
        with_first(minted=29),
        with_first(spent=11),
        with_first(minted=29, spent=13),
        alter(TOTALS, "denominations", TOTALS.denominations[1:]),
        alter(TOTALS, "denominations", TOTALS.denominations[:1]),
    ],
    ids=["minted", "spent", "both", "first gone", "last gone"],
)
def test_nothing_is_ever_taken_back(after: Totals) -> None:
    assert growth_refused(TOTALS, later(after))


def test_the_journal_does_not_become_shorter() -> None:
    assert growth_refused(TOTALS, alter(TOTALS, "journal", 16))


def test_the_journal_through_one_entry_has_one_account() -> None:
    assert growth_refused(TOTALS, with_first(minted=31))
    assert growth_refused(alter(TOTALS, "denominations", TOTALS.denominations[:1]), TOTALS)


def test_a_denomination_may_be_missing_when_the_keyset_holds_it_no_more() -> None:
    left = tuple(one for one in WORLD.keyset.denominations if one.id != CENTS)
    keyset = msgspec.structs.replace(successor(WORLD.keyset), denominations=left)
    without = alter(TOTALS, "denominations", TOTALS.denominations[1:])
    assert not growth_refused(TOTALS, without, keyset)
    assert not growth_refused(TOTALS, later(without), keyset)
    assert growth_refused(TOTALS, later(alter(TOTALS, "denominations", ())), keyset)


# ---------------------------------------------------------------- sums


def test_sums_are_by_currency_in_minor_units() -> None:
    found = sums(TOTALS, WORLD.keyset)
    assert found == {"USD": Outstanding(3000, 1200), "EUR": Outstanding(400, 400)}
    assert {currency: one.outstanding for currency, one in found.items()} == {"USD": 1800, "EUR": 0}


COUNTS = st.integers(0, 10**9)


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=len(VALUES), max_size=len(VALUES)))
def test_what_is_outstanding_is_the_value_of_the_coins_that_did_not_come_back(counts: list[tuple[int, int]]) -> None:
    pairs = dict(zip(VALUES, counts, strict=True))
    rows = tuple(DenominationTotal(WORLD.ids[pair], spent + more, spent) for pair, (spent, more) in pairs.items())
    found = sums(alter(TOTALS, "denominations", rows), WORLD.keyset)
    for currency in ("USD", "EUR"):
        expected = sum(value * more for (of, value), (_, more) in pairs.items() if of == currency)
        assert found[currency].outstanding == expected
