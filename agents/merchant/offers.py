"""How a sale begins: what is wanted, priced, and the offer that the merchant signs for it."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from protocol.codec import MAX_TEXT
from protocol.errors import PeerError
from protocol.machine import Effect
from protocol.merchant import sale
from protocol.messages import OrderLine, Payreq, Signed
from protocol.money import MAX_AMOUNT
from protocol.refusals import Refusal
from protocol.signatures import Domain

from .desk import Desk
from .home import Stocked
from .store import SaleRow

_MINUTE_MS: Final = 60_000
_LONGEST_LINE: Final = 120
_LONGEST_TITLE: Final = 200


class Ware(NamedTuple):
    """One line of what is wanted; `price` is of one, in minor units; `goods` and `file` go to the buyer."""

    title: str
    price: int
    quantity: int
    goods: str = ""
    file: str = ""


class Basket(NamedTuple):
    """What is to be sold: its price in minor units, its lines as the buyer reads them, and what the buyer gets."""

    currency: str
    amount: int
    lines: tuple[str, ...]
    goods: str
    files: tuple[str, ...]


class Begun(NamedTuple):
    """A sale that is to be saved: its row, the signed payment request, and what its machine wants."""

    row: SaleRow
    signed: bytes
    effects: tuple[Effect, ...]


def from_catalogue(desk: Desk, currency: str, wanted: Sequence[OrderLine]) -> Basket:
    """Price what is wanted by the catalogue.

    Raises:
        PeerError: `UNKNOWN_ITEM`, if it is not sold for this currency; as `basket`.
    """
    return basket(currency, (_ware(line, _stocked(desk, line, currency)) for line in wanted))


def _stocked(desk: Desk, line: OrderLine, currency: str) -> Stocked:
    stocked = desk.catalog.get(line.sku)
    if stocked is None or stocked.item.currency != currency:
        raise PeerError(Refusal.UNKNOWN_ITEM, f"the catalogue has no {line.sku} for {currency}")
    return stocked


def _ware(line: OrderLine, stocked: Stocked) -> Ware:
    return Ware(stocked.item.title, stocked.item.price, line.quantity, stocked.text, stocked.file)


def basket(currency: str, wares: Iterable[Ware]) -> Basket:
    """Add up what is wanted; what several lines say in the same words is told the buyer once.

    Raises:
        PeerError: `MALFORMED`, if it is worth more than there is money, or its goods do not fit in one receipt.
    """
    wares = tuple(wares)
    amount = sum(ware.price * ware.quantity for ware in wares)
    if amount > MAX_AMOUNT:
        raise PeerError(Refusal.MALFORMED, "the order is worth more than there is money")
    goods = "\n".join(dict.fromkeys(ware.goods for ware in wares if ware.goods))
    if len(goods) > MAX_TEXT:
        raise PeerError(Refusal.MALFORMED, "so many goods do not fit in one receipt: order less at once")
    lines = tuple(f"{ware.quantity} × {ware.title}"[:_LONGEST_LINE] for ware in wares)
    return Basket(currency, amount, lines, goods, tuple(dict.fromkeys(ware.file for ware in wares if ware.file)))


def begin(desk: Desk, bank: str, wanted: Basket) -> Begun:
    """Sign an offer of this basket, to be paid with coins of this bank, and begin its sale.

    Raises:
        PeerError: `WRONG_BANK`, if the shop takes no coins of this bank.
    """
    trust, now = desk.trust(bank), desk.clock.now()
    expires = now + int(desk.settings.offer_minutes * _MINUTE_MS)
    payreq = Payreq(
        currency=wanted.currency,
        amount=wanted.amount,
        timestamp=now,
        bank=bank,
        account=trust.certificate.account,
        order=wanted.lines,
        payment_id=desk.entropy.bytes(16),
        salt=desk.entropy.bytes(16),
        expires=expires,
        deposit_before=expires + desk.settings.deposit_minutes * _MINUTE_MS,
        keyset=trust.ring.keyset.hash,
    )
    signed = Signed.make(desk.keys.identity, Domain.PAYREQ, payreq).encode()
    state, effects = sale.step(sale.New(), sale.Ordered(sale.Offer(payreq.payment_id, signed, expires)))
    title = ", ".join(wanted.lines)[:_LONGEST_TITLE]
    row = SaleRow(payreq.payment_id, state, expires, now, wanted.amount, wanted.currency, title, wanted.goods)
    return Begun(row, signed, effects)


def offered(state: sale.Offered | sale.Depositing | sale.Sold | sale.Declined | sale.Lapsed) -> Payreq:
    """Return what was offered in a sale."""
    return Payreq.decode(Signed.decode(state.offer.payreq).statement)
