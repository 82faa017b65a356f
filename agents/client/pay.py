"""Paying: an order, the merchant's payment request, coins that make the exact amount, the receipt."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from protocol import topics
from protocol.answer import open_answer, seal_secret
from protocol.envelope import request_hash
from protocol.errors import PeerError
from protocol.keyset import Keyset
from protocol.machine import Event, Send, backoff
from protocol.messages import InquiryAnswer, OrderLine, OrderRequest, PayAnswer, Payreq, Signed
from protocol.money import Amount
from protocol.refusals import TABLE, Advice
from protocol.selection import CannotMakeAmount, select_coins
from protocol.wallet import payment as machine
from protocol.wallet import withdrawal
from protocol.wallet.paying import (
    Ids,
    Shop,
    open_catalog,
    open_payreq,
    payment_info,
    read_receipt,
    read_verdict,
    write_payment,
)
from protocol.wallet.payment import Payment

from ..requester import NobodyAnswers, Requester
from .exchange import Correspondence, advance, drive
from .store import ExchangeRow, HeldCoin, Note
from .wallet import Bank, Wallet, WalletError
from .withdraw import withdraw

PATIENCE_MS: Final = 60_000
_ORDER: Final = "order"


class Quote(NamedTuple):
    """What the merchant asks for an order, checked: pay it or leave it."""

    bank: Bank
    shop: Shop
    payreq: Payreq

    @property
    def amount(self) -> Amount:
        """What is to be paid."""
        return Amount(self.payreq.amount, self.payreq.currency)


async def visit(wallet: Wallet, bank: Bank, merchant: str, requester: Requester) -> tuple[Bank, Shop]:
    """Fetch the bank's keyset and the merchant's catalogue, and check both.

    Raises:
        NobodyAnswers: if either is not announced.
        PeerError: if either cannot be trusted.
    """
    bank = await wallet.refresh(bank.address, requester)
    announced = await requester.retained(topics.catalog(merchant))
    return bank, open_catalog(merchant, announced, bank.keyset)


async def order(wallet: Wallet, bank: Bank, merchant: str, lines: Sequence[OrderLine], requester: Requester) -> Quote:
    """Order at a merchant and return its checked payment request.

    Raises:
        NobodyAnswers: if merchant or bank are not there.
        PeerError: the merchant's refusal, or what is wrong with its payment request.
    """
    bank, shop = await visit(wallet, bank, merchant, requester)
    request_id = wallet.new_id()
    body = OrderRequest(bank.row.name, tuple(lines))
    envelope = wallet.seal_anonymous(shop.envelope_key, _ORDER, request_id, body)
    sealed = await requester.ask(
        request_id,
        lambda attempt: requester.send(Send(merchant, _ORDER, request_id, envelope, attempt), 0),
        (backoff(attempt, wallet.entropy.jitter()) for attempt in range(5)),
    )
    if sealed is None:
        raise NobodyAnswers(f"merchant {merchant} does not answer: is it running?")
    key = wallet.root.answer_key(request_id)
    answer = open_answer(shop.certificate.key, key, request_hash(envelope), sealed)
    payreq = open_payreq(Signed.decode(answer.check()), shop, bank.keyset, wallet.clock.now())
    return Quote(bank, shop, payreq)


async def assemble(wallet: Wallet, bank: Bank, amount: Amount, deposit_before: int) -> list[HeldCoin]:
    """Choose coins that make exactly `amount` and can be deposited in time; withdraw what is missing, without asking.

    Raises:
        WalletError: if that cannot be done, with the reason.
        NobodyAnswers, PeerError: as `withdraw`.
    """
    for attempt in range(2):
        held: dict[int, list[HeldCoin]] = {}
        for coin in await wallet.store.free_coins(bank.row.name, amount.currency):
            if deposit_before <= bank.ring.denomination(coin.coin.denomination).spend_until:
                held.setdefault(coin.value, []).append(coin)
        try:
            chosen = select_coins(amount.value, {value: len(coins) for value, coins in held.items()})
        except CannotMakeAmount:
            if attempt == 0:
                await _withdraw_more(wallet, bank, amount)
            continue
        coins = [coin for value, count in chosen.items() for coin in held[value][:count]]
        if len(coins) > bank.keyset.limits.max_coins:
            raise WalletError(f"{amount} takes {len(coins)} coins, and {bank.row.name} takes fewer in one payment")
        return coins
    raise WalletError(f"the coins in hand cannot make {amount}")


async def _withdraw_more(wallet: Wallet, bank: Bank, amount: Amount) -> None:
    row = await withdraw(wallet, bank, amount)
    match row.state:
        case withdrawal.Issued():
            return
        case withdrawal.Refused(refusal=refusal, detail=detail):
            raise WalletError(
                f"the coins in hand do not make {amount}, and the bank gives no more: {detail or refusal}"
            )
        case _:
            raise WalletError("the withdrawal of the missing coins has not ended yet: try again later")


async def pay(
    wallet: Wallet,
    quote: Quote,
    requester: Requester,
    *,
    code: str = "",
    payer_function: str = "sha-256",
    patience_ms: int = PATIENCE_MS,
) -> ExchangeRow:
    """Pay a quote over the same presence that it was asked for.

    Args:
        wallet: who pays.
        quote: what was agreed on.
        requester: the presence.
        code: the payer code; a strong random one is derived if it is empty.
        payer_function: the hash function of the payer code's digest, one of `HASH_FUNCTIONS`.
        patience_ms: how long to wait for the end.

    Returns:
        The exchange, which is still open if there is no verdict yet: it will be resumed.

    Raises:
        WalletError: if the amount cannot be assembled; nothing was paid.
        CoinsTaken: if another exchange took a coin meanwhile; nothing was paid.
    """
    bank = quote.bank
    coins = await assemble(wallet, bank, quote.amount, quote.payreq.deposit_before)
    pay_id, inquiry_id = wallet.new_id(), wallet.new_id()
    root = wallet.root
    info = payment_info(quote.payreq, payer_function, root.payer_salt(pay_id), code or root.payer_code(pay_id))
    ids = Ids(pay_id, root.answer_key(pay_id), inquiry_id, root.answer_key(inquiry_id), root.evidence_key(pay_id))
    payment = write_payment(
        info,
        quote.shop,
        bank.keyset,
        {held.coin.serial: held.coin for held in coins},
        [root.coin(held.request_id, held.position) for held in coins],
        ids,
    )
    now = wallet.clock.now()
    note = Note(
        amount=quote.amount.value,
        currency=quote.amount.currency,
        merchant=payment.merchant,
        title=quote.shop.certificate.name,
        order=quote.payreq.order,
        info=info.encode(),
        salt=quote.payreq.salt,
        code=seal_secret(root.note_key(pay_id), b"payer code", code.encode()) if code else b"",
        payer_function=payer_function,
        merchant_key=quote.shop.certificate.key,
    )
    row = ExchangeRow(
        id=pay_id,
        kind=machine.PAY,
        bank=bank.row.name,
        state=machine.New(),
        open=True,
        wake_at=now,
        begun_at=now,
        note=note,
    )
    row, sends = await advance(wallet, bank, row, machine.Begin(payment, now, wallet.entropy.jitter()))
    return await drive(wallet, row, sends, correspondence(wallet, bank, row, payment, requester), patience_ms)


def correspondence(
    wallet: Wallet, bank: Bank, row: ExchangeRow, payment: Payment, requester: Requester
) -> Correspondence:
    """Return how a payment speaks: with the merchant, and if need be with the bank."""
    return Correspondence(
        requester,
        bank,
        {
            payment.pay_id: lambda sealed: _from_merchant(wallet, bank.keyset, row, payment, sealed),
            payment.inquiry_id: lambda sealed: _from_bank(wallet, bank, payment, sealed),
        },
    )


async def _from_merchant(
    wallet: Wallet, keyset: Keyset, row: ExchangeRow, payment: Payment, sealed: bytes
) -> Event | None:
    key = wallet.root.answer_key(payment.pay_id)
    merchant_key = row.note.merchant_key
    answer = open_answer(merchant_key, key, request_hash(payment.pay), sealed)
    try:
        body = PayAnswer.decode(answer.check())
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return None
        return machine.RefusalByMerchant(error.refusal, error.detail)
    if body.receipt:
        return read_receipt(Signed.decode(body.receipt), merchant_key, keyset.identity, payment.digest)[1]
    evidence_key = wallet.root.evidence_key(payment.pay_id)
    return read_verdict(Signed.decode(body.verdict), keyset.identity, payment, evidence_key)


async def _from_bank(wallet: Wallet, bank: Bank, payment: Payment, sealed: bytes) -> Event | None:
    answer = wallet.open_from_bank(bank, payment.inquiry_id, payment.inquiry, sealed)
    try:
        body = InquiryAnswer.decode(answer.check())
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return None
        raise
    evidence_key = wallet.root.evidence_key(payment.pay_id)
    return read_verdict(Signed.decode(body.verdict), bank.keyset.identity, payment, evidence_key)
