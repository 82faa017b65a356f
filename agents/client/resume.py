"""What the wallet does when it starts: every exchange that was open goes on."""

import logging

from broker.port import LinkError
from protocol.errors import PeerError
from protocol.machine import Overdue
from protocol.wallet import payment, withdrawal

from ..requester import NobodyAnswers
from . import pay, withdraw
from .exchange import advance, drive
from .store import ExchangeRow
from .wallet import Wallet

_log = logging.getLogger("ecash.wallet")
_UNDER_WAY = (payment.Paying, payment.Waiting, payment.Asking, payment.Unreceipted)


async def resume(wallet: Wallet, patience_ms: int = 5_000) -> list[ExchangeRow]:
    """Carry every open exchange on for a while, each over a presence of its own.

    Returns:
        The exchanges as they stand now; those still open will be resumed the next time.
    """
    rows = await wallet.store.exchanges(only_open=True)
    at_the_bank = [row for row in rows if row.kind == withdrawal.KIND]
    anonymous = [row for row in rows if row.kind != withdrawal.KIND]
    # One after the other, those under the account first: side by side they would tell the bank whose they are.
    return [await _resume_one(wallet, row, patience_ms) for row in (*at_the_bank, *anonymous)]


async def _resume_one(wallet: Wallet, row: ExchangeRow, patience_ms: int) -> ExchangeRow:
    bank = wallet.bank(row.bank)
    if isinstance(row.state, payment.Waiting) and row.wake_at > wallet.clock.now() + patience_ms:
        return row
    try:
        async with wallet.presence(bank.address.broker) as requester:
            if isinstance(row.state, _UNDER_WAY):
                talk = pay.correspondence(wallet, bank, row, row.state.payment, requester)
            else:
                talk = withdraw.correspondence(wallet, bank, row.state, requester)
            overdue = Overdue(wallet.clock.now(), wallet.entropy.jitter())
            row, sends = await advance(wallet, bank, row, overdue)
            return await drive(wallet, row, sends, talk, patience_ms)
    except (LinkError, NobodyAnswers, PeerError) as error:
        _log.warning("%s %s stays open: %s", row.kind, row.id.hex()[:8], error)
        return row
