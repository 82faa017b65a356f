"""What the wallet does when it starts: every exchange that was open goes on."""

import asyncio
import logging

from broker.port import LinkError
from protocol.errors import PeerError
from protocol.machine import Overdue
from protocol.wallet import payment

from ..requester import NobodyAnswers
from . import pay, withdraw
from .exchange import advance, drive
from .store import ExchangeRow
from .wallet import Wallet

_log = logging.getLogger("ecash.wallet")


async def resume(wallet: Wallet, patience_ms: int = 5_000) -> list[ExchangeRow]:
    """Carry every open exchange on for a while, each over a presence of its own.

    Returns:
        The exchanges as they stand now; those still open will be resumed the next time.
    """
    rows = await wallet.store.exchanges(only_open=True)
    return await asyncio.gather(*(_resume_one(wallet, row, patience_ms) for row in rows))


async def _resume_one(wallet: Wallet, row: ExchangeRow, patience_ms: int) -> ExchangeRow:
    bank = wallet.bank(row.bank)
    try:
        async with wallet.presence(bank.address.broker) as requester:
            if isinstance(row.state, payment.Paying | payment.Waiting | payment.Asking):
                talk = pay.correspondence(wallet, bank, row, row.state.payment, requester)
            else:
                talk = withdraw.correspondence(wallet, bank, row.state, requester)
            overdue = Overdue(wallet.clock.now(), wallet.entropy.jitter())
            row, sends = await advance(wallet, bank, row, overdue)
            return await drive(wallet, row, sends, talk, patience_ms)
    except (LinkError, NobodyAnswers, PeerError) as error:
        _log.warning("%s %s stays open: %s", row.kind, row.id.hex()[:8], error)
        return row
