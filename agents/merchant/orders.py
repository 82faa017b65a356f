"""Sales that are begun by the shop's web server, and watched by it until the goods go out."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec

from protocol.codec import MAX_TEXT
from protocol.errors import PeerError
from protocol.merchant import sale
from protocol.messages import OrderLine
from protocol.money import MAX_AMOUNT, format_minor
from protocol.payment_link import PaymentLink
from protocol.refusals import Refusal

from ..trace import point
from .changes import Bell
from .desk import Desk, Result, alarms
from .home import DOWNLOAD
from .journal import Journal
from .offers import Basket, Ware, basket, begin, from_catalogue
from .order_book import Order, Placed
from .sights import Sight, link_of, sight_of
from .store import Change, SaleRow
from .urls import is_web_url

__all__ = ["Line", "Order", "Orders", "Sight"]

_MAX_LINES: Final = 50
_MAX_QUANTITY: Final = 10_000
_MAX_LABEL: Final = 120
_MAX_KEY: Final = 255
_FOREVER: Final = 2**53 - 1
_MOST: Final = 1000
_Wanted: TypeAlias = Annotated[tuple[OrderLine, ...], msgspec.Meta(min_length=1, max_length=_MAX_LINES)]


class Line(NamedTuple):
    """One line of an order as the shop's own system has it.

    `text` is what the buyer reads (1–120 printable characters), `price` that of one, in minor units. `goods` goes to
    the buyer with the receipt; `file` is the name of a file in the home's folder of goods, to be downloaded.
    """

    text: str
    price: int
    quantity: int = 1
    goods: str = ""
    file: str = ""


class Orders:
    """The web orders of a merchant that is open.

    Args:
        desk, journal: the merchant's.
        let_out: sets the alarms of a step.
    """

    def __init__(self, desk: Desk, journal: Journal, let_out: Callable[[Result], Awaitable[object]]) -> None:
        self._desk = desk
        self._journal = journal
        self._book = journal.book
        self._let_out = let_out

    async def choose(
        self, bank: str, wanted: Sequence[OrderLine], buyer: bytes, admit: Callable[[], Awaitable[None]] | None = None
    ) -> Sight:
        """Begin a sale of what a browser has chosen from the catalogue.

        Args:
            bank: whose coins it is to be paid with; "" for the only bank of the first item's currency.
            wanted: what, and how many of it.
            buyer: SHA-256 of the browser's cookie.
            admit: is asked while nothing else is ordered; what it raises refuses the order.

        Raises:
            PeerError: `MALFORMED`, `UNKNOWN_ITEM` or `WRONG_BANK`.
        """
        try:
            lines = msgspec.convert([[line.sku, line.quantity] for line in wanted], _Wanted)
        except msgspec.ValidationError as error:
            raise PeerError(Refusal.MALFORMED, f"that is no order: {error}") from error
        first = self._desk.catalog.get(lines[0].sku)
        if first is None:
            raise PeerError(Refusal.UNKNOWN_ITEM, f"the catalogue has no {lines[0].sku}")
        bank = self._bank(bank, "" if bank else first.item.currency)
        chosen = from_catalogue(self._desk, self._desk.trust(bank).certificate.currency, lines)
        async with self._desk.step:
            if admit is not None:
                await admit()
            return await self._begin(bank, chosen, buyer=buyer)

    async def place(
        self,
        bank: str,
        currency: str,
        lines: Sequence[Line],
        *,
        reference: str = "",
        return_url: str = "",
        idempotency_key: str = "",
    ) -> tuple[Sight, bool]:
        """Begin a sale of what the shop's own system asks for; no browser has claimed it yet.

        Args:
            bank: whose coins it is to be paid with; "" for the only bank of this currency.
            currency: the ISO 4217 code of the prices.
            lines: 1 to 50.
            reference: the system's own number, at most 120 characters.
            return_url: where the page sends the buyer afterwards (http or https).
            idempotency_key: of at most 255 characters; the same order with the same key is placed once.

        Returns:
            The order, and whether it was made now.

        Raises:
            PeerError: `MALFORMED`, `WRONG_BANK`, `WRONG_CURRENCY`, `UNKNOWN_ITEM` (no such file), or
                `REQUEST_ID_REUSED` if another order was placed with this key.
        """
        _check(_is_plain(bank) and _is_plain(currency), "bank and currency are plain names")
        wanted = basket(currency, [self._ware(line) for line in _checked(lines)])
        _check(len(reference) <= _MAX_LABEL and _is_plain(reference), "the reference has up to 120 characters")
        _check(not return_url or is_web_url(return_url), "return_url is no http or https URL of up to 500 characters")
        _check(
            len(idempotency_key) <= _MAX_KEY and _is_plain(idempotency_key),
            "the idempotency key has up to 255 characters",
        )
        content = hashlib.sha256(msgspec.msgpack.encode([bank, currency, list(lines), reference, return_url])).digest()
        async with self._desk.step:
            known = await self._book.with_key(idempotency_key) if idempotency_key else None
            if known is not None:
                if known[1] != content:
                    raise PeerError(Refusal.REQUEST_ID_REUSED, "another order was placed with this idempotency key")
                return await self._sight(known[0]), False
            bank = self._bank(bank, currency)
            key, order = idempotency_key, (reference, return_url)
            return await self._begin(bank, wanted, order, key=key, content=content), True

    def _bank(self, bank: str, currency: str) -> str:
        """Return the bank that was named, if the shop takes its coins, or the only one of a currency."""
        if bank:
            its = self._desk.trust(bank).certificate.currency
            if currency not in ("", its):
                raise PeerError(Refusal.WRONG_CURRENCY, f"bank {bank} has {its}, not this currency")
            return bank
        found = [name for name, trust in self._desk.banks.items() if trust.certificate.currency == currency]
        if len(found) != 1:
            which = f"name the bank: {', '.join(sorted(found))}" if found else "this shop has no bank of this currency"
            raise PeerError(Refusal.WRONG_BANK, which)
        return found[0]

    def _ware(self, line: Line) -> Ware:
        if line.file and not self._desk.catalog.has_file(line.file):
            raise PeerError(Refusal.UNKNOWN_ITEM, "the folder of goods has no file of this name")
        return Ware(line.text, line.price, line.quantity, line.goods or (DOWNLOAD if line.file else ""), line.file)

    async def _begin(
        self,
        bank: str,
        wanted: Basket,
        order: tuple[str, str] = ("", ""),
        *,
        buyer: bytes = b"",
        key: str = "",
        content: bytes = b"",
    ) -> Sight:
        desk = self._desk
        row, _, effects = begin(desk, bank, wanted)
        made = Order(desk.entropy.bytes(16).hex(), row.payment_id, buyer, *order, row.begun_at, 0, wanted.files)
        link_of(desk, row)  # an order that is too long for a link is refused while nothing has happened
        # The alarm first: one without a sale does nothing, a sale that nobody will wake would stay open.
        await self._let_out(Result(alarms=alarms("sale", row.payment_id, effects)))
        point("merchant.web_order.saving")
        await self._journal.save(Change(sales=[row], orders=[Placed(made, key, content)]))
        point("merchant.web_order.offered")
        return await self._sight(made)

    async def find(self, order_id: str) -> Sight | None:
        """Return an order by the address of its page, or None."""
        order = await self._book.order(order_id)
        return None if order is None else await self._sight(order)

    async def _sight(self, order: Order) -> Sight:
        return (await self._sights([order]))[0]

    async def _sights(self, orders: Sequence[Order]) -> list[Sight]:
        ids = [order.payment_id for order in orders]
        sales, refundables = await self._desk.store.sales_of(ids), await self._desk.store.refundables(ids)
        return [
            sight_of(self._desk, order, sales[order.payment_id], refundables[order.payment_id])
            for order in orders
            if order.payment_id in sales
        ]

    async def recent(self, limit: int = 100, before: int = 0) -> list[Sight]:
        """Return the newest orders (at most 1,000), the newest first; with `before`, those made before this time."""
        before = min(before, _FOREVER) if before > 0 else _FOREVER
        return await self._sights(await self._book.newest(max(0, min(limit, _MOST)), before))

    async def claim(self, order_id: str, buyer: bytes) -> bool:
        """Bind an order that nobody has claimed to a browser; return whether it is this browser's now."""
        order = await self._book.order(order_id)
        if order is not None and not order.buyer and buyer:
            await self._book.claim(order_id, buyer)
            order = await self._book.order(order_id)
        return order is not None and bool(buyer) and order.buyer == buyer

    async def delivered(self, order_id: str) -> None:
        """Note that the goods are shown; only the first time counts, and only when they are paid."""
        sight = await self.find(order_id)
        if sight is not None and sight.stage == "accepted" and not sight.order.delivered_at:
            await self._book.delivered(order_id, self._desk.clock.now())

    async def grant(self, order_id: str, amount: int) -> Sight:
        """Grant a refund of so many minor units; 0 is all that is left.

        Raises:
            ValueError: with a sentence, if there is no such order, it is not paid, or so much is not left.
        """
        sight = await self.find(order_id)
        if sight is None:
            raise ValueError("there is no such order")
        row = sight.sale
        if not isinstance(row.state, sale.Sold):
            raise ValueError("the order is not paid: there is nothing to refund")
        left = row.amount - sight.refundable.granted
        if left <= 0:
            raise ValueError("all that was paid is refunded or granted already: nothing is left to refund")
        if not 0 <= amount <= left:
            raise ValueError(f"a refund is more than nothing, and at most {format_minor(left, row.currency)} here")
        try:
            await self._desk.store.grant(row.payment_id, amount or left, self._desk.clock.now())
            point("merchant.grant.saved")
        finally:
            self._journal.changes.tell(row.payment_id)
        return await self._sight(sight.order)

    def link(self, sale: SaleRow) -> PaymentLink:
        """Return the link that a sale is paid by.

        Raises:
            HomeError: if the settings do not name its bank any more.
        """
        return link_of(self._desk, sale)

    def watch(self, payment_id: bytes) -> AbstractContextManager[Bell]:
        """Hold a bell that rings at once and after each durable step of this sale.

        Example:
            with orders.watch(payment_id) as changes:
                async for _ in changes:
                    show(await orders.find(order_id))
        """
        return self._journal.changes.watch(payment_id)


def _checked(lines: Sequence[Line]) -> Sequence[Line]:
    _check(0 < len(lines) <= _MAX_LINES, "an order has 1 to 50 lines")
    for line in lines:
        _check(0 < len(line.text) <= _MAX_LABEL and _is_plain(line.text), "a line has 1 to 120 printable characters")
        _check(bool(line.text.strip()), "a line has a text that can be read")
        _check(0 < line.price <= MAX_AMOUNT, "a price is more than nothing, and no more than there is money")
        _check(0 < line.quantity <= _MAX_QUANTITY, "a quantity is 1 to 10,000")
        _check(len(line.goods) <= MAX_TEXT and _is_plain(line.goods.replace("\n", "")), "goods have 2,000 characters")
    return lines


def _is_plain(text: str) -> bool:
    """Tell whether a text has only what is seen: no control characters, none that turn the direction of writing."""
    return text.isprintable()


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise PeerError(Refusal.MALFORMED, otherwise)
