"""A bank's commission on one side of its business, from clients or from merchants.

The one rounding rule: to the nearest minor unit, a half in the bank's favour. All arithmetic is on
integers, so that everybody who reads the policy computes the same charge.
"""

import re
from typing import Final

import msgspec

from .errors import OurError
from .money import MAX_AMOUNT, MoneyError, format_minor, parse_amount

PARTS: Final = 1_000_000  # a rate is in parts per million: four decimals of a percent

_PERCENT_DIGITS: Final = 4
_PERCENT: Final = rf"(?:0|[1-9][0-9]{{0,2}})(?:\.[0-9]{{1,{_PERCENT_DIGITS}}})?"
_SUM: Final = r"[0-9.]{1,20}(?: [A-Z]{3})?"
_POLICY: Final = re.compile(
    rf"(?:(?P<rate>{_PERCENT})%)?(?:(?(rate) \+ )(?P<flat>{_SUM}))?"
    rf"(?:,? (?:min|at least) (?P<minimum>{_SUM}))?"
    rf"(?:,? (?:max|at most) (?P<maximum>{_SUM}))?"
)


class Commission(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is charged for an amount; published with the keys.

    Attributes:
        flat: minor units, 0 to `MAX_AMOUNT`.
        rate_ppm: parts per million of the amount, 0 to `PARTS`.
        minimum: minor units, 0 to `MAX_AMOUNT`.
        maximum: minor units, not less than the minimum; 0 means that there is none.

    Raises:
        ValueError: a field is out of bounds.
    """

    flat: int
    rate_ppm: int
    minimum: int
    maximum: int

    def __post_init__(self) -> None:
        for name, most in (("flat", MAX_AMOUNT), ("rate_ppm", PARTS), ("minimum", MAX_AMOUNT), ("maximum", MAX_AMOUNT)):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= most:
                raise ValueError(
                    f"a commission's {name.replace('_ppm', ' in parts per million')} is an integer from 0 to {most}"
                )
        if 0 < self.maximum < self.minimum:
            raise ValueError("a commission's maximum is not less than its minimum")

    def charge(self, amount: int) -> int:
        """The commission on an amount, both in minor units; nothing is charged for nothing.

        It never falls when the amount grows. It may be more than the amount: see `check_smallest`.

        Raises:
            OurError: the amount is negative.
        """
        if amount < 0:
            raise OurError("there is no commission on a negative amount")
        if amount == 0:
            return 0
        share = (amount * self.rate_ppm + PARTS // 2) // PARTS
        charge = max(self.flat + share, self.minimum)
        return min(charge, self.maximum) if self.maximum else charge

    def check_smallest(self, smallest: int) -> None:
        """Check that the smallest coin is worth more than what it costs to spend it.

        When that holds, it holds for every larger amount too: the charge grows by at most 1 with each unit.

        Args:
            smallest: value of the smallest coin in minor units.

        Raises:
            ValueError: a deposit of this coin alone would leave nothing.
        """
        charge = self.charge(smallest)
        if charge >= smallest:
            raise ValueError(f"the smallest coin is worth {smallest}, but {charge} would be charged to deposit it")


NO_COMMISSION: Final = Commission(0, 0, 0, 0)


def parse_commission(text: str, currency: str) -> Commission:
    """Read an operator's policy, such as `0`, `0.5%`, `0.02`, `1% + 0.02` or `1% min 0.01 max 5.00`.

    Also read is all that `describe` writes.

    Args:
        text: a rate in percent with at most four decimals, ` + `, a flat sum; at least one of the two. Then the
            bounds, if any. Sums are as in `parse_amount`.
        currency: the bank's currency.

    Raises:
        ValueError: the text is anything else, or the policy is impossible.
    """
    if text == "none":
        text = "0"
    match = _POLICY.fullmatch(text)
    if match is None or (match["rate"] is None and match["flat"] is None):
        raise MoneyError(
            f"{text[:80]!a} is not a commission: write a rate, a sum or both, and bounds if any, "
            "such as 1% + 0.02 min 0.01 max 5.00"
        )
    flat, minimum, maximum = (
        parse_amount(match[name] or "0", currency).value for name in ("flat", "minimum", "maximum")
    )
    if match["maximum"] is not None and maximum == 0:
        raise MoneyError("a commission of at most 0 is written as none")
    whole, _, fraction = (match["rate"] or "0").partition(".")
    return Commission(flat, int(whole + fraction.ljust(_PERCENT_DIGITS, "0")), minimum, maximum)


def describe(commission: Commission, currency: str) -> str:
    """A policy for people, such as `1% + 0.02 USD, at least 0.01 USD, at most 5.00 USD`, or `none`.

    Raises:
        PeerError: `wrong_currency`.
    """
    if commission == NO_COMMISSION:
        return "none"
    terms = []
    if commission.rate_ppm:
        whole, part = divmod(commission.rate_ppm, PARTS // 100)
        terms.append(f"{whole}.{part:0{_PERCENT_DIGITS}}".rstrip("0").rstrip(".") + "%")
    if commission.flat or not terms:
        terms.append(format_minor(commission.flat, currency))
    text = " + ".join(terms)
    if commission.minimum:
        text += f", at least {format_minor(commission.minimum, currency)}"
    if commission.maximum:
        text += f", at most {format_minor(commission.maximum, currency)}"
    return text
