"""The desk for refunds: a merchant pays, and a buyer whom nobody knows gets coins."""

from functools import partial

from protocol.bank import refund as machine
from protocol.bank.desk import New, Post, SignBlinded
from protocol.bank.ledger import Posted, Repeated
from protocol.envelope import Letter, open_letter, recipient_of
from protocol.errors import OurError, PeerError
from protocol.exchange import TICKET, RefundOrder
from protocol.refusals import Refusal

from .desk import Desk, Request, signed


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `refund`."""
    identity, now = desk.keys.identity, desk.clock.now()
    state, effects = machine.step(New(), await _examine(desk, request), identity, now)
    while effects:
        event: machine.RefundEvent
        match effects[0]:
            case SignBlinded(coins=coins):
                event = await desk.sign(coins)
            case Post() as post:
                outcome = await desk.post(request, post)
                event = desk.books_say(outcome)
                if isinstance(outcome, Posted | Repeated):
                    machine.step(state, event, identity, now)
                    return outcome.answer
            case other:
                raise OurError(f"no such effect: {other}")
        state, effects = machine.step(state, event, identity, desk.clock.now())
    return await desk.refused(request, state)


async def _examine(desk: Desk, request: Request) -> machine.RefundEvent:
    """Judge an order as far as that needs no books."""
    letter = request.letter
    account = await desk.books.account_by_key(signed(letter))
    balance = await desk.books.balance(account.number) if account else 0
    order = RefundOrder.decode(letter.body)
    opening = partial(_open, desk, order.ticket)
    try:
        examined = machine.examine(order, account, letter.request_id, opening, desk.ring, desk.clock.now())
    except PeerError as error:
        return machine.OrderBad(error.refusal, error.detail)
    return machine.OrderGood(examined, balance, letter.deadline)


def _open(desk: Desk, ticket: bytes) -> Letter:
    key = desk.keys.envelopes.get(recipient_of(ticket))
    if key is None:
        raise PeerError(Refusal.BAD_TICKET, "sealed for a key that is not ours")
    return open_letter(key, ticket, TICKET)
