"""What can be seen of a web order, and the link that it is paid by."""

from contextlib import suppress
from typing import Final, NamedTuple

from protocol.merchant import sale
from protocol.payment_link import PaymentLink

from ..home import HomeError
from .desk import Desk
from .offers import offered
from .order_book import Order
from .store import Refundable, SaleRow

_STAGES: Final[dict[type[sale.SaleState], str]] = {
    sale.New: "waiting",
    sale.Offered: "waiting",
    sale.Depositing: "paid",
    sale.Sold: "accepted",
    sale.Declined: "declined",
    sale.Lapsed: "expired",
}
PAYABLE: Final = (sale.Offered, sale.Declined)


class Sight(NamedTuple):
    """Everything that a page shows of an order.

    `stage` is `waiting` (for a payment), `paid` (it is with the bank), `accepted` (sold), `declined` (the bank has
    refused; the offer stands for another payment until it ends) or `expired`. `link` is the payment link's text while
    the order can be paid.
    """

    order: Order
    sale: SaleRow
    refundable: Refundable
    stage: str
    link: str = ""


def sight_of(desk: Desk, order: Order, row: SaleRow, refundable: Refundable) -> Sight:
    """Put together what can be seen of an order."""
    link = ""
    if isinstance(row.state, PAYABLE):
        with suppress(HomeError):  # the settings do not name the bank any more: nobody can pay
            link = str(link_of(desk, row))
    return Sight(order, row, refundable, _STAGES[type(row.state)], link)


def link_of(desk: Desk, row: SaleRow) -> PaymentLink:
    """Return the link that a sale is paid by.

    Raises:
        HomeError: if the settings do not name its bank any more.
    """
    if isinstance(row.state, sale.New):
        raise KeyError(row.payment_id.hex())
    bank = offered(row.state).bank
    address = desk.settings.addresses.get(bank)
    if address is None:
        raise HomeError(f"the settings do not name bank {bank} any more")
    fingerprint = bytes.fromhex(address.fingerprint)
    return PaymentLink.of(desk.settings.name, bank, fingerprint, address.broker.public, row.state.offer.payreq)
