"""Exchanging: coins of the wallet, or of somebody who gave them, for new ones that nobody can connect with them."""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final, NamedTuple

from broker.port import LinkError
from protocol.answer import Answer
from protocol.coins import Coin, spend
from protocol.errors import PeerError
from protocol.exchange import EXCHANGE, ExchangeRequest, Issue, exchange_digest
from protocol.machine import Event, State
from protocol.messages import Exhibits
from protocol.refusals import TABLE, Advice, Refusal
from protocol.wallet import exchange as machine
from protocol.wallet.outputs import blind_outputs, in_order, unblind_outputs

from ..requester import Later, NobodyAnswers, Requester, later
from .drive import Correspondence, advance, drive
from .store import ExchangeRow, HeldCoin, Note
from .stored import fetch, issued, take_in
from .wallet import Bank, Wallet

PATIENCE_MS: Final = 60_000
_TRIES: Final = 32
"""How many request ids an exchange tries: a copy of this wallet's file, in use elsewhere, may have used some."""


class Inputs(NamedTuple):
    """What is exchanged: coins of the wallet, free or all `unverified`, and coins with keys that it was given.

    `token` is the hash of the token that they came in.
    """

    own: Sequence[HeldCoin] = ()
    unverified: bool = False
    given: Sequence[tuple[Coin, bytes]] = ()
    token: bytes = b""


class Charge(NamedTuple):
    """What an exchange costs, and what it is for."""

    commission: int
    purpose: str


async def exchange(
    wallet: Wallet,
    bank: Bank,
    inputs: Inputs,
    outputs: Sequence[bytes],
    commission: int,
    purpose: str,
    patience_ms: int = PATIENCE_MS,
) -> ExchangeRow:
    """Exchange coins over an anonymous presence of its own.

    Args:
        wallet: whose file the new coins come into.
        bank: of all the coins.
        inputs: what goes in.
        outputs: the denominations of what comes out, in any order, worth `commission` less than what goes in.
        commission: what the keyset's tariff asks for.
        purpose: a word for the history: change, refresh, tidy, stock, verify, receive.
        patience_ms: how long to wait for the end.

    Returns:
        The exchange, which is still open if the bank did not answer in time: it will be resumed.

    Raises:
        CoinsTaken: if a coin is not as `inputs` says any more; nothing was sent.
    """
    outputs = in_order(bank.ring, outputs)
    for _ in range(_TRIES - 1):
        row = await _exchange(wallet, bank, inputs, outputs, Charge(commission, purpose), patience_ms)
        if not (isinstance(row.state, machine.Refused) and row.state.refusal == Refusal.REQUEST_ID_REUSED):
            return row
    return await _exchange(wallet, bank, inputs, outputs, Charge(commission, purpose), patience_ms)


async def _exchange(
    wallet: Wallet, bank: Bank, inputs: Inputs, outputs: Sequence[bytes], charge: Charge, patience_ms: int
) -> ExchangeRow:
    commission, purpose = charge
    request_id = await wallet.new_exchange_id(bank)
    digest, request = await asyncio.to_thread(_write, wallet, bank, request_id, inputs, outputs, commission)
    swap = machine.Swap(
        bank=bank.row.name,
        request_id=request_id,
        digest=digest,
        envelope=wallet.seal_anonymous(bank.keyset.envelope_key, EXCHANGE, request_id, request),
        serials=tuple(held.coin.serial for held in inputs.own),
        unverified=inputs.unverified,
        outputs=tuple(outputs),
        given=tuple(coin.serial for coin, _ in inputs.given),
    )
    values = [bank.ring.denomination(one) for one in outputs]
    amount, currency = sum(one.value for one in values), values[0].currency
    now = wallet.clock.now()
    note = Note(amount, currency, commission, purpose=purpose, token=inputs.token)
    row = ExchangeRow(request_id, EXCHANGE, bank.row.name, machine.New(), True, now, now, note)  # noqa: FBT003
    row, sends = await advance(wallet, bank, row, machine.Begin(swap, now, wallet.entropy.jitter()))
    async with wallet.presence(bank.address.broker) as requester:
        return await drive(wallet, row, sends, correspondence(wallet, bank, row.state, requester), patience_ms)


