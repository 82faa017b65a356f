"""The till: what the merchant does with an order, a payment, and the bank's decision, each in one durable step."""

import asyncio
import hmac
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from broker.port import Outgoing
from protocol.answer import Answer, open_answer, refuse, seal_answer
from protocol.codec import MAX_TEXT
from protocol.derivation import new_request_id
from protocol.envelope import Letter, request_hash, seal_letter
from protocol.errors import PeerError
from protocol.keyset import KeyRing
from protocol.machine import Effect, Overdue, Send, WakeAt
from protocol.merchant import deposit, sale
from protocol.messages import (
    Certificate,
    DepositAnswer,
    DepositRequest,
    Item,
    OrderLine,
    OrderRequest,
    PayAnswer,
    PaymentInfo,
    Payreq,
    PayRequest,
    Receipt,
    Signed,
    open_verdict,
)
from protocol.money import MAX_AMOUNT
from protocol.refusals import TABLE, Advice, Refusal
from protocol.signatures import Domain

from ..trace import point
from ..world import Clock, Entropy
from .home import MerchantKeys, Settings
from .store import Asked, Change, DepositRow, MerchantStore, SaleRow

_log = logging.getLogger("ecash.merchant")
_MINUTE_MS: Final = 60_000
_NEVER: Final = 2**53 - 1
MAX_ASKERS: Final = 4
"""How many requests about one payment are answered at once; a payer has one, and whoever writes more asks again."""


class Request(NamedTuple):
    """A request that was opened, with its hash and the topic to answer on."""

    letter: Letter
    hashed: bytes
    reply_topic: str


class Alarm(NamedTuple):
    """A machine wants to be woken: `subject` is a sale's payment id or a deposit's digest."""

    at: int
    kind: str
    subject: bytes


class Result(NamedTuple):
    """What may go out, now that the step is durable. `deposits` are requests by the digest of their payment."""

    answers: Sequence[Outgoing] = ()
    deposits: Sequence[tuple[bytes, Send]] = ()
    alarms: Sequence[Alarm] = ()


class Trust(NamedTuple):
    """What the merchant has from its bank: its keys, and the certificate (`Signed`) that makes it a merchant."""

    ring: KeyRing
    certificate: Certificate
    signed: bytes


