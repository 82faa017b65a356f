"""Withdrawing: coins of the wallet's own choice, against the account."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from protocol.errors import PeerError
from protocol.machine import Event
from protocol.messages import WithdrawAnswer
from protocol.money import Amount
from protocol.refusals import TABLE, Advice
from protocol.selection import SelectionError, choose_denominations
from protocol.wallet import withdrawal

from ..requester import Requester
from .exchange import Correspondence, advance, drive
from .store import ExchangeRow, ExchangeState, Note
from .wallet import Bank, Wallet, WalletError

PATIENCE_MS: Final = 60_000


async def withdraw(wallet: Wallet, bank: Bank, amount: Amount, patience_ms: int = PATIENCE_MS) -> ExchangeRow:
    """Withdraw coins worth exactly `amount`; the commission comes on top.

    Returns:
        The exchange, which is still open if the bank did not answer in time: it will be resumed.

    Raises:
        WalletError: if the amount cannot be made, or the wallet has no account at the bank.
        NobodyAnswers: if the bank cannot be reached; nothing was asked then.
        PeerError: if the bank's keyset cannot be trusted.
    """
    if bank.row.account is None:
        raise WalletError(f"this wallet has no account at {bank.row.name}: `ecash wallet register` opens one")
    if bank.row.currency != amount.currency:
        raise WalletError(f"the account at {bank.row.name} is in {bank.row.currency}")
    async with wallet.presence(bank.address.broker) as requester:
        bank = await wallet.refresh(bank.address, requester)
        denominations = await _choose(wallet, bank, amount)
        request_id = wallet.new_id()
        commission = bank.keyset.withdrawal_commission.charge(amount.value)
        request = await asyncio.to_thread(
            withdrawal.write, wallet.root, bank.ring, request_id, denominations, commission
        )
        now = wallet.clock.now()
        row = ExchangeRow(
            id=request_id,
            kind=withdrawal.KIND,
            bank=bank.row.name,
            state=withdrawal.New(),
            open=True,
            wake_at=now,
            begun_at=now,
            note=Note(amount.value, amount.currency, commission),
        )
        begin = withdrawal.Begin(
            bank=bank.row.name,
            request_id=request_id,
            envelope=wallet.seal_for_bank(bank, withdrawal.KIND, request_id, request),
            denominations=tuple(denominations),
            amount=amount.value,
            commission=commission,
            now=now,
            jitter=wallet.entropy.jitter(),
        )
        row, sends = await advance(wallet, bank, row, begin)
        talk = correspondence(wallet, bank, row.state, requester)
        return await drive(wallet, row, sends, talk, patience_ms)


async def _choose(wallet: Wallet, bank: Bank, amount: Amount) -> Sequence[bytes]:
    minted = bank.ring.current(amount.currency, wallet.clock.now())
    stock: dict[int, int] = {}
    for coin in await wallet.store.free_coins(bank.row.name, amount.currency):
        stock[coin.value] = stock.get(coin.value, 0) + 1
    try:
        chosen = choose_denominations(amount.value, sorted(minted), stock)
    except SelectionError as error:
        raise WalletError(f"{bank.row.name} has no coins that make {amount}: {error}") from error
    coins = [minted[value] for value, count in sorted(chosen.items()) for _ in range(count)]
    limit = bank.keyset.limits.max_coins
    if len(coins) > limit:
        raise WalletError(f"{amount} takes {len(coins)} coins, and {bank.row.name} signs {limit} at once: ask for less")
    return coins


def correspondence(wallet: Wallet, bank: Bank, state: ExchangeState, requester: Requester) -> Correspondence:
    """Return how a withdrawal speaks: with the bank, under the account; not at all unless it is `Requested`."""
    readers = {state.request_id: partial(_read, wallet, bank, state)} if isinstance(state, withdrawal.Requested) else {}
    return Correspondence(requester, bank, readers)


async def _read(wallet: Wallet, bank: Bank, state: withdrawal.Requested, sealed: bytes) -> Event | None:
    """Turn the bank's answer to a withdrawal into an event; the signatures are verified on the way.

    Raises:
        PeerError: if this is no answer to the request.
    """
    answer = wallet.open_from_bank(bank, state.request_id, state.envelope, sealed)
    try:
        body = answer.check()
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return None
        return withdrawal.RefusalArrived(error.refusal, error.detail)
    try:
        signed = WithdrawAnswer.decode(body)
    except PeerError as error:
        return withdrawal.AnswerWrong(sealed, str(error), ())
    return await asyncio.to_thread(withdrawal.unblind, wallet.root, bank.ring, state, signed, sealed)
