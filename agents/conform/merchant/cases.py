"""All cases for merchants, in the order in which they are run; and the codes that none asks for."""

from typing import Final

from protocol.refusals import Refusal

from ..case import Suite
from . import orders, payments, refunds
from .visit import ShopVisit

UNREACHABLE: Final = {
    Refusal.OVERLOADED: "only a flood, or a shop that is not open yet, brings it about",
    Refusal.UNKNOWN_VERSION: "an envelope of another version is dropped: there is no key to answer with",
    Refusal.WRONG_TYPE: "a letter of another kind is dropped: there is no key to answer with",
}


def merchant_suite() -> Suite[ShopVisit]:
    """Return the suite for merchants. What the shop has followed and sold stays so: it is run in order."""
    return Suite[ShopVisit].joined("merchant", orders.suite, payments.suite, refunds.suite)