def _write(
    wallet: Wallet, bank: Bank, request_id: bytes, inputs: Inputs, outputs: Sequence[bytes], commission: int
) -> tuple[bytes, ExchangeRequest]:
    blinded = blind_outputs(wallet.root, bank.ring, request_id, outputs)
    digest = exchange_digest(bank.row.name, request_id, commission, blinded)
    own = ((held.coin, wallet.root.coin(held.request_id, held.position)) for held in inputs.own)
    spent = (spend(coin, seed, digest) for coin, seed in (*own, *inputs.given))
    return digest, ExchangeRequest(commission, tuple(sorted(spent, key=lambda one: one.coin.serial)), blinded)


def correspondence(wallet: Wallet, bank: Bank, state: State, requester: Requester) -> Correspondence:
    """Return how an exchange speaks: with the bank, anonymously; not at all unless it is `Requested`."""
    readers = (
        {state.swap.request_id: partial(_read, wallet, bank, state.swap)}
        if isinstance(state, machine.Requested)
        else {}
    )
    return Correspondence(requester, bank, readers)


async def _read(wallet: Wallet, bank: Bank, swap: machine.Swap, sealed: bytes) -> Event | Later | None:
    """Turn the bank's answer into an event; signatures and evidence are verified on the way.

    Raises:
        PeerError: if this is no answer to the request.
    """
    answer = wallet.open_from_bank(bank, swap.request_id, swap.envelope, sealed)
    if answer.refusal == Refusal.ALREADY_SPENT:
        void = await wallet.store.refused_digests()
        return _spent_before(swap, void | {swap.digest}, answer, sealed)
    try:
        body = answer.check()
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return later(answer, wallet.clock, wallet.entropy)
        if error.refusal is not Refusal.REQUEST_ID_REUSED:
            return machine.RefusalArrived(error.refusal, error.detail, ())
        return await _reused(wallet, bank, swap, error.detail)
    try:
        issue = Issue.decode(body)
    except PeerError as error:
        return machine.AnswerWrong(sealed, str(error), ())
    root, outputs = wallet.root, swap.outputs
    coins, wrong = await asyncio.to_thread(unblind_outputs, root, bank.ring, swap.request_id, outputs, issue.coins)
    if wrong:
        return machine.AnswerWrong(sealed, wrong, coins)
    return machine.CoinsVerified(coins, sum(bank.ring.denomination(one).value for one in outputs))


async def _reused(wallet: Wallet, bank: Bank, swap: machine.Swap, detail: str) -> Event | None:
    """Ask the bank what the id was used for: if a copy of this wallet made an exchange, its coins are this one's, too.

    The bank's word alone proves no copy: it could refuse, keep the signatures, and show them against the coins later.
    Only who has the seed can ask for coins that unblind. If the bank does not tell, the request is repeated.
    """
    try:
        stored = await fetch(wallet, bank, swap.request_id)
    except (NobodyAnswers, LinkError):
        return None
    copied = False
    if stored is not None and stored.request_id == swap.request_id:
        opened = await take_in(wallet, bank, stored, issued)
        copied = not opened.wrong and tuple(coin.denomination for _, coin in opened.coins) == swap.outputs
    return machine.RefusalArrived(Refusal.REQUEST_ID_REUSED, detail, (), copied)


def _spent_before(swap: machine.Swap, void: Collection[bytes], answer: Answer, sealed: bytes) -> Event:
    """Check that each coin said to be spent is one of the request's, spent on what the bank did not refuse itself."""
    try:
        exhibits = Exhibits.decode(answer.body).exhibits
        for evidence in exhibits:
            evidence.check()
    except PeerError as error:
        return machine.AnswerWrong(sealed, f"no valid evidence: {error}", ())
    inputs = {*swap.serials, *swap.given}
    if not exhibits or any(one.digest in void or one.serial not in inputs for one in exhibits):
        return machine.AnswerWrong(sealed, "no evidence that a coin was spent before", ())
    return machine.RefusalArrived(answer.refusal, answer.detail, tuple(one.serial for one in exhibits))
