"""What the shopkeeper's office shows of the books: the sales by pages, and what they come to."""

import sqlite3
from typing import Final, NamedTuple

import msgspec

from protocol.merchant import refund, sale

from ..order_book import Order, OrderBook
from ..store import MerchantStore, Refundable, SaleRow

_REFUND: Final = msgspec.msgpack.Decoder(refund.RefundState)
STATES: Final[dict[type[sale.SaleState], tuple[str, str]]] = {
    sale.New: ("waiting", "Waiting"),
    sale.Offered: ("waiting", "Waiting"),
    sale.Depositing: ("pending", "With the bank"),
    sale.Sold: ("paid", "Sold"),
    sale.Declined: ("declined", "Declined"),
    sale.Lapsed: ("expired", "Expired"),
}
"""What a sale's state is called: the word that gives its colour, and the one that people read."""


class Entry(NamedTuple):
    """A sale in the list; `order` is None if it was not ordered on the web."""

    row: SaleRow
    refundable: Refundable
    order: Order | None

    @property
    def number(self) -> str:
        """The sale's number: its payment id in hexadecimal."""
        return self.row.payment_id.hex()

    @property
    def state(self) -> tuple[str, str]:
        """What its state is called, as in `STATES`."""
        return STATES[type(self.row.state)]

    @property
    def is_sold(self) -> bool:
        """Whether the bank has accepted the payment."""
        return isinstance(self.row.state, sale.Sold)

    @property
    def left(self) -> int:
        """What can still be granted as a refund, in minor units."""
        return self.row.amount - self.refundable.granted if self.is_sold else 0


class Takings(NamedTuple):
    """What was sold in one currency, in minor units; in so many `sales`; `open` offers nobody has paid yet."""

    currency: str
    sales: int
    sold: int
    refunded: int
    open: int

    @property
    def net(self) -> int:
        """What was sold and not refunded; the bank's commission is not in it."""
        return self.sold - self.refunded


async def page(store: MerchantStore, limit: int, before: str = "") -> tuple[list[Entry], bool]:
    """Return the newest sales, the newest first, and whether there are more.

    Args:
        store: the merchant's.
        limit: how many at most.
        before: the number of the last sale of the page before; an unknown one begins anew.
    """
    after = bytes.fromhex(before) if _is_number(before) else b""

    def read(db: sqlite3.Connection) -> list[bytes]:
        found = db.execute("SELECT begun_at FROM sale WHERE payment_id = ?", (after,)).fetchone()
        where, values = ("WHERE (begun_at, payment_id) < (?, ?)", (found[0], after)) if found else ("", ())
        query = f"SELECT payment_id FROM sale {where} ORDER BY begun_at DESC, payment_id DESC LIMIT ?"  # noqa: S608
        return [row[0] for row in db.execute(query, (*values, limit + 1))]

    ids = await store.read(read)
    return await _entries(store, ids[:limit]), len(ids) > limit


async def entry(store: MerchantStore, number: str) -> Entry | None:
    """Return one sale by its number."""
    found = await _entries(store, [bytes.fromhex(number)]) if _is_number(number) else []
    return found[0] if found else None


def _is_number(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


async def _entries(store: MerchantStore, ids: list[bytes]) -> list[Entry]:
    sales, refundables, book = await store.sales_of(ids), await store.refundables(ids), OrderBook(store)
    return [Entry(sales[one], refundables[one], await book.of_sale(one)) for one in ids if one in sales]


async def takings(store: MerchantStore, since: int = 0) -> list[Takings]:
    """Return what was sold since a time (milliseconds), by currency; refunds count when they were collected."""

    def read(db: sqlite3.Connection) -> list[Takings]:
        query = (
            "SELECT currency, coalesce(sum(NOT open AND NOT lapsed), 0), "
            "coalesce(sum(amount) FILTER (WHERE NOT open AND NOT lapsed), 0), sum(open) "
            "FROM sale WHERE begun_at >= ? GROUP BY currency"
        )
        sums = {row[0]: row[1:] for row in db.execute(query, (since,))}
        refunded: dict[str, int] = {}
        query = "SELECT currency, refund.amount, refund.state FROM refund JOIN sale USING (payment_id) WHERE at >= ?"
        for currency, amount, state in db.execute(query, (since,)):
            if isinstance(_REFUND.decode(state), refund.Refunded):
                refunded[currency] = refunded.get(currency, 0) + amount
        found = []
        for currency in sorted(sums.keys() | refunded.keys()):
            sales, sold, open_now = sums.get(currency, (0, 0, 0))
            found.append(Takings(currency, sales, sold, refunded.get(currency, 0), open_now))
        return found

    return await store.read(read)
