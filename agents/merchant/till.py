"""The till: what the merchant does with an order, a payment, and the bank's verdict, each in one durable step."""

import hmac
from collections.abc import Sequence

from protocol.answer import Answer, refuse
from protocol.errors import PeerError
from protocol.machine import Effect, Overdue
from protocol.merchant import deposit, sale
from protocol.messages import (
    DepositAnswer,
    DepositRequest,
    OrderRequest,
    PayAnswer,
    PaymentInfo,
    PayRequest,
    Receipt,
    Signed,
    open_verdict,
)
from protocol.refusals import TABLE, Advice, Refusal
from protocol.signatures import Domain

from ..requester import Later, later
from ..trace import point
from .desk import Alarm, Desk, Request, Result, alarms, outgoing, sends
from .journal import Journal
from .offers import begin, from_catalogue, offered
from .store import Asked, Change, DepositRow, SaleRow


class Till:
    """One merchant's till, at its desk; what it decides is saved through the journal."""

    def __init__(self, desk: Desk, journal: Journal) -> None:
        self._desk = desk
        self._journal = journal

    async def take(self, request: Request) -> Result:
        """Take an order or a payment in and answer it, at once or when the bank has decided.

        Raises:
            PeerError: a refusal that is not stored.
        """
        desk = self._desk
        async with desk.step:
            known = await desk.known(request)
            if known is not None and known.answer is not None:
                return Result(answers=[outgoing(known._replace(topic=request.reply_topic))])
            match request.letter.kind:
                case sale.ORDER:
                    return await self._order(request, OrderRequest.decode(request.letter.body))
                case sale.PAY:
                    return await self._pay(request, PayRequest.decode(request.letter.body))
                case kind:
                    raise PeerError(Refusal.WRONG_TYPE, f"the till does not serve {kind}")

    async def _order(self, request: Request, body: OrderRequest) -> Result:
        desk = self._desk
        wanted = from_catalogue(desk, desk.trust(body.bank).certificate.currency, body.lines)
        row, signed, effects = begin(desk, body.bank, wanted)
        asked = desk.answered(desk.asked(request, row.payment_id), Answer(desk.clock.now(), "", "", signed))
        point("merchant.order.saving")
        await self._journal.save(Change(sales=[row], asked=[asked]))
        point("merchant.order.offered")
        return Result([outgoing(asked)], alarms=alarms("sale", row.payment_id, effects))

    async def _pay(self, request: Request, body: PayRequest) -> Result:
        info = PaymentInfo.decode(body.info)
        row = await self._desk.store.sale(info.payment_id)
        if row is None or isinstance(row.state, sale.New):
            raise PeerError(Refusal.UNKNOWN_SALE, "no such sale")
        payreq = offered(row.state)
        if not hmac.compare_digest(body.salt, payreq.salt):  # the bank knows the payment, but must not get the goods
            raise PeerError(Refusal.UNKNOWN_SALE, "no such sale")
        if not sale.agrees(info, payreq):
            raise PeerError(Refusal.PAYMENT_ALTERED, "the payment information is not what was agreed on")
        event = sale.PaymentArrived(info.digest, body.info, body.parcel, self._desk.clock.now())
        state, effects = sale.step(row.state, event)
        for effect in effects:
            if isinstance(effect, sale.RefusePayment) and TABLE[Refusal(effect.refusal)].advice is Advice.RETRY:
                raise PeerError(Refusal(effect.refusal), "another payment for this sale is being deposited")
        asking = self._desk.asked(request, row.payment_id, info.digest)
        return await self._commit(row._replace(state=state), effects, asking=asking)

    async def bank_answered(self, digest: bytes, sealed: bytes) -> Result:
        """Take the bank's answer to a deposit in.

        Raises:
            PeerError: if it is none.
        """
        async with self._desk.step:
            row = await self._desk.store.deposit(digest)
            if row is None or not isinstance(row.state, deposit.Requested):
                return Result()
            event = self._read_answer(row.state, sealed)
            if isinstance(event, Later):
                return Result(put_off=[(digest, event.at)])
            if event is None:
                return Result()
            return (await self._settle(row, event))._replace(ended=[row.state.request_id])

    def _read_answer(self, state: deposit.Requested, sealed: bytes) -> deposit.DepositEvent | Later | None:
        ring = self._desk.trust(state.bank).ring
        answer = self._desk.open(ring, state.request_id, state.envelope, sealed)
        try:
            body = DepositAnswer.decode(answer.check())
        except PeerError as error:
            if TABLE[error.refusal].advice is Advice.RETRY:
                return later(answer, self._desk.clock, self._desk.entropy)
            return deposit.RefusalArrived(error.refusal)
        verdict = open_verdict(Signed.decode(body.verdict), ring.keyset.identity, state.digest)
        return deposit.VerdictArrived(body.verdict, verdict.refusal, body.commission)

    async def _settle(self, row: DepositRow, event: deposit.DepositEvent) -> Result:
        state, effects = deposit.step(row.state, event)
        sold = await self._desk.store.sale(row.payment_id)
        settle = next(effect for effect in effects if isinstance(effect, deposit.Settle))
        if sold is None:
            raise KeyError(row.payment_id.hex())
        decided: sale.SaleEvent = sale.Refused(row.digest, settle.verdict)
        if not settle.refusal:
            receipt = Receipt(row.digest, settle.verdict, sold.goods, self._desk.clock.now())
            signed = Signed.make(self._desk.keys.identity, Domain.RECEIPT, receipt).encode()
            decided = sale.Accepted(row.digest, signed)
        after, sale_effects = sale.step(sold.state, decided)
        return await self._commit(sold._replace(state=after), sale_effects, deposits=[row._replace(state=state)])

    async def overdue(self, alarm: Alarm, jitter: int) -> Result:
        """Feed a sale or a deposit the time that it asked to be woken at."""
        event, store = Overdue(self._desk.clock.now(), jitter), self._desk.store
        async with self._desk.step:
            if alarm.kind == "sale":
                row = await store.sale(alarm.subject)
                if row is None or not row.open:
                    return Result()
                after, effects = sale.step(row.state, event)
                return await self._commit(row._replace(state=after), effects)
            waiting = await store.deposit(alarm.subject)
            if waiting is None or not waiting.open:
                return Result()
            state, resend = deposit.step(waiting.state, event)
            await self._journal.save(Change(deposits=[waiting._replace(state=state)]))
            return Result((), sends(alarm.subject, resend), alarms(deposit.KIND, alarm.subject, resend))

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
        out, wake = Result().sends, alarms("sale", row.payment_id, effects)
        for effect in effects:
            match effect:
                case sale.StartDeposit():
                    begun, deposit_effects = self._begin_deposit(row, effect)
                    rows.append(begun)
                    out = sends(effect.digest, deposit_effects)
                    wake += alarms(deposit.KIND, effect.digest, deposit_effects)
                case sale.GiveReceipt() | sale.PassVerdict() | sale.RefusePayment():
                    asked = await self._desk.all_answered(asked, effect.digest, self._decision(effect))
        name = type(row.state).__name__.lower()
        point(f"merchant.{name}.saving")
        await self._journal.save(Change(sales=[row], deposits=rows, asked=asked))
        point(f"merchant.{name}.saved")
        return Result([outgoing(one) for one in asked if one.answer is not None], out, wake)

    def _begin_deposit(self, row: SaleRow, start: sale.StartDeposit) -> tuple[DepositRow, tuple[Effect, ...]]:
        desk, bank = self._desk, PaymentInfo.decode(start.info).bank
        body = DepositRequest(start.info, start.parcel)
        request_id, envelope = desk.seal(desk.trust(bank).ring, deposit.KIND, body)
        now, jitter = desk.clock.now(), desk.entropy.jitter()
        state, effects = deposit.step(
            deposit.New(), deposit.Begin(bank, start.digest, request_id, envelope, now, jitter)
        )
        return DepositRow(start.digest, row.payment_id, state), effects

    def _decision(self, effect: sale.GiveReceipt | sale.PassVerdict | sale.RefusePayment) -> Answer:
        now = self._desk.clock.now()
        match effect:
            case sale.GiveReceipt(receipt=receipt):
                return Answer(now, "", "", PayAnswer(receipt, b"").encode())
            case sale.PassVerdict(verdict=verdict) if verdict:
                return Answer(now, "", "", PayAnswer(b"", verdict).encode())
            case sale.PassVerdict():
                return refuse(now, PeerError(Refusal.BAD_PARCEL, "the bank could not judge the payment"))
            case sale.RefusePayment(refusal=refusal):
                return refuse(now, PeerError(Refusal(refusal), TABLE[Refusal(refusal)].meaning))
