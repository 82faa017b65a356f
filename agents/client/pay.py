"""Paying: an order, the merchant's payment request, coins that make the exact amount, the receipt."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from protocol import topics
from protocol.answer import open_answer, seal_secret
from protocol.envelope import request_hash
from protocol.errors import PeerError
from protocol.keyset import Keyset
from protocol.machine import Event, Send, backoff
from protocol.messages import InquiryAnswer, OrderLine, OrderRequest, PayAnswer, Payreq, Signed
from protocol.money import MAX_AMOUNT, Amount
from protocol.refusals import TABLE, Advice, Refusal
from protocol.selection import select_coins
from protocol.wallet import payment as machine
from protocol.wallet import withdrawal
from protocol.wallet.exchange import Exchanged
from protocol.wallet.exchange import Refused as ExchangeRefused
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
from protocol.wallet.stock import Swap, plan_change

from ..requester import Later, NobodyAnswers, Requester, later, pause_ms
from .drive import Correspondence, advance, drive
from .plans import Hand, carry_out, hand_of, plan_refresh
from .store import CoinsTaken, ExchangeRow, HeldCoin, Note
from .wallet import Bank, Wallet, WalletError
from .withdraw import covered, withdraw

PATIENCE_MS: Final = 60_000
_ORDER: Final = "order"
_STEPS: Final = 8
"""How many times coins are chosen, or exchanged for others, before the wallet gives up."""

Tell: TypeAlias = Callable[[ExchangeRow], None]
"""Is told of an exchange that was made on the way."""


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
    read = partial(open_answer, shop.certificate.key, wallet.root.answer_key(request_id), request_hash(envelope))
    sealed = await requester.ask(
        request_id,
        lambda attempt: requester.send(Send(merchant, _ORDER, request_id, envelope, attempt), 0),
        (backoff(attempt, wallet.entropy.jitter()) for attempt in range(5)),
        lambda sealed: pause_ms(read(sealed), wallet.entropy),
    )
    if sealed is None:
        raise NobodyAnswers(f"merchant {merchant} does not answer: is it running?")
    quote = await check_offer(wallet, bank, shop, Signed.decode(read(sealed).check()))
    prices = {item.sku: item.price for item in shop.catalog.items if item.currency == quote.payreq.currency}
    if quote.payreq.amount != sum(prices.get(line.sku, 0) * line.quantity for line in lines):
        raise PeerError(Refusal.AMOUNT_MISMATCH, "the merchant asks for another sum than its catalogue says")
    return quote


async def check_offer(wallet: Wallet, bank: Bank, shop: Shop, asked: Signed) -> Quote:
    """Check a merchant's payment request (a `Signed` `Payreq`), by a newer keyset of the bank if it names one.

    Raises:
        PeerError: what is wrong with it, see `open_payreq`.
        NobodyAnswers: if the bank's keyset is wanted once more, and is not announced.
    """
    try:
        return Quote(bank, shop, open_payreq(asked, shop, bank.keyset, wallet.clock.now()))
    except PeerError as error:
        if error.refusal is not Refusal.FOREIGN_KEYSET:
            raise
    async with wallet.presence(bank.address.broker) as anew:  # the bank may have announced a newer one meanwhile
        bank = await wallet.refresh(bank.address, anew)
    return Quote(bank, shop, open_payreq(asked, shop, bank.keyset, wallet.clock.now()))


class Ready(NamedTuple):
    """These coins make exactly what is asked for."""

    coins: list[HeldCoin]


class Change(NamedTuple):
    """Coins are exchanged first: for smaller ones, or for fresh ones that can be paid with for long enough."""

    plan: Swap
    hand: Hand
    purpose: str


class Shortfall(NamedTuple):
    """The coins in hand are worth too little: one of these is withdrawn first, the first that the account covers."""

    amounts: tuple[Amount, ...]


Step: TypeAlias = Ready | Change | Shortfall


async def next_step(wallet: Wallet, quote: Quote) -> Step:
    """Return what it takes, as things are, to have coins that make exactly what is asked for.

    Coins are left out that could not be spent any more if the payment came to nothing.
    """
    bank, amount = quote.bank, quote.amount
    good_until = quote.payreq.deposit_before + LONGEST_BINDING_MS
    limit, tariff = bank.keyset.limits.max_coins, bank.keyset.tariff
    fresh = await hand_of(wallet, bank, amount.currency, lambda _, one: good_until <= one.spend_until)
    plan = plan_change(amount.value, fresh.counts, fresh.values, tariff.exchange, limit)
    if plan is not None and plan.inputs:
        return Change(plan, fresh, "change")
    if plan is not None:
        return Ready(fresh.take(select_coins(amount.value, fresh.counts)))
    stale = await hand_of(wallet, bank, amount.currency, lambda _, one: one.spend_until < good_until)
    if stale.worth and fresh.worth < amount.value <= fresh.worth + stale.worth:
        plan = plan_refresh(stale.counts, fresh.counts, stale.values, tariff.exchange, limit)
        if plan is not None:
            return Change(plan, stale, "refresh")
    missing = Amount(max(amount.value - fresh.worth, 1), amount.currency)
    return Shortfall((stock_for(amount), amount, missing))


def stock_for(amount: Amount) -> Amount:
    """Return what to withdraw when the coins in hand are worth less than `amount`: a round sum, at least twice as much.

    A withdrawal of the price itself, just before a deposit of the same sum, would tell the bank who pays.
    """
    return Amount(min(1 << (2 * amount.value - 1).bit_length(), MAX_AMOUNT), amount.currency)


def tell_nobody(_: ExchangeRow) -> None:
    """Tell nobody."""


async def assemble(wallet: Wallet, quote: Quote, tell: Tell = tell_nobody) -> list[HeldCoin]:
    """Choose coins that make exactly what is asked for; if need be, change coins or withdraw first, without asking.

    What is found to be spent already (a copy of this wallet spent it) is chosen no more, a few times over.

    Args:
        wallet: who pays.
        quote: what was agreed on.
        tell: is told of each exchange that was made for it.

    Raises:
        WalletError: if that cannot be done, with the reason.
        NobodyAnswers, PeerError: as `withdraw`.
    """
    withdrawn = False
    for _ in range(_STEPS):
        match await next_step(wallet, quote):
            case Ready(coins=coins):
                return coins
            case Change() as change:
                await _change(wallet, quote, change, tell)
            case Shortfall(amounts=amounts) if not withdrawn:
                withdrawn = True
                await _withdraw_first(wallet, quote, amounts, tell)
            case _:
                break
    raise WalletError(f"the coins in hand cannot make {quote.amount}")


async def _change(wallet: Wallet, quote: Quote, change: Change, tell: Tell) -> None:
    try:
        row = await carry_out(wallet, quote.bank, change.plan, change.hand, change.purpose)
    except CoinsTaken:
        return  # something else took a coin meanwhile: choose anew
    tell(row)
    match row.state:
        case Exchanged() | ExchangeRefused(refusal=Refusal.ALREADY_SPENT):
            return
        case ExchangeRefused(refusal=refusal, detail=detail):
            raise WalletError(f"the coins in hand do not make {quote.amount}; the bank refuses: {detail or refusal}")
        case _ if row.open:
            raise WalletError("the exchange for smaller coins has not ended yet: try again later")
        case _:
            raise WalletError("the bank's answer to the exchange for smaller coins is wrong: see the history")


async def _withdraw_first(wallet: Wallet, quote: Quote, amounts: Sequence[Amount], tell: Tell) -> None:
    trouble = WalletError(f"coins in hand and account do not hold {quote.amount}: bring money to the bank first")
    for amount in (await covered(wallet, quote.bank, amounts)).amounts:
        try:
            row = await withdraw(wallet, quote.bank, amount)
        except WalletError as error:  # more coins than the bank signs at once, say
            trouble = error
            continue
        tell(row)
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
    raise trouble


async def pay(
    wallet: Wallet,
    quote: Quote,
    requester: Requester,
    *,
    code: str = "",
    payer_function: str = "sha-256",
    patience_ms: int = PATIENCE_MS,
    tell: Tell = tell_nobody,
) -> ExchangeRow:
    """Pay a quote over the same presence that it was asked for.

    Args:
        wallet: who pays.
        quote: what was agreed on.
        requester: the presence.
        code: the payer code; a strong random one is derived if it is empty.
        payer_function: the hash function of the payer code's digest, one of `HASH_FUNCTIONS`.
        patience_ms: how long to wait for the end.
        tell: is told of each exchange that was made to have the coins.

    Returns:
        The exchange, which is still open if there is no verdict yet: it will be resumed.

    Raises:
        WalletError: if the amount cannot be assembled; nothing was paid.
        CoinsTaken: if another exchange took a coin meanwhile, time and again; nothing was paid.
    """
    for attempt in range(1, _STEPS + 1):
        coins = await assemble(wallet, quote, tell)
        payment, note = _write(wallet, quote, coins, code, payer_function)
        try:
            row, sends = await _begin(wallet, quote.bank, payment, note)
            break
        except CoinsTaken:
            if attempt == _STEPS:
                raise
    return await drive(wallet, row, sends, correspondence(wallet, quote.bank, row, payment, requester), patience_ms)


def _write(
    wallet: Wallet, quote: Quote, coins: Sequence[HeldCoin], code: str, payer_function: str
) -> tuple[Payment, Note]:
    if wallet.clock.now() >= quote.payreq.expires:
        raise WalletError("the merchant's offer has expired meanwhile; nothing was paid: order again")
    pay_id, inquiry_id = wallet.new_id(), wallet.new_id()
    root = wallet.root
    payer = Payer(payer_function, root.payer_salt(pay_id), code or root.payer_code(pay_id))
    ids = Ids(pay_id, root.answer_key(pay_id), inquiry_id, root.answer_key(inquiry_id), root.evidence_key(pay_id))
    pairs = [(held.coin, root.coin(held.request_id, held.position)) for held in coins]
    info, payment = write_payment(quote.payreq, payer, quote.shop, quote.bank.keyset, pairs, ids)
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
    return payment, note


async def _begin(wallet: Wallet, bank: Bank, payment: Payment, note: Note) -> tuple[ExchangeRow, list[Send]]:
    now = wallet.clock.now()
    row = ExchangeRow(
        id=payment.pay_id,
        kind=machine.PAY,
        bank=bank.row.name,
        state=machine.New(),
        open=True,
        wake_at=now,
        begun_at=now,
        note=note,
    )
    return await advance(wallet, bank, row, machine.Begin(payment, now, wallet.entropy.jitter()))


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
) -> Event | Later | None:
    key = wallet.root.answer_key(payment.pay_id)
    merchant_key = row.note.merchant_key
    answer = open_answer(merchant_key, key, request_hash(payment.pay), sealed)
    try:
        body = PayAnswer.decode(answer.check())
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return later(answer, wallet.clock, wallet.entropy)
        return machine.RefusalByMerchant(error.refusal, error.detail)
    if body.receipt:
        return read_receipt(Signed.decode(body.receipt), merchant_key, keyset.identity, payment.digest)[1]
    evidence_key = wallet.root.evidence_key(payment.pay_id)
    refused = await wallet.store.refused_digests()
    return read_verdict(Signed.decode(body.verdict), keyset.identity, payment, evidence_key, refused)


async def _from_bank(wallet: Wallet, bank: Bank, payment: Payment, sealed: bytes) -> Event | Later | None:
    answer = wallet.open_from_bank(bank, payment.inquiry_id, payment.inquiry, sealed)
    evidence_key = wallet.root.evidence_key(payment.pay_id)
    refused = await wallet.store.refused_digests()
    try:
        body = InquiryAnswer.decode(answer.check())
        return read_verdict(Signed.decode(body.verdict), bank.keyset.identity, payment, evidence_key, refused)
    except PeerError as error:
        if TABLE[error.refusal].advice is Advice.RETRY:
            return later(answer, wallet.clock, wallet.entropy)
        return machine.InquiryRefused(sealed, error.refusal, error.detail)
