"""Saving a step: durable with the notices of it, and then told to who watches."""

from typing import Final

import msgspec

from protocol.merchant import refund, sale

from .changes import Changes
from .desk import Desk
from .order_book import OrderBook
from .order_json import iso, order_json
from .outbox import Notice, Outbox
from .sights import Sight, sight_of
from .store import Change, RefundRow, SaleRow

_KINDS: Final[dict[type[sale.SaleState], str]] = {
    sale.Sold: "order.paid",
    sale.Declined: "order.declined",
    sale.Lapsed: "order.expired",
}
_REFUNDED: Final = "order.refunded"


class Journal:
    """Through it goes everything that changes a sale of the open shop.

    Args:
        desk: the merchant's.

    Attributes:
        book: the web orders.
        outbox: the webhooks.
        changes: who watches.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.book = OrderBook(desk.store)
        self.outbox = Outbox(desk.store, desk.clock)
        self.changes = Changes()

    async def save(self, change: Change) -> None:
        """Make a step durable, with a notice of it if the shop's system wants to be told; then tell who watches."""
        notices = await self._notices(change) if self._desk.settings.webhook else []
        try:
            await self._desk.store.save(change._replace(notices=notices))
        finally:  # who gives up waiting does not stop the write: whoever is told now reads after it
            for payment_id in {row.payment_id for row in change.sales} | {row.payment_id for row in change.refunds}:
                self.changes.tell(payment_id)
            if notices:
                self.outbox.bell.set()

    async def _notices(self, change: Change) -> list[Notice]:
        """Return what is to be told of a step. The desk's step is held: the store still has what was before."""
        notices: list[Notice] = []
        for row in change.sales:
            before, kind = await self._desk.store.sale(row.payment_id), _KINDS.get(type(row.state))
            if kind and before is not None and type(before.state) is not type(row.state):
                notices += await self._notice(kind, row)
        for refunded in change.refunds:
            paid = await self._desk.store.sale(refunded.payment_id)
            if paid is not None and await self._is_collected_now(refunded):
                notices += await self._notice(_REFUNDED, paid, refunded.amount)
        return notices

    async def _is_collected_now(self, row: RefundRow) -> bool:
        before = await self._desk.store.refund(row.request_id)
        return isinstance(row.state, refund.Refunded) and before is not None and before.open

    async def _notice(self, kind: str, row: SaleRow, collected: int = 0) -> list[Notice]:
        order = await self.book.of_sale(row.payment_id)
        if order is None:
            return []
        desk, so_far = self._desk, await self._desk.store.refundable(row.payment_id)
        refundable = so_far._replace(collected=so_far.collected + collected, under_way=so_far.under_way - collected)
        now, sight = desk.clock.now(), sight_of(desk, order, row, refundable)
        message_id = f"msg_{desk.entropy.bytes(16).hex()}"
        return [Notice(0, message_id, order.id, kind, self._body(kind, now, sight), now, now)]

    def _body(self, kind: str, now: int, sight: Sight) -> bytes:
        data = order_json(sight, self._desk.settings.public_url)
        return msgspec.json.encode({"type": kind, "timestamp": iso(now), "data": data})
