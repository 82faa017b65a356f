"""What the wallet does when it starts: every exchange that was open goes on."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from broker.port import LinkError
from protocol.errors import OurError, PeerError
from protocol.machine import Overdue
from protocol.wallet import payment
from protocol.wallet import refund as refunding
from protocol.wallet.transfer import TRANSFER

from ..requester import NobodyAnswers, Requester
from . import exchange, pay, redeem, refund, transfer, withdraw
from .drive import Correspondence, advance, drive
from .store import ExchangeRow
from .wallet import Bank, Wallet

_log = logging.getLogger("ecash.wallet")
UNDER_ACCOUNT: Final = frozenset({"withdraw", "redeem"})
"""The kinds of exchange that the account's key signs."""
_IN_PAYMENT = (payment.Paying, payment.Waiting, payment.Asking, payment.Unreceipted)


async def resume(wallet: Wallet, patience_ms: int = 5_000, bank: str | None = None) -> list[ExchangeRow]:
    """Carry every open exchange (at this bank, if one is named) on for a while, each over a presence of its own.

    Returns:
        The exchanges as they stand now; those still open will be resumed the next time. Of transfers, and of refunds
        that the merchant has refused, those whose time to be looked at has come.
    """
    rows = [row for row in await wallet.store.exchanges(only_open=True) if bank in (None, row.bank)]
    rows = [row for row in rows if not _rests(row) or row.wake_at <= wallet.clock.now()]
    at_the_bank = [row for row in rows if row.kind in UNDER_ACCOUNT]
    anonymous = [row for row in rows if row.kind not in UNDER_ACCOUNT]
    # One after the other, those under the account first: side by side they would tell the bank whose they are.
    return [await _resume_one(wallet, row, patience_ms) for row in (*at_the_bank, *anonymous)]


def _rests(row: ExchangeRow) -> bool:
    return row.kind == TRANSFER or isinstance(row.state, refunding.Waiting)


async def _resume_one(wallet: Wallet, row: ExchangeRow, patience_ms: int) -> ExchangeRow:
    bank = wallet.bank(row.bank)
    if isinstance(row.state, payment.Waiting) and row.wake_at > wallet.clock.now() + patience_ms:
        return row
    try:
        if row.kind == TRANSFER:
            return await transfer.look(wallet, row)
        async with wallet.presence(bank.address.broker) as requester:
            talk = _CORRESPONDENCES[row.kind](wallet, bank, row, requester)
            overdue = Overdue(wallet.clock.now(), wallet.entropy.jitter())
            row, sends = await advance(wallet, bank, row, overdue)
            return await drive(wallet, row, sends, talk, patience_ms)
    except (LinkError, NobodyAnswers, PeerError) as error:
        _log.warning("%s %s stays open: %s", row.kind, row.id.hex()[:8], error)
        return row


def _payment(wallet: Wallet, bank: Bank, row: ExchangeRow, requester: Requester) -> Correspondence:
    if not isinstance(row.state, _IN_PAYMENT):
        raise OurError(f"a payment in {row.state} is not open")
    return pay.correspondence(wallet, bank, row, row.state.payment, requester)


_CORRESPONDENCES: Final[Mapping[str, Callable[[Wallet, Bank, ExchangeRow, Requester], Correspondence]]] = {
    "withdraw": lambda wallet, bank, row, requester: withdraw.correspondence(wallet, bank, row.state, requester),
    "pay": _payment,
    "exchange": lambda wallet, bank, row, requester: exchange.correspondence(wallet, bank, row.state, requester),
    "redeem": lambda wallet, bank, row, requester: redeem.correspondence(wallet, bank, row.state, requester),
    "refund": refund.correspondence,
}
