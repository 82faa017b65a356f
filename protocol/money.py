"""Money as integers in minor units of an ISO 4217 currency; there are no floats and no rounding here.

Amount(1234, "USD")     str() -> "12.34 USD"     parse_amount("12.34 USD") -> Amount(1234, "USD")
"""

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Final

from .errors import OurError, PeerError
from .refusals import Refusal

# Every integer up to here survives a JSON reader that keeps numbers as doubles (RFC 8259 §6).
MAX_AMOUNT: Final = 2**53 - 1

_CODES: Final = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """
        AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
        CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD
        HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK
        MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD
        RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH
        USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG
    """,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
# ISO 4217 list one as of January 2026. Codes without a minor unit (metals, XDR, XTS, XXX …) are left out.
CURRENCIES: Final[dict[str, int]] = {code: digits for digits, codes in _CODES.items() for code in codes.split()}

# One spelling only: no sign, no leading zero, no lone point. Sixteen digits hold MAX_AMOUNT.
_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]{0,15})(?:\.([0-9]+))?(?: ([A-Z]{3}))?")
_LONGEST_TEXT: Final = 40


class MoneyError(ValueError):
    """A text or a number is not money; the message is a sentence that says what is accepted."""


def exponent(currency: str) -> int:
    """Number of digits of the currency's minor unit: 2 for USD, 0 for JPY.

    Raises:
        PeerError: `wrong_currency`, the code is not in `CURRENCIES`.
    """
    digits = CURRENCIES.get(currency)
    if digits is None:
        raise PeerError(Refusal.WRONG_CURRENCY, f"{currency[:8]!a} is not an ISO 4217 currency code")
    return digits


def format_minor(value: int, currency: str) -> str:
    """Signed minor units for people: `-5` of USD is `-0.05 USD`.

    Raises:
        PeerError: `wrong_currency`.
    """
    digits = exponent(currency)
    sign = "-" if value < 0 else ""
    whole, part = divmod(abs(value), 10**digits)
    fraction = f".{part:0{digits}}" if digits else ""
    return f"{sign}{whole}{fraction} {currency}"


@total_ordering
@dataclass(frozen=True, slots=True)
class Amount:
    """Money of one currency, never negative.

    Attributes:
        value: minor units, 0 to `MAX_AMOUNT`.
        currency: a code of `CURRENCIES`.

    Raises:
        MoneyError: the value is no integer or out of bounds. It is a ValueError, so that a decoder reports it as
            an invalid message.
        PeerError: `wrong_currency`.
    """

    value: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.value) is not int or not 0 <= self.value <= MAX_AMOUNT:
            raise MoneyError(f"an amount is an integer from 0 to {MAX_AMOUNT} minor units")
        exponent(self.currency)

    def __str__(self) -> str:
        return format_minor(self.value, self.currency)

    def __add__(self, other: "Amount") -> "Amount":
        """The sum.

        Raises:
            OurError: the currencies differ, or the sum is more than `MAX_AMOUNT`.
        """
        return self._with(self.value + self._same_currency(other))

    def __sub__(self, other: "Amount") -> "Amount":
        """The difference.

        Raises:
            OurError: the currencies differ, or the difference is negative.
        """
        return self._with(self.value - self._same_currency(other))

    def __lt__(self, other: "Amount") -> bool:
        """Order within one currency.

        Raises:
            OurError: the currencies differ.
        """
        return self.value < self._same_currency(other)

    def _same_currency(self, other: "Amount") -> int:
        if self.currency != other.currency:
            raise OurError(f"{self.currency} and {other.currency} do not mix")
        return other.value

    def _with(self, value: int) -> "Amount":
        if not 0 <= value <= MAX_AMOUNT:
            raise OurError(f"{value} minor units are not an amount")
        return Amount(value, self.currency)


def parse_amount(text: str, currency: str | None = None) -> Amount:
    """Read what a person wrote: `12.34 USD`, or `12.34` when the currency is given.

    Args:
        text: ASCII digits without signs, separators or leading zeros; then, if any, a point and at most as many
            digits as the currency has; then, if any, one space and the code.
        currency: the currency that the text is in. A code in the text must be the same.

    Raises:
        MoneyError: anything else, or more than `MAX_AMOUNT` minor units.
    """
    shown = ascii(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…")
    match = _AMOUNT.fullmatch(text)
    if match is None:
        example = format_minor(1234, currency if currency in CURRENCIES else "USD")
        raise MoneyError(
            f"{shown} is not an amount: write digits, a point if need be, one space and the currency's code, "
            f"such as {example}"
        )
    whole, fraction, code = match[1], match[2] or "", match[3] or currency
    if code is None:
        raise MoneyError(f"{shown} names no currency: write its code after one space, such as {whole} USD")
    if code not in CURRENCIES:
        raise MoneyError(f"{code[:8]!a} is not an ISO 4217 currency code, such as USD")
    if currency not in (None, code):
        raise MoneyError(f"{shown} is not in {currency}, the currency that is accepted here")
    digits = CURRENCIES[code]
    if len(fraction) > digits:
        raise MoneyError(f"{shown} is too fine: {code} has at most {digits} digits after the point")
    value = int(whole + fraction.ljust(digits, "0"))
    if value > MAX_AMOUNT:
        raise MoneyError(f"{shown} is too much: at most {format_minor(MAX_AMOUNT, code)} is accepted")
    return Amount(value, code)
