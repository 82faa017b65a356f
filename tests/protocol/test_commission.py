from fractions import Fraction
from math import floor

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.commission import NO_COMMISSION, PARTS, Commission, describe, parse_commission
from protocol.errors import OurError, PeerError
from protocol.money import CURRENCIES, MAX_AMOUNT, MoneyError

amounts = st.integers(0, MAX_AMOUNT)
sums = st.one_of(st.integers(0, 1000), amounts)


@st.composite
def commissions(draw: st.DrawFn) -> Commission:
    minimum = draw(sums)
    maximum = draw(st.one_of(st.just(0), st.integers(minimum, MAX_AMOUNT)))
    return Commission(draw(sums), draw(st.integers(0, PARTS)), minimum, maximum)


@pytest.mark.parametrize(
    ("commission", "amount", "charge"),
    [
        (NO_COMMISSION, MAX_AMOUNT, 0),
        (Commission(2, 0, 0, 0), 1, 2),
        (Commission(0, 10_000, 0, 0), 100, 1),
        (Commission(0, 10_000, 0, 0), 149, 1),
        (Commission(0, 10_000, 0, 0), 150, 2),
        (Commission(0, 1, 0, 0), 1, 0),
        (Commission(0, PARTS, 0, 0), MAX_AMOUNT, MAX_AMOUNT),
        (Commission(2, 10_000, 5, 8), 100, 5),
        (Commission(2, 10_000, 5, 8), 500, 7),
        (Commission(2, 10_000, 5, 8), 5000, 8),
        (Commission(2, 10_000, 5, 8), 0, 0),
    ],
)
def test_a_fraction_is_rounded_to_the_nearest_unit_and_the_bounds_hold(
    commission: Commission, amount: int, charge: int
) -> None:
    assert commission.charge(amount) == charge


@given(commissions(), st.integers(1, MAX_AMOUNT))
def test_the_charge_is_the_exact_one_rounded_and_clamped(commission: Commission, amount: int) -> None:
    exact = commission.flat + floor(Fraction(amount * commission.rate_ppm, PARTS) + Fraction(1, 2))
    highest = commission.maximum or exact + commission.minimum
    assert commission.charge(amount) == sorted((commission.minimum, exact, highest))[1]


@given(commissions(), amounts, amounts)
def test_the_charge_never_falls_and_is_never_negative(commission: Commission, a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert 0 <= commission.charge(low) <= commission.charge(high)
    assert commission.charge(0) == 0


def test_nothing_is_charged_on_a_negative_amount() -> None:
    with pytest.raises(OurError):
        NO_COMMISSION.charge(-1)


@given(
    st.builds(Commission, st.integers(0, 20), st.integers(0, PARTS), st.just(0), st.integers(0, 20)),
    st.integers(1, 100),
    st.integers(0, 10_000),
)
def test_when_the_smallest_coin_pays_for_itself_every_larger_amount_does(
    commission: Commission, smallest: int, more: int
) -> None:
    try:
        commission.check_smallest(smallest)
    except ValueError:
        assert commission.charge(smallest) >= smallest
    else:
        assert commission.charge(smallest) < smallest
        assert commission.charge(smallest + more) < smallest + more


def test_a_coin_that_costs_its_worth_is_refused() -> None:
    Commission(3, 0, 0, 0).check_smallest(4)
    with pytest.raises(ValueError, match="worth 3, but 3"):
        Commission(3, 0, 0, 0).check_smallest(3)


@pytest.mark.parametrize(
    "fields",
    [
        *((-1, 0, 0, 0), (0, -1, 0, 0), (0, 0, -1, 0), (0, 0, 0, -1), (0, 0, 3, 2), (True, 0, 0, 0)),
        *((MAX_AMOUNT + 1, 0, 0, 0), (0, PARTS + 1, 0, 0), (0, 0, MAX_AMOUNT + 1, 0), (0, 0, 0, MAX_AMOUNT + 1)),
    ],
)
def test_an_impossible_policy_is_refused_by_construction_and_by_decoding(fields: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="commission"):
        Commission(*fields)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Commission)


@given(commissions())
def test_a_policy_travels_as_an_array_of_four(commission: Commission) -> None:
    packed = msgspec.msgpack.encode(commission)
    assert msgspec.msgpack.decode(packed, type=Commission) == commission
    assert len(msgspec.msgpack.decode(packed)) == 4


@pytest.mark.parametrize(
    ("text", "commission"),
    [
        ("0", NO_COMMISSION),
        ("none", NO_COMMISSION),
        ("0%", NO_COMMISSION),
        ("0.5%", Commission(0, 5000, 0, 0)),
        ("0.0001%", Commission(0, 1, 0, 0)),
        ("100%", Commission(0, PARTS, 0, 0)),
        ("0.02", Commission(2, 0, 0, 0)),
        ("1% + 0.02", Commission(2, 10_000, 0, 0)),
        ("1% min 0.01 max 5.00", Commission(0, 10_000, 1, 500)),
        ("1% max 5", Commission(0, 10_000, 0, 500)),
        ("0 min 0.05", Commission(0, 0, 5, 0)),
        ("1% + 0.02 USD, at least 0.01 USD, at most 5.00 USD", Commission(2, 10_000, 1, 500)),
    ],
)
def test_an_operators_policy_is_read(text: str, commission: Commission) -> None:
    assert parse_commission(text, "USD") == commission


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "%", "1 %", "-1%", "1%+0.02", "1% 0.02", "0.02 + 1%", "1% + ", " + 0.02", "min 0.01", ", min 1"),
        *("101%", "1000%", "0.00001%", "01%", ".5%", "1.%", "1e2%", "٣%", "0.001", "0.02 EUR", "1% max 0.00", "1..2"),
        *("1% min 2 max 1", "1% max 2 min 1", "1%\n", "None", "x" * 10_000, "1% max 90071992547409.92"),
    ],
)
def test_every_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_commission(text, "USD")
    assert len(str(caught.value)) < 300


@given(st.text(alphabet="0123456789.%+ ,minaxtleosUSD", max_size=40))
def test_no_text_raises_anything_but_a_value_error(text: str) -> None:
    try:
        commission = parse_commission(text, "USD")
    except ValueError:
        return
    assert parse_commission(describe(commission, "USD"), "USD") == commission


def test_the_currency_is_a_known_one() -> None:
    with pytest.raises(MoneyError):
        parse_commission("1%", "XXX")
    with pytest.raises(PeerError):
        describe(Commission(1, 0, 0, 0), "XXX")


@pytest.mark.parametrize(
    ("commission", "text"),
    [
        (NO_COMMISSION, "none"),
        (Commission(0, 5000, 0, 0), "0.5%"),
        (Commission(0, PARTS, 0, 0), "100%"),
        (Commission(2, 0, 0, 0), "0.02 USD"),
        (Commission(0, 0, 5, 0), "0.00 USD, at least 0.05 USD"),
        (Commission(2, 10_000, 1, 500), "1% + 0.02 USD, at least 0.01 USD, at most 5.00 USD"),
    ],
)
def test_a_policy_is_described_for_people(commission: Commission, text: str) -> None:
    assert describe(commission, "USD") == text


@given(commissions(), st.sampled_from(sorted(CURRENCIES)))
def test_what_is_described_is_read_back(commission: Commission, currency: str) -> None:
    assume(commission != NO_COMMISSION)
    assert parse_commission(describe(commission, currency), currency) == commission
