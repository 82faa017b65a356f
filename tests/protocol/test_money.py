import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import OurError, PeerError
from protocol.money import CURRENCIES, MAX_AMOUNT, Amount, MoneyError, exponent, format_minor, parse_amount
from protocol.refusals import Refusal

currencies = st.sampled_from(sorted(CURRENCIES))
values = st.integers(0, MAX_AMOUNT)
amounts = st.builds(Amount, values, currencies)


@pytest.mark.parametrize(
    ("currency", "digits"), [("JPY", 0), ("USD", 2), ("EUR", 2), ("KWD", 3), ("CLF", 4), ("XAF", 0), ("XCG", 2)]
)
def test_a_currency_has_the_minor_unit_of_iso_4217(currency: str, digits: int) -> None:
    assert exponent(currency) == digits


def test_every_code_is_three_capital_letters_and_written_once() -> None:
    assert len(CURRENCIES) == 165
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in CURRENCIES)


@pytest.mark.parametrize("currency", ["XXX", "XAU", "XDR", "XTS", "DEM", "BGN", "usd", "", "US", "ÜSD" * 1000])
def test_what_is_no_currency_with_a_minor_unit_is_refused(currency: str) -> None:
    with pytest.raises(PeerError) as caught:
        exponent(currency)
    assert caught.value.refusal is Refusal.WRONG_CURRENCY
    assert len(caught.value.detail) < 120


@given(amounts)
def test_what_is_written_is_read_back(amount: Amount) -> None:
    assert parse_amount(str(amount)) == amount
    assert parse_amount(str(amount), amount.currency) == amount
    assert parse_amount(str(amount).removesuffix(f" {amount.currency}"), amount.currency) == amount


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("12", 1200), ("12.3", 1230), ("12.34", 1234), ("0.05", 5), ("12 USD", 1200), ("0.0", 0)],
)
def test_trailing_zeros_may_be_left_out(text: str, value: int) -> None:
    assert parse_amount(text, "USD") == Amount(value, "USD")


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", ".5", "5.", "1.2.3", "+1", "-1", "1e3", "1E3", "NaN", "inf", "0x10", "1_000", "1,000"),
        *("1,5", "1 000", " 1", "1 ", "1\n", "1.00\n", "1\t USD", "1  USD", "1 USD ", "1USD", "USD 1", "1 usd"),
        *("007", "00.5", "٣", "１", "1.٣", "²", "1 USDT", "1 US", "$1", "1\x00", "9" * 17, "9" * 10_000),
    ],
)
def test_every_other_spelling_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(MoneyError, match=r"such as 12\.34 USD") as caught:
        parse_amount(text, "USD")
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 400


@given(st.text(alphabet="0123456789.,+-eE_ \t\n\x00²٣１USDJPYKW", max_size=50), st.one_of(st.none(), currencies))
def test_no_text_raises_anything_else(text: str, currency: str | None) -> None:
    try:
        amount = parse_amount(text, currency)
    except MoneyError:
        return
    assert currency in (None, amount.currency)


@pytest.mark.parametrize(
    ("text", "currency", "reason"),
    [
        ("1.234 USD", None, "at most 2 digits"),
        ("1.0", "JPY", "at most 0 digits"),
        ("1.2345", "KWD", "at most 3 digits"),
        ("1", None, "names no currency"),
        ("1 XXX", None, "not an ISO 4217"),
        ("1", "XXX", "not an ISO 4217"),
        ("?", "XXX", r"such as 12\.34 USD"),
        ("?", "JPY", "such as 1234 JPY"),
        ("1 EUR", "USD", "not in USD"),
        (f"{MAX_AMOUNT + 1} JPY", None, f"at most {MAX_AMOUNT} JPY"),
        (f"{MAX_AMOUNT}.00 USD", None, r"at most 90071992547409\.91 USD"),
    ],
)
def test_the_reason_is_told(text: str, currency: str | None, reason: str) -> None:
    with pytest.raises(MoneyError, match=reason):
        parse_amount(text, currency)


def test_the_largest_amount_is_read() -> None:
    assert parse_amount("90071992547409.91 USD").value == MAX_AMOUNT


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        (-5, "USD", "-0.05 USD"),
        (5, "KWD", "0.005 KWD"),
        (-1234, "JPY", "-1234 JPY"),
        (0, "CLF", "0.0000 CLF"),
        (100, "EUR", "1.00 EUR"),
    ],
)
def test_minor_units_are_written_with_the_sign_in_front(value: int, currency: str, text: str) -> None:
    assert format_minor(value, currency) == text


@given(values, currencies)
def test_a_negative_value_is_written_as_the_positive_one_after_a_minus(value: int, currency: str) -> None:
    assert format_minor(-value, currency) == ("-" if value else "") + format_minor(value, currency)


@pytest.mark.parametrize("value", [-1, MAX_AMOUNT + 1, True, 1.0, "1", None])
def test_an_amount_is_a_bounded_integer(value: int) -> None:
    with pytest.raises(MoneyError):
        Amount(value, "USD")


def test_an_amount_has_a_known_currency() -> None:
    with pytest.raises(PeerError):
        Amount(1, "XXX")


def test_a_decoder_reports_a_bad_value_as_invalid() -> None:
    assert msgspec.json.decode(b'{"value": 5, "currency": "USD"}', type=Amount) == Amount(5, "USD")
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"value": -5, "currency": "USD"}', type=Amount)


@given(values, values, currencies)
def test_sums_and_differences_are_those_of_the_integers(a: int, b: int, currency: str) -> None:
    low, high = Amount(min(a, b), currency), Amount(max(a, b), currency)
    assert (high - low).value == high.value - low.value
    assert low + (high - low) == high
    if a + b <= MAX_AMOUNT:
        assert low + high == high + low == Amount(a + b, currency)
    else:
        with pytest.raises(OurError):
            low + high


def test_a_difference_is_never_negative() -> None:
    with pytest.raises(OurError):
        Amount(1, "USD") - Amount(2, "USD")


@given(values, values, currencies)
def test_the_order_is_that_of_the_integers(a: int, b: int, currency: str) -> None:
    left, right = Amount(a, currency), Amount(b, currency)
    assert (left < right, left <= right, left > right, left >= right) == (a < b, a <= b, a > b, a >= b)


def test_currencies_do_not_mix() -> None:
    dollar, euro = Amount(100, "USD"), Amount(100, "EUR")
    assert dollar != euro
    for operation in ("__add__", "__sub__", "__lt__", "__le__", "__gt__", "__ge__"):
        with pytest.raises(OurError, match="do not mix"):
            getattr(dollar, operation)(euro)
