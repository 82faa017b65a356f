"""Refunds: what the shopkeeper has granted, a buyer whom nobody knows collects, each step durable.

A grant is open until the bank has served a ticket for it. While one ticket is with the bank, another one waits. What
the bank refuses (a faulty ticket, an account that does not hold the money) leaves the grant open for the next ticket.
"""

import hmac
from collections.abc import Sequence
from typing import Final

from protocol.answer import Answer, refuse
from protocol.envelope import request_hash
from protocol.errors import PeerError
from protocol.exchange import REFUND, RefundAnswer, RefundOrder, RefundOrderAnswer, RefundRequest
from protocol.machine import Effect, Overdue
from protocol.merchant import refund as machine
from protocol.merchant import sale
from protocol.refusals import TABLE, Advice, Refusal

from ..requester import Later, later
from ..trace import point
from .desk import Alarm, Desk, Request, Result, alarms, outgoing, sends
from .journal import Journal
from .offers import offered
from .store import Asked, Change, RefundRow, SaleRow

MAX_REFUSED: Final = 16
"""So many tickets for one sale may be refused; each is an order to the bank, or a stored answer, that costs nothing."""


class Refunds:
    """A merchant's refunds, at its desk; what it decides is saved through the journal."""

    def __init__(self, desk: Desk, journal: Journal) -> None:
        self._desk = desk
        self._journal = journal

    async def take(self, request: Request) -> Result:
        """Take a buyer's request in: tell what is granted, or forward its ticket to the bank.

        Raises:
            PeerError: a refusal that is not stored; `PENDING` while another ticket is with the bank.
        """
        desk = self._desk
        async with desk.step:
            known = await desk.known(request)
            if known is not None and known.answer is not None:
                return Result(answers=[outgoing(known._replace(topic=request.reply_topic))])
            body = RefundRequest.decode(request.letter.body)
            sold = await self._sold(body)
            if not body.ticket:
                return Result([desk.tell(request, RefundAnswer(await self._left(sold), b""))])
            asking = desk.asked(request, sold.payment_id, request_hash(body.ticket))
            return await self._show(sold, body.ticket, asking)

    async def _sold(self, body: RefundRequest) -> SaleRow:
        """Return the sale that was paid with this digest; only buyer and merchant know its salt."""
        paid = await self._desk.store.deposit(body.digest)
        row = await self._desk.store.sale(paid.payment_id) if paid else None
        if row is None or not isinstance(row.state, sale.Sold) or row.state.digest != body.digest:
            raise PeerError(Refusal.UNKNOWN_SALE, "no such sale")
        if not hmac.compare_digest(body.salt, offered(row.state).salt):
            raise PeerError(Refusal.UNKNOWN_SALE, "no such sale")
        return row

    async def _left(self, sold: SaleRow) -> int:
        refundable = await self._desk.store.refundable(sold.payment_id)
        if refundable.under_way:
            raise PeerError(Refusal.PENDING, "another ticket for this refund is with the bank")
        if not refundable.left:
            raise PeerError(Refusal.NO_REFUND, "no refund is granted, or it was collected")
        return refundable.left

    async def _show(self, sold: SaleRow, ticket: bytes, asking: Asked) -> Result:
        shown = [row for row in await self._desk.store.refunds_of(sold.payment_id) if row.ticket == asking.about]
        if shown and not isinstance(shown[-1].state, machine.Refused):
            row = shown[-1]
            issue = row.state.issue if isinstance(row.state, machine.Refunded) else b""
            return await self._commit(row, (machine.PassIssue(issue),) if issue else (), asking)
        if await self._desk.store.refused_tickets(sold.payment_id) >= MAX_REFUSED:
            raise PeerError(Refusal.NO_REFUND, f"{MAX_REFUSED} tickets for this sale were refused: no more are taken")
        try:
            amount = await self._left(sold)
        except PeerError as error:
            if TABLE[error.refusal].advice is Advice.RETRY:
                raise
            # Stored: these very bytes, late on their way, must not take a later grant from a buyer who has given up.
            refused = self._desk.answered(asking, refuse(self._desk.clock.now(), error))
            await self._journal.save(Change(asked=[refused]))
            return Result([outgoing(refused)])
        return await self._order(sold, ticket, amount, asking)

    async def _order(self, sold: SaleRow, ticket: bytes, amount: int, asking: Asked) -> Result:
        desk = self._desk
        bank = offered(sold.state).bank if isinstance(sold.state, sale.Sold) else ""
        ring = desk.trust(bank).ring
        body = RefundOrder(amount, ring.keyset.tariff.refund.charge(amount), ticket)
        request_id, envelope = desk.seal(ring, REFUND, body)
        now, jitter = desk.clock.now(), desk.entropy.jitter()
        state, effects = machine.step(machine.New(), machine.Begin(bank, request_id, envelope, now, jitter))
        row = RefundRow(request_id, sold.payment_id, asking.about, amount, now, state)
        return await self._commit(row, effects, asking)

    async def bank_answered(self, request_id: bytes, sealed: bytes) -> Result:
        """Take the bank's answer to an order in.

        Raises:
            PeerError: if it is none.
        """
        async with self._desk.step:
            row = await self._desk.store.refund(request_id)
            if row is None or not isinstance(row.state, machine.Requested):
                return Result()
            event = self._read_answer(row.state, sealed)
            if isinstance(event, Later):
                return Result(put_off=[(request_id, event.at)])
            if event is None:
                return Result()
            state, effects = machine.step(row.state, event)
            return (await self._commit(row._replace(state=state), effects))._replace(ended=[request_id])

    def _read_answer(self, state: machine.Requested, sealed: bytes) -> machine.RefundEvent | Later | None:
        ring = self._desk.trust(state.bank).ring
        answer = self._desk.open(ring, state.request_id, state.envelope, sealed)
        try:
            return machine.IssueArrived(RefundOrderAnswer.decode(answer.check()).issue)
        except PeerError as error:
            if TABLE[error.refusal].advice is Advice.RETRY:
                return later(answer, self._desk.clock, self._desk.entropy)
            return machine.RefusalArrived(error.refusal, error.detail)

    async def overdue(self, alarm: Alarm, jitter: int) -> Result:
        """Feed a refund the time that it asked to be woken at."""
        async with self._desk.step:
            row = await self._desk.store.refund(alarm.subject)
            if row is None or not row.open:
                return Result()
            state, effects = machine.step(row.state, Overdue(self._desk.clock.now(), jitter))
            return await self._commit(row._replace(state=state), effects)

    async def _commit(self, row: RefundRow, effects: Sequence[Effect], asking: Asked | None = None) -> Result:
        """Make a refund's step durable with all that follows from it, and return what may go out."""
        now, asked = self._desk.clock.now(), [asking] if asking else []
        for effect in effects:
            match effect:
                case machine.PassIssue(issue=issue):
                    told = Answer(now, "", "", RefundAnswer(row.amount, issue).encode())
                    asked = await self._desk.all_answered(asked, row.ticket, told)
                case machine.PassRefusal(refusal=refusal, detail=detail):
                    told = refuse(now, PeerError(Refusal(refusal), f"the bank does not serve the ticket: {detail}"))
                    asked = await self._desk.all_answered(asked, row.ticket, told)
        name = type(row.state).__name__.lower()
        point(f"merchant.refund.{name}.saving")
        await self._journal.save(Change(refunds=[row], asked=asked))
        point(f"merchant.refund.{name}.saved")
        answers = [outgoing(one) for one in asked if one.answer is not None]
        return Result(answers, sends(row.request_id, effects), alarms(REFUND, row.request_id, effects))
