"""The desk for exchanges. It asks for no account, whoever signed the letter."""

from functools import partial

from protocol.bank import exchange as machine
from protocol.bank.desk import New, Post, SignBlinded
from protocol.bank.ledger import Posted, Repeated
from protocol.errors import OurError, PeerError
from protocol.exchange import ExchangeRequest

from .desk import Desk, Request


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `exchange`."""
    event = await _examine(desk, request)
    if isinstance(event, machine.CoinsSpent):  # it may be this very request that has spent them, a moment ago
        known = await desk.books.stored_answer(request.letter.request_id, request.hashed)
        if known is not None:
            return desk.said_before(request, known)
    state, effects = machine.step(New(), event)
    while effects:
        match effects[0]:
            case SignBlinded(coins=coins):
                event = await desk.sign(coins)
            case Post() as post:
                outcome = await desk.post(request, post)
                event = desk.books_say(outcome)
                if isinstance(outcome, Posted | Repeated):
                    machine.step(state, event)
                    return outcome.answer
            case other:
                raise OurError(f"no such effect: {other}")
        state, effects = machine.step(state, event)
    return await desk.refused(request, state)


async def _examine(desk: Desk, request: Request) -> machine.ExchangeEvent:
    """Judge the coins, and ask the books for spent ones; the cryptography runs beside the event loop."""
    letter, ring, now = request.letter, desk.ring, desk.clock.now()
    body = ExchangeRequest.decode(letter.body)
    try:
        examined = await desk.check(partial(machine.examine, body, letter.request_id, ring, now))
    except PeerError as error:
        return machine.CoinsBad(error.refusal, error.detail)
    evidence = await desk.books.spent([(one.coin.denomination, one.coin.serial) for one in body.coins])
    if evidence:
        return machine.CoinsSpent(evidence)
    return machine.CoinsGood(examined, ring, now, letter.deadline)
