"""Withdrawing: coins of the wallet's own choice, against the account."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from protocol.errors import PeerError
from protocol.machine import Event, State
from protocol.messages import MAX_SETTLED, AccountAnswer, AccountRequest, WithdrawAnswer, WithdrawRequest
from protocol.money import Amount
from protocol.recovery import KEPT_WITHDRAWALS
from protocol.refusals import TABLE, Advice
from protocol.selection import SelectionError, choose_denominations
from protocol.wallet import withdrawal
from protocol.wallet.outputs import blind_outputs

from ..requester import Later, Requester, later
from .drive import Correspondence, advance, drive
from .store import ExchangeRow, Note
from .wallet import Bank, Wallet, WalletError

PATIENCE_MS: Final = 60_000
WEEK_MS: Final = 7 * 24 * 3_600_000


async def withdraw(wallet: Wallet, bank: Bank, amount: Amount, patience_ms: int = PATIENCE_MS) -> ExchangeRow:
    """Withdraw coins worth exactly `amount`; the commission comes on top.

    Returns:
        The exchange, which is still open if the bank did not answer in time: it will be resumed.

    Raises:
        WalletError: if the amount cannot be made, or the wallet has no account at the bank.
        NobodyAnswers: if the bank cannot be reached; nothing was asked then.
        PeerError: if the bank's keyset cannot be trusted.
    """
    _check_account(bank, amount.currency)
    async with wallet.presence(bank.address.broker) as requester:
        bank = await wallet.refresh(bank.address, requester)
        denominations = await _choose(wallet, bank, amount)
        request_id = wallet.new_id()
        commission = bank.keyset.tariff.withdrawal.charge(amount.value)
        outputs = await asyncio.to_thread(blind_outputs, wallet.root, bank.ring, request_id, denominations)
        settled, used_up = await _settled(wallet, bank)
        request = WithdrawRequest(bank.row.generation, commission, outputs, settled)
        now = wallet.clock.now()
        row = ExchangeRow(
            id=request_id,
            kind=withdrawal.KIND,
            bank=bank.row.name,
            state=withdrawal.New(),
            open=True,
            wake_at=now,
            begun_at=now,
            note=Note(amount.value, amount.currency, commission, settled=settled, used_up=used_up),
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
        row = await drive(wallet, row, sends, talk, patience_ms)
        if isinstance(row.state, withdrawal.Issued):
            await wallet.store.settle(settled)
        return row


class Covered(NamedTuple):
    """What an account can pay out of what was wanted, in the same order, and what it holds in minor units."""

    amounts: tuple[Amount, ...]
    balance: int


async def covered(wallet: Wallet, bank: Bank, amounts: Sequence[Amount]) -> Covered:
    """Ask the bank what the account holds, and return which of these amounts it covers with their commission.

    Raises:
        WalletError: if the wallet has no account at the bank, or one in another currency.
        NobodyAnswers: if the bank cannot be reached.
        PeerError: if it refuses to tell.
    """
    for amount in amounts:
        _check_account(bank, amount.currency)
    async with wallet.presence(bank.address.broker) as requester:
        answer = await wallet.ask_bank(bank, requester, "account", AccountRequest(b"", 0))
    balance, charge = AccountAnswer.decode(answer.check()).balance, bank.keyset.tariff.withdrawal.charge
    return Covered(tuple(one for one in amounts if one.value + charge(one.value) <= balance), balance)


def _check_account(bank: Bank, currency: str) -> None:
    if bank.row.account is None:
        raise WalletError(f"this wallet has no account at {bank.row.name}: `ecash wallet register` opens one")
    if bank.row.currency != currency:
        raise WalletError(f"the account at {bank.row.name} is in {bank.row.currency}")


async def _settled(wallet: Wallet, bank: Bank) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the withdrawals to name as settled, and those that are found used up now for the first time.

    Named at once, they would tell the bank when their last coins were spent, and so which payments may have been these.
    So each waits for two to eight weeks, drawn for it by the seed, from the first withdrawal that finds it used up.
    """
    now, since = wallet.clock.now(), dict[bytes, int]()
    for row in await wallet.store.exchanges():
        since |= {one: min(row.begun_at, since.get(one, row.begun_at)) for one in row.note.used_up}
    used_up = await wallet.store.used_up(bank.row.name, KEPT_WITHDRAWALS)
    due = [one for one in used_up if one in since and now >= since[one] + _delay_ms(wallet, one)]
    return tuple(due[:MAX_SETTLED]), tuple(one for one in used_up if one not in since)


def _delay_ms(wallet: Wallet, withdrawn: bytes) -> int:
    return 2 * WEEK_MS + 6 * WEEK_MS * wallet.root.settling_jitter(withdrawn) // 1000


async def _choose(wallet: Wallet, bank: Bank, amount: Amount) -> Sequence[bytes]:
    minted = bank.ring.current(amount.currency, wallet.clock.now())
    stock: dict[int, int] = {}
    for coin in await wallet.store.coins(bank.row.name, amount.currency):
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


def correspondence(wallet: Wallet, bank: Bank, state: State, requester: Requester) -> Correspondence:
    """Return how a withdrawal speaks: with the bank, under the account; not at all unless it is `Requested`."""
    readers = {state.request_id: partial(_read, wallet, bank, state)} if isinstance(state, withdrawal.Requested) else {}
    return Correspondence(requester, bank, readers)


async def _read(wallet: Wallet, bank: Bank, state: withdrawal.Requested, sealed: bytes) -> Event | Later | None:
    """Turn the bank's answer to a withdrawal into an event; the signatures are verified on the way.

    Raises:
        PeerError: if this is no answer to the request.
    """
    answer = wallet.open_from_bank(bank, state.request_id, state.envelope, sealed)
    try:
        body = answer.check()
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return later(answer, wallet.clock, wallet.entropy)
        return withdrawal.RefusalArrived(error.refusal, error.detail)
    try:
        signed = WithdrawAnswer.decode(body)
    except PeerError as error:
        return withdrawal.AnswerWrong(sealed, str(error), ())
    return await asyncio.to_thread(withdrawal.unblind, wallet.root, bank.ring, state, signed, sealed)
