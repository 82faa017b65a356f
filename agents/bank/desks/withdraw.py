"""The desk for withdrawals."""

from protocol.bank import withdrawal as machine
from protocol.bank.desk import New, Post, SignBlinded
from protocol.bank.ledger import Posted, Repeated
from protocol.errors import OurError
from protocol.messages import WithdrawRequest

from .desk import Desk, Request, signed


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `withdraw`."""
    letter = request.letter
    account = await desk.books.account_by_key(signed(letter))
    balance = await desk.books.balance(account.number) if account else 0
    body = WithdrawRequest.decode(letter.body)
    asked = machine.Asked(body, account, balance, desk.ring, desk.clock.now(), letter.deadline)
    state, effects = machine.step(New(), asked)
    while effects:
        event: machine.WithdrawalEvent
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