class Till:
    """One merchant's till.

    Args:
        settings, keys, catalog: the home's; the catalogue gives item and goods by sku.
        store: the merchant's books.
        trust: what the bank has announced and certified; replaced when it announces anew.
        clock, entropy: the world.
    """

    def __init__(
        self,
        settings: Settings,
        keys: MerchantKeys,
        catalog: dict[str, tuple[Item, str]],
        store: MerchantStore,
        trust: Trust,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.trust = trust
        self._settings = settings
        self._keys = keys
        self._catalog = catalog
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._device = keys.public[:16]
        self._step = asyncio.Lock()  # a step reads, decides and writes; two at once would decide on the same past

    async def take(self, request: Request) -> Result:
        """Take a request in and answer it, at once or when the bank has decided.

        Raises:
            PeerError: a refusal that is not stored.
        """
        async with self._step:
            known = await self._store.asked(request.letter.request_id)
            if known is not None and known.request_hash != request.hashed:
                raise PeerError(Refusal.REQUEST_ID_REUSED, "another request with this id was taken in")
            if known is not None and known.answer is not None:
                return Result(answers=[_outgoing(known._replace(topic=request.reply_topic))])
            if known is None and self._clock.now() >= request.letter.deadline:
                raise PeerError(Refusal.REQUEST_EXPIRED, "the request's deadline has passed")
            match request.letter.kind:
                case sale.ORDER:
                    return await self._order(request, OrderRequest.decode(request.letter.body))
                case sale.PAY:
                    return await self._pay(request, PayRequest.decode(request.letter.body))
                case kind:
                    raise PeerError(Refusal.WRONG_TYPE, f"this merchant does not serve {kind} yet")

    async def _order(self, request: Request, body: OrderRequest) -> Result:
        keyset, certificate = self.trust.ring.keyset, self.trust.certificate
        if body.bank != keyset.bank:
            raise PeerError(Refusal.WRONG_BANK, f"this merchant takes coins of {keyset.bank}")
        items = [(line, *self._item(line)) for line in body.lines]
        amount = sum(item.price * line.quantity for line, item, _ in items)
        if amount > MAX_AMOUNT:
            raise PeerError(Refusal.MALFORMED, "the order is worth more than there is money")
        now = self._clock.now()
        expires = now + self._settings.offer_minutes * _MINUTE_MS
        payreq = Payreq(
            currency=certificate.currency,
            amount=amount,
            timestamp=now,
            bank=keyset.bank,
            account=certificate.account,
            order=tuple(_line(line, item) for line, item, _ in items),
            payment_id=self._entropy.bytes(16),
            salt=self._entropy.bytes(16),
            expires=expires,
            deposit_before=expires + self._settings.deposit_minutes * _MINUTE_MS,
            keyset=keyset.hash,
        )
        signed = Signed.make(self._keys.identity, Domain.PAYREQ, payreq).encode()
        state, effects = sale.step(sale.New(), sale.Ordered(sale.Offer(payreq.payment_id, signed, expires)))
        title = ", ".join(payreq.order)[:200]
        goods = "\n".join(text for _, _, text in items if text)
        if len(goods) > MAX_TEXT:
            raise PeerError(Refusal.MALFORMED, "so many goods do not fit in one receipt: order less at once")
        row = SaleRow(payreq.payment_id, state, expires, now, amount, payreq.currency, title, goods)
        asked = self._answered(self._asked(request, b""), Answer(now, "", "", signed))
        point("merchant.order.saving")
        await self._store.save(Change(sales=[row], asked=[asked]))
        point("merchant.order.offered")
        return Result([_outgoing(asked)], alarms=_alarms("sale", row.payment_id, effects))

    def _item(self, line: OrderLine) -> tuple[Item, str]:
        item, goods = self._catalog.get(line.sku, (None, ""))
        if item is None or item.currency != self.trust.certificate.currency:
            raise PeerError(Refusal.UNKNOWN_ITEM, f"the catalogue has no {line.sku}")
        return item, goods

    async def _pay(self, request: Request, body: PayRequest) -> Result:
        info = PaymentInfo.decode(body.info)
        row = await self._store.sale(info.payment_id)
        if row is None or isinstance(row.state, sale.New):
            raise PeerError(Refusal.UNKNOWN_SALE, "no such sale")
        payreq = Payreq.decode(Signed.decode(row.state.offer.payreq).statement)
        if not hmac.compare_digest(body.salt, payreq.salt):  # the bank knows the payment, but must not get the goods
            raise PeerError(Refusal.UNKNOWN_SALE, "no such sale")
        if not sale.agrees(info, payreq):
            raise PeerError(Refusal.PAYMENT_ALTERED, "the payment information is not what was agreed on")
        event = sale.PaymentArrived(info.digest, body.info, body.parcel, self._clock.now())
        state, effects = sale.step(row.state, event)
        for effect in effects:
            if isinstance(effect, sale.RefusePayment) and TABLE[Refusal(effect.refusal)].advice is Advice.RETRY:
                raise PeerError(Refusal(effect.refusal), "another payment for this sale is being deposited")
        return await self._commit(row._replace(state=state), effects, asking=self._asked(request, info.digest))

    async def bank_answered(self, digest: bytes, sealed: bytes) -> Result:
        """Take the bank's answer to a deposit in.

        Raises:
            PeerError: if it is none.
        """
        async with self._step:
            row = await self._store.deposit(digest)
            if row is None or not isinstance(row.state, deposit.Requested):
                return Result()
            event = self._read_answer(row.state, sealed)
            return Result() if event is None else await self._settle(row, event)

    def _read_answer(self, state: deposit.Requested, sealed: bytes) -> deposit.DepositEvent | None:
        identity = self.trust.ring.keyset.identity
        key = self._keys.root.answer_key(state.request_id)
        answer = open_answer(identity, key, request_hash(state.envelope), sealed)
        try:
            body = DepositAnswer.decode(answer.check())
        except PeerError as error:
            retry = TABLE[error.refusal].advice is Advice.RETRY
            return None if retry else deposit.RefusalArrived(error.refusal)
        verdict = open_verdict(Signed.decode(body.verdict), identity, state.digest)
        return deposit.VerdictArrived(body.verdict, verdict.refusal, body.commission)

    async def _settle(self, row: DepositRow, event: deposit.DepositEvent) -> Result:
        state, effects = deposit.step(row.state, event)
        sold = await self._store.sale(row.payment_id)
        settle = next(effect for effect in effects if isinstance(effect, deposit.Settle))
        if sold is None:
            raise KeyError(row.payment_id.hex())
        decided: sale.SaleEvent = sale.Refused(row.digest, settle.verdict)
        if not settle.refusal:
            receipt = Receipt(row.digest, settle.verdict, sold.goods, self._clock.now())
            signed = Signed.make(self._keys.identity, Domain.RECEIPT, receipt).encode()
            decided = sale.Accepted(row.digest, signed)
        after, sale_effects = sale.step(sold.state, decided)
        return await self._commit(sold._replace(state=after), sale_effects, deposits=[row._replace(state=state)])

    async def overdue(self, alarm: Alarm, jitter: int) -> Result:
        """Feed a machine the time that it asked to be woken at."""
        event = Overdue(self._clock.now(), jitter)
        async with self._step:
            if alarm.kind == "sale":
                row = await self._store.sale(alarm.subject)
                if row is None or not row.open:
                    return Result()
                after, effects = sale.step(row.state, event)
                return await self._commit(row._replace(state=after), effects)
            waiting = await self._store.deposit(alarm.subject)
            if waiting is None or not waiting.open:
                return Result()
            state, resend = deposit.step(waiting.state, event)
            await self._store.save(Change(deposits=[waiting._replace(state=state)]))
            return Result((), _sends(alarm.subject, resend), _alarms("deposit", alarm.subject, resend))

    async def _commit(
        self,
        row: SaleRow,
        effects: Sequence[Effect],
        *,
        asking: Asked | None = None,
        deposits: Sequence[DepositRow] = (),
    ) -> Result:
        """Make a sale's step durable with all that follows from it, and return what may go out."""
        asked, rows = [asking] if asking else [], list(deposits)
        sends, alarms = list[tuple[bytes, Send]](), _alarms("sale", row.payment_id, effects)
        for effect in effects:
            match effect:
                case sale.StartDeposit():
                    begun, deposit_effects = self._begin_deposit(row.payment_id, effect)
                    rows.append(begun)
                    sends += _sends(effect.digest, deposit_effects)
                    alarms += _alarms("deposit", effect.digest, deposit_effects)
                case sale.GiveReceipt() | sale.PassVerdict() | sale.RefusePayment():
                    answer = self._decision(effect)
                    waiting = await self._store.waiting(effect.digest)
                    earlier = [one for one in waiting[:MAX_ASKERS] if one not in asked]
                    asked = [self._answered(one, answer) for one in (*asked, *earlier)]
        name = type(row.state).__name__.lower()
        point(f"merchant.{name}.saving")
        await self._store.save(Change(sales=[row], deposits=rows, asked=asked))
        point(f"merchant.{name}.saved")
        return Result([_outgoing(one) for one in asked if one.answer is not None], sends, alarms)

    def _begin_deposit(self, payment_id: bytes, start: sale.StartDeposit) -> tuple[DepositRow, tuple[Effect, ...]]:
        request_id = new_request_id(self._device, self._entropy.bytes(32))
        answer_key = self._keys.root.answer_key(request_id)
        body = DepositRequest(start.info, start.parcel)
        letter = Letter(deposit.KIND, request_id, _NEVER, answer_key, self._keys.public, body.encode())
        keyset = self.trust.ring.keyset
        envelope = seal_letter(keyset.envelope_key, letter, self._keys.identity)
        begin = deposit.Begin(
            keyset.bank, start.digest, request_id, envelope, self._clock.now(), self._entropy.jitter()
        )
        state, effects = deposit.step(deposit.New(), begin)
        return DepositRow(start.digest, payment_id, state), effects

    def _decision(self, effect: sale.GiveReceipt | sale.PassVerdict | sale.RefusePayment) -> Answer:
        now = self._clock.now()
        match effect:
            case sale.GiveReceipt(receipt=receipt):
                return Answer(now, "", "", PayAnswer(receipt, b"").encode())
            case sale.PassVerdict(verdict=verdict) if verdict:
                return Answer(now, "", "", PayAnswer(b"", verdict).encode())
            case sale.PassVerdict():
                return refuse(now, PeerError(Refusal.BAD_PARCEL, "the bank could not judge the payment"))
            case sale.RefusePayment(refusal=refusal):
                return refuse(now, PeerError(Refusal(refusal), TABLE[Refusal(refusal)].meaning))

    def _asked(self, request: Request, digest: bytes) -> Asked:
        letter = request.letter
        return Asked(letter.request_id, request.hashed, letter.answer_key, request.reply_topic, digest, None)

    def _answered(self, asked: Asked, answer: Answer) -> Asked:
        sealed = seal_answer(self._keys.identity, asked.answer_key, asked.request_id, asked.request_hash, answer)
        return asked._replace(answer=sealed)

    def refusal(self, request: Request, error: PeerError) -> Outgoing:
        """Return a refusal that is not stored."""
        return _outgoing(self._answered(self._asked(request, b""), refuse(self._clock.now(), error)))


def _line(line: OrderLine, item: Item) -> str:
    return f"{line.quantity} × {item.title}"[:120]


def _outgoing(asked: Asked) -> Outgoing:
    return Outgoing(asked.topic, asked.answer or b"", correlation=asked.request_id)


def _sends(digest: bytes, effects: Sequence[Effect]) -> list[tuple[bytes, Send]]:
    return [(digest, effect) for effect in effects if isinstance(effect, Send)]


def _alarms(kind: str, subject: bytes, effects: Sequence[Effect]) -> list[Alarm]:
    return [Alarm(effect.at, kind, subject) for effect in effects if isinstance(effect, WakeAt)]
