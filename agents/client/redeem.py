"""Redeeming: the value of coins goes back into the wallet's account."""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from protocol.coins import spend
from protocol.errors import PeerError
from protocol.machine import Event, State
from protocol.messages import Exhibits
from protocol.recovery import REDEEM, RedeemAnswer, RedeemRequest, redeem_digest
from protocol.refusals import TABLE, Advice, Refusal
from protocol.signatures import public_key
from protocol.wallet import redemption as machine

from ..requester import Later, Requester, later
from .drive import Correspondence, advance, drive
from .store import ExchangeRow, HeldCoin, Note
from .wallet import Bank, Wallet, WalletError

PATIENCE_MS: Final = 60_000


async def redeem(
    wallet: Wallet, bank: Bank, held: Sequence[HeldCoin], *, unverified: bool, patience_ms: int = PATIENCE_MS
) -> ExchangeRow:
    """Redeem coins into the account, in one request.

    Args:
        wallet: whose coins, and whose account.
        bank: of all the coins.
        held: at most as many as the bank takes at once, in the account's currency; all free or all `unverified`.
        unverified: which of the two.
        patience_ms: how long to wait for the end.

    Returns:
        The exchange, which is still open if the bank did not answer in time: it will be resumed.

    Raises:
        WalletError: if the wallet has no account at the bank.
        CoinsTaken: if a coin is not as `unverified` says any more; nothing was sent.
    """
    if bank.row.account is None or bank.row.currency is None:
        raise WalletError(f"this wallet has no account at {bank.row.name} to put coins into")
    request_id, now = wallet.new_id(), wallet.clock.now()
    digest = redeem_digest(bank.row.name, request_id, public_key(wallet.root.account(bank.keyset.identity)))
    amount = sum(one.value for one in held)
    commission = bank.keyset.tariff.redemption.charge(amount)
    request = await asyncio.to_thread(_write, wallet, bank, held, commission, digest)
    redemption = machine.Redemption(
        bank=bank.row.name,
        request_id=request_id,
        digest=digest,
        envelope=wallet.seal_for_bank(bank, REDEEM, request_id, request),
        serials=tuple(one.coin.serial for one in held),
        unverified=unverified,
        amount=amount,
        commission=commission,
    )
    row = ExchangeRow(
        id=request_id,
        kind=REDEEM,
        bank=bank.row.name,
        state=machine.New(),
        open=True,
        wake_at=now,
        begun_at=now,
        note=Note(amount, bank.row.currency, commission),
    )
    row, sends = await advance(wallet, bank, row, machine.Begin(redemption, now, wallet.entropy.jitter()))
    async with wallet.presence(bank.address.broker) as requester:
        return await drive(wallet, row, sends, correspondence(wallet, bank, row.state, requester), patience_ms)


def _write(wallet: Wallet, bank: Bank, held: Sequence[HeldCoin], commission: int, digest: bytes) -> RedeemRequest:
    spent = (spend(one.coin, wallet.root.coin(one.request_id, one.position), digest) for one in held)
    return RedeemRequest(bank.row.generation, commission, tuple(sorted(spent, key=lambda one: one.coin.serial)))


def correspondence(wallet: Wallet, bank: Bank, state: State, requester: Requester) -> Correspondence:
    """Return how a redemption speaks: with the bank, under the account; not at all unless it is `Requested`."""
    readers = (
        {state.redemption.request_id: partial(_read, wallet, bank, state.redemption)}
        if isinstance(state, machine.Requested)
        else {}
    )
    return Correspondence(requester, bank, readers)


async def _read(wallet: Wallet, bank: Bank, redemption: machine.Redemption, sealed: bytes) -> Event | Later | None:
    """Turn the bank's answer into an event; evidence is verified on the way.

    Raises:
        PeerError: if this is no answer to the request.
    """
    answer = wallet.open_from_bank(bank, redemption.request_id, redemption.envelope, sealed)
    try:
        told = RedeemAnswer.decode(answer.check())
    except PeerError as error:
        if not answer.refusal:
            return machine.AnswerWrong(sealed, str(error))
        if TABLE[error.refusal].advice is Advice.RETRY:
            return later(answer, wallet.clock, wallet.entropy)
        if error.refusal is not Refusal.ALREADY_SPENT:
            return machine.RefusalArrived(error.refusal, error.detail, ())
        void = await wallet.store.refused_digests()
        spent = _proven_spent(answer.body, redemption.serials, void | {redemption.digest})
        if not spent:
            return machine.AnswerWrong(sealed, "no valid evidence that a coin was spent before")
        return machine.RefusalArrived(error.refusal, error.detail, spent)
    if (told.amount, told.commission) != (redemption.amount, redemption.commission):
        return machine.AnswerWrong(sealed, f"the bank says that {told.amount} less {told.commission} was redeemed")
    return machine.Credited()


def _proven_spent(body: bytes, serials: Collection[bytes], void: Collection[bytes]) -> tuple[bytes, ...]:
    """Return which coins the exhibits prove spent; none, if any exhibit is not what it should be."""
    try:
        exhibits = Exhibits.decode(body).exhibits
        for evidence in exhibits:
            evidence.check()
    except PeerError:
        return ()
    if any(evidence.digest in void or evidence.serial not in serials for evidence in exhibits):
        return ()
    return tuple(evidence.serial for evidence in exhibits)
