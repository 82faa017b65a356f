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
from protocol.money import MAX_AMOUNT, Amount
from protocol.refusals import TABLE, Advice, Refusal
from protocol.selection import SelectionError, select_coins
from protocol.wallet import payment as machine
from protocol.wallet import withdrawal
from protocol.wallet.paying import (
    LONGEST_BINDING_MS,
    Ids,
    Payer,
    Shop,
    open_catalog,
    open_payreq,
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
        PeerError: the merchant's refusal, or what is wrong with its payment request; `AMOUNT_MISMATCH` if it asks
            for another sum than its catalogue says.
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
    prices = {item.sku: item.price for item in shop.catalog.items if item.currency == payreq.currency}
    if payreq.amount != sum(prices.get(line.sku, 0) * line.quantity for line in lines):
        raise PeerError(Refusal.AMOUNT_MISMATCH, "the merchant asks for another sum than its catalogue says")
    return Quote(bank, shop, payreq)


async def choose_coins(wallet: Wallet, quote: Quote) -> list[HeldCoin] | None:
    """Choose coins in hand that make exactly what is asked for; None if none do.

    Coins are left out that could not be spent any more if the payment came to nothing.

    Raises:
        WalletError: if it takes more coins than the bank takes in one payment.
    """
    bank, amount = quote.bank, quote.amount
    last_spending = quote.payreq.deposit_before + LONGEST_BINDING_MS
    spend_until = {key: denomination.spend_until for key, denomination in bank.ring.items()}
    held: dict[int, list[HeldCoin]] = {}
    for coin in await wallet.store.free_coins(bank.row.name, amount.currency):
        if last_spending <= spend_until.get(coin.coin.denomination, 0):
            held.setdefault(coin.value, []).append(coin)
    try:
        chosen = select_coins(amount.value, {value: len(coins) for value, coins in held.items()})
    except SelectionError:  # they make no such sum, or nobody could find out in bounded time
        return None
    coins = [coin for value, count in chosen.items() for coin in held[value][:count]]
    if len(coins) > bank.keyset.limits.max_coins:
        raise WalletError(f"{amount} takes {len(coins)} coins, and {bank.row.name} takes fewer in one payment")
    return coins


def stock_for(amount: Amount) -> Amount:
    """Return what to withdraw when the coins in hand do not make `amount`: a round sum, at least twice as much.

    A withdrawal of the price itself, just before a deposit of the same sum, would tell the bank who pays.
    """
    return Amount(min(1 << (2 * amount.value - 1).bit_length(), MAX_AMOUNT), amount.currency)


async def assemble(wallet: Wallet, quote: Quote) -> list[HeldCoin]:
    """Choose coins that make exactly what is asked for; withdraw a stock if they do not, without asking.

    Raises:
        WalletError: if that cannot be done, with the reason.
        NobodyAnswers, PeerError: as `withdraw`.
    """
    coins = await choose_coins(wallet, quote)
    if coins is None:
        await _withdraw_stock(wallet, quote)
        coins = await choose_coins(wallet, quote)
    if coins is None:
        raise WalletError(f"the coins in hand cannot make {quote.amount}")
    return coins


async def _withdraw_stock(wallet: Wallet, quote: Quote) -> None:
    for amount in (stock_for(quote.amount), quote.amount):
        row = await withdraw(wallet, quote.bank, amount)
        match row.state:
            case withdrawal.Issued():
                return
            case withdrawal.Refused(refusal=Refusal.INSUFFICIENT_FUNDS):
                continue  # the account may still hold enough for this payment alone
            case withdrawal.Refused(refusal=refusal, detail=detail):
                raise WalletError(
                    f"the coins in hand do not make {quote.amount}; the bank refuses: {detail or refusal}"
                )
            case _:
                raise WalletError("the withdrawal of the missing coins has not ended yet: try again later")
    raise WalletError(f"coins in hand and account do not hold {quote.amount}: bring money to the bank first")


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
    coins = await assemble(wallet, quote)
    if wallet.clock.now() >= quote.payreq.expires:
        raise WalletError("the merchant's offer has expired meanwhile; nothing was paid: order again")
    pay_id, inquiry_id = wallet.new_id(), wallet.new_id()
    root = wallet.root
    payer = Payer(payer_function, root.payer_salt(pay_id), code or root.payer_code(pay_id))
    ids = Ids(pay_id, root.answer_key(pay_id), inquiry_id, root.answer_key(inquiry_id), root.evidence_key(pay_id))
    pairs = [(held.coin, root.coin(held.request_id, held.position)) for held in coins]
    info, payment = write_payment(quote.payreq, payer, quote.shop, bank.keyset, pairs, ids)
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
    refused = await wallet.store.refused_digests()
    return read_verdict(Signed.decode(body.verdict), keyset.identity, payment, evidence_key, refused)


async def _from_bank(wallet: Wallet, bank: Bank, payment: Payment, sealed: bytes) -> Event | None:
    answer = wallet.open_from_bank(bank, payment.inquiry_id, payment.inquiry, sealed)
    try:
        body = InquiryAnswer.decode(answer.check())
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return None
        raise
    evidence_key = wallet.root.evidence_key(payment.pay_id)
    refused = await wallet.store.refused_digests()
    return read_verdict(Signed.decode(body.verdict), bank.keyset.identity, payment, evidence_key, refused)
