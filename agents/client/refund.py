"""Collecting a refund: coins that the merchant pays for, and that neither it nor the bank can connect with anybody."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from protocol.answer import Answer, open_answer
from protocol.envelope import Letter, request_hash, seal_letter
from protocol.errors import PeerError
from protocol.exchange import REFUND, TICKET, Issue, RefundAnswer, RefundRequest, Ticket
from protocol.keyset import KeyRing
from protocol.machine import Event, Send, State, backoff
from protocol.messages import PaymentInfo
from protocol.recovery import FETCH, FetchAnswer, FetchRequest
from protocol.refusals import TABLE, Advice, Refusal
from protocol.selection import TARGET, SelectionError, choose_denominations
from protocol.wallet import payment
from protocol.wallet import refund as machine
from protocol.wallet.outputs import blind_outputs, in_order, unblind_outputs
from protocol.wallet.paying import Shop

from ..requester import Later, NobodyAnswers, Requester, later, pause_ms
from .drive import Correspondence, advance, drive
from .pay import visit
from .store import ExchangeRow, Note
from .wallet import HOUR_MS, Bank, Wallet, WalletError

PATIENCE_MS: Final = 60_000
TICKET_LIFE_MS: Final = 7 * 24 * HOUR_MS
"""For how long the bank serves a ticket; no coin of the wallet is bound meanwhile."""


async def collect(wallet: Wallet, paid: ExchangeRow, patience_ms: int = PATIENCE_MS) -> ExchangeRow:
    """Collect what the merchant has granted as a refund of a payment.

    Args:
        wallet: the buyer's.
        paid: the payment.
        patience_ms: how long to wait for the end.

    Returns:
        The exchange, which is still open if no answer came in time, or the merchant has refused: it will be resumed.

    Raises:
        WalletError: if this is no payment that was paid, another refund of it is under way, and the merchant has not
            refused that, or the bank has no coins that make the amount; nothing was collected.
        NobodyAnswers: if merchant or bank are not there.
        PeerError: the merchant's refusal, `NO_REFUND` if nothing is granted; or what cannot be trusted.
    """
    note = paid.note
    if paid.kind != payment.PAY or not isinstance(paid.state, payment.Paid | payment.Unreceipted):
        raise WalletError(f"{paid.id.hex()[:8]} is no payment that was paid: see `ecash wallet history`")
    for other in await wallet.store.exchanges(only_open=True):
        if other.kind == REFUND and other.note.info == note.info and not refused(other):
            raise WalletError("a refund of this payment is under way: the wallet carries it on")
    bank = wallet.bank(paid.bank)
    async with wallet.presence(bank.address.broker) as requester:
        bank, shop = await visit(wallet, bank, note.merchant, requester)
        digest = PaymentInfo.decode(note.info).digest
        amount = await _granted(wallet, shop, RefundRequest(digest, note.salt, b""), requester)
        if not 0 < amount <= note.amount:
            raise PeerError(Refusal.AMOUNT_MISMATCH, "the merchant grants nothing, or more than was paid")
        outputs = await _outputs(wallet, bank, amount, note.currency)
        claim = await _write(wallet, bank, shop, RefundRequest(digest, note.salt, b""), outputs)
        now = wallet.clock.now()
        row = ExchangeRow(
            id=claim.ticket_id,
            kind=REFUND,
            bank=bank.row.name,
            state=machine.New(),
            open=True,
            wake_at=now,
            begun_at=now,
            note=Note(
                amount=amount,
                currency=note.currency,
                merchant=note.merchant,
                title=note.title,
                info=note.info,
                merchant_key=shop.certificate.key,
            ),
        )
        row, sends = await advance(wallet, bank, row, machine.Begin(claim, now, wallet.entropy.jitter()))
        return await drive(wallet, row, sends, correspondence(wallet, bank, row, requester), patience_ms)


def refused(row: ExchangeRow) -> bool:
    """Tell whether the merchant has refused a refund, which stays open only in case that it serves the ticket yet."""
    return isinstance(row.state, machine.Checking | machine.Waiting) and bool(row.state.refusal)


async def _granted(wallet: Wallet, shop: Shop, request: RefundRequest, requester: Requester) -> int:
    request_id, merchant = wallet.new_id(), shop.certificate.merchant
    envelope = wallet.seal_anonymous(shop.envelope_key, REFUND, request_id, request)
    read = partial(open_answer, shop.certificate.key, wallet.root.answer_key(request_id), request_hash(envelope))
    sealed = await requester.ask(
        request_id,
        lambda attempt: requester.send(Send(merchant, REFUND, request_id, envelope, attempt), 0),
        (backoff(attempt, wallet.entropy.jitter()) for attempt in range(5)),
        lambda sealed: pause_ms(read(sealed), wallet.entropy),
    )
    if sealed is None:
        raise NobodyAnswers(f"merchant {merchant} does not answer: is it running?")
    return RefundAnswer.decode(read(sealed).check()).amount


async def _outputs(wallet: Wallet, bank: Bank, amount: int, currency: str) -> Sequence[bytes]:
    """Choose the denominations that the wallet lacks, or else as few coins as can be."""
    minted = bank.ring.current(currency, wallet.clock.now())
    free: dict[int, int] = {}
    for coin in await wallet.store.coins(bank.row.name, currency):
        free[coin.value] = free.get(coin.value, 0) + 1
    for stock in (free, dict.fromkeys(minted, TARGET)):
        try:
            chosen = await asyncio.to_thread(choose_denominations, amount, sorted(minted), stock)
        except SelectionError as error:
            raise WalletError(f"{bank.row.name} has no coins that make the refund: {error}") from error
        if sum(chosen.values()) <= bank.keyset.limits.max_coins:
            return in_order(bank.ring, (minted[value] for value, count in chosen.items() for _ in range(count)))
    raise WalletError(f"the refund takes more coins than {bank.row.name} signs at once: ask for it in parts")


async def _write(
    wallet: Wallet, bank: Bank, shop: Shop, request: RefundRequest, denominations: Sequence[bytes]
) -> machine.Claim:
    """Write and seal ticket, request and inquiry. The ticket's id is counted, so that a lost wallet finds it again."""
    ticket_id, refund_id, fetch_id = await wallet.new_exchange_id(bank), wallet.new_id(), wallet.new_id()
    root, to_bank = wallet.root, bank.keyset.envelope_key
    deadline = -(-(wallet.clock.now() + TICKET_LIFE_MS) // HOUR_MS) * HOUR_MS
    blinded = await asyncio.to_thread(blind_outputs, root, bank.ring, ticket_id, denominations)
    body = Ticket(blinded).encode()
    ticket = seal_letter(to_bank, Letter(TICKET, ticket_id, deadline, root.answer_key(ticket_id), b"", body), None)
    shown = RefundRequest(request.digest, request.salt, ticket).encode()
    letter = Letter(REFUND, refund_id, deadline, root.answer_key(refund_id), b"", shown)
    return machine.Claim(
        merchant=shop.certificate.merchant,
        bank=bank.row.name,
        ticket_id=ticket_id,
        ticket=ticket,
        outputs=tuple(denominations),
        deadline=deadline,
        refund_id=refund_id,
        refund=seal_letter(shop.envelope_key, letter, None),
        fetch_id=fetch_id,
        fetch=wallet.seal_anonymous(to_bank, FETCH, fetch_id, FetchRequest(ticket_id)),
    )


def correspondence(wallet: Wallet, bank: Bank, row: ExchangeRow, requester: Requester) -> Correspondence:
    """Return how a refund speaks: with the merchant, and if need be with the bank; not at all once it has ended."""
    state: State = row.state
    if not isinstance(state, machine.Requested | machine.Checking | machine.Waiting):
        return Correspondence(requester, bank, {})
    claim = state.claim
    return Correspondence(
        requester,
        bank,
        {
            claim.refund_id: partial(_from_merchant, wallet, bank, row.note.merchant_key, claim),
            claim.fetch_id: partial(_from_bank, wallet, bank, claim),
        },
    )


async def _from_merchant(
    wallet: Wallet, bank: Bank, merchant_key: bytes, claim: machine.Claim, sealed: bytes
) -> Event | Later | None:
    key = wallet.root.answer_key(claim.refund_id)
    answer = open_answer(merchant_key, key, request_hash(claim.refund), sealed)
    try:
        issue = RefundAnswer.decode(answer.check()).issue
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return later(answer, wallet.clock, wallet.entropy)
        now, jitter = wallet.clock.now(), wallet.entropy.jitter()
        return machine.RefusalArrived(error.refusal, error.detail, now, jitter)
    return await _read_issue(wallet, bank.ring, claim, issue)


async def _from_bank(wallet: Wallet, bank: Bank, claim: machine.Claim, sealed: bytes) -> Event | Later | None:
    answer = wallet.open_from_bank(bank, claim.fetch_id, claim.fetch, sealed)
    try:
        found = FetchAnswer.decode(answer.check()).found
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return later(answer, wallet.clock, wallet.entropy)
        raise
    if not found or found[0].request_hash != request_hash(claim.ticket):  # or another request, of a copied wallet
        return machine.NothingFetched(answer.at, wallet.clock.now())
    try:
        return await _read_issue(wallet, bank.ring, claim, found[0].answer)
    except PeerError as error:  # the bank itself has said, under its signature, that this is its answer
        return machine.AnswerWrong(sealed, str(error), ())


async def _read_issue(wallet: Wallet, ring: KeyRing, claim: machine.Claim, sealed: bytes) -> Event:
    """Turn the bank's answer to the ticket into an event; the signatures are verified on the way.

    Raises:
        PeerError: if this is not the bank's answer to the ticket.
    """
    key = wallet.root.answer_key(claim.ticket_id)
    answer: Answer = open_answer(ring.keyset.identity, key, request_hash(claim.ticket), sealed)
    try:
        issue = Issue.decode(answer.check())
    except PeerError as error:
        return machine.AnswerWrong(sealed, str(error), ())
    root, outputs = wallet.root, claim.outputs
    coins, wrong = await asyncio.to_thread(unblind_outputs, root, ring, claim.ticket_id, outputs, issue.coins)
    if wrong:
        return machine.AnswerWrong(sealed, wrong, coins)
    return machine.CoinsVerified(coins, sum(ring.denomination(one).value for one in outputs))
