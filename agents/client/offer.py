"""Paying by a link: a merchant's payment request that came from a web page, paid once however often it is opened."""

import asyncio
from typing import Final
from weakref import WeakKeyDictionary, WeakValueDictionary

from protocol import topics
from protocol.errors import PeerError
from protocol.messages import Signed, Status
from protocol.payment_link import PaymentLink
from protocol.wallet.payment import Refused, Released

from ..requester import NobodyAnswers, Requester
from .pay import PATIENCE_MS, Quote, Tell, check_offer, pay, tell_nobody, visit
from .store import ExchangeRow, WalletStore
from .wallet import Bank, Wallet, WalletError

_TURNS: Final[WeakKeyDictionary[Wallet, WeakValueDictionary[bytes, asyncio.Lock]]] = WeakKeyDictionary()


def bank_for(wallet: Wallet, link: PaymentLink) -> Bank:
    """Return the wallet's own bank that a link names; its address says where to speak, never the link.

    Raises:
        WalletError: if the wallet does not know that bank, or knows another one under its name.
    """
    known = {bank.row.name: bank for bank in wallet.banks}
    bank = known.get(link.bank)
    if bank is None:
        raise WalletError(
            f"the shop takes coins of bank {link.bank}, where this wallet has none: open an account there, and enter "
            "the address that the bank gives you with `ecash wallet register ADDRESS`; or ask the shop for a link to "
            f"pay with coins of {', '.join(known) or 'another bank'}"
        )
    if bank.address.fingerprint != link.fingerprint.hex():
        raise WalletError(
            f"the link names another bank {link.bank} than the one that this wallet knows, so it is out of date or "
            "forged: nothing was paid, ask the shop for a new one"
        )
    return bank


async def open_offer(wallet: Wallet, link: PaymentLink, requester: Requester) -> Quote:
    """Check what a link asks for, from the bank's keyset down to the merchant's signature: pay it or leave it.

    Args:
        wallet: who might pay.
        link: as it came.
        requester: a presence at the broker of `bank_for(wallet, link)`.

    Raises:
        WalletError: as `bank_for`.
        NobodyAnswers: if bank or merchant are not announced, or the merchant is closed: its coins would be bound.
        PeerError: `WRONG_BANK` if the bank has not certified the merchant; `SALE_EXPIRED`; what else is wrong, see
            `open_catalog` and `open_payreq`.
    """
    bank, shop = await visit(wallet, bank_for(wallet, link), link.merchant, requester)
    quote = await check_offer(wallet, bank, shop, Signed.decode(link.payreq))
    if not _is_open(await requester.retained(topics.status(link.merchant))):
        raise NobodyAnswers(f"{shop.certificate.name} is closed at the moment; nothing was paid: try again later")
    return quote


def _is_open(status: bytes) -> bool:
    try:
        return Status.decode(status).open
    except PeerError:
        return False


async def known_payment(store: WalletStore, payment_id: bytes) -> ExchangeRow | None:
    """Return the newest payment of this wallet for a sale (its payment id, 16 bytes), whatever became of it."""
    return next(iter(await store.payments(payment_id)), None)


async def standing_payment(store: WalletStore, payment_id: bytes) -> ExchangeRow | None:
    """Return the payment for a sale that forbids another one: made, under way or disputed, not refused or released."""
    rows = await store.payments(payment_id)
    return next((row for row in rows if not isinstance(row.state, Refused | Released)), None)


async def pay_once(
    wallet: Wallet,
    quote: Quote,
    requester: Requester,
    *,
    code: str = "",
    patience_ms: int = PATIENCE_MS,
    tell: Tell = tell_nobody,
) -> ExchangeRow:
    """Pay a quote unless there is a `standing_payment` for it: then return that one, and pay nothing.

    Who asks while the same sale is being paid waits for that payment. The wallet's file is used by one process at a
    time, so the turn that is taken here is enough.

    Args:
        wallet: who pays.
        quote: what was agreed on.
        requester: the presence that it was checked over.
        code: the payer code, as for `pay`.
        patience_ms: how long to wait for the end.
        tell: is told of each exchange that was made to have the coins.

    Raises:
        WalletError, CoinsTaken, NobodyAnswers, PeerError: as `pay`; nothing was paid.
    """
    payment_id = quote.payreq.payment_id
    turn = _TURNS.setdefault(wallet, WeakValueDictionary()).setdefault(payment_id, asyncio.Lock())
    async with turn:
        before = await standing_payment(wallet.store, payment_id)
        if before is not None:
            return before
        return await pay(wallet, quote, requester, code=code, patience_ms=patience_ms, tell=tell)
