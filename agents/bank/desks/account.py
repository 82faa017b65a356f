"""The desk for accounts: claimed, looked at, taken over."""

from protocol.bank import account as machine
from protocol.bank.desk import New
from protocol.bank.ledger import Posted, Repeated
from protocol.messages import AccountRequest

from ...invitation import hash_invitation
from .desk import Desk, Request, signed


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `account`."""
    letter, books = request.letter, desk.books
    body = AccountRequest.decode(letter.body)
    held = await books.account_by_key(letter.sender)
    invited = await books.account_by_invitation(hash_invitation(body.invitation)) if body.invitation else None
    asked = machine.Asked(
        key=signed(letter),
        held=held,
        invited=invited,
        wants=bool(body.invitation),
        generation=body.generation,
        balance=await books.balance(account.number) if (account := held or invited) else 0,
        deadline=letter.deadline,
    )
    now, identity = desk.clock.now(), desk.keys.identity
    state, effects = machine.step(New(), asked, desk.name, identity, now)
    for post in effects:
        outcome = await desk.post(request, post)
        state, _ = machine.step(state, desk.books_say(outcome), desk.name, identity, now)
        if isinstance(outcome, Posted | Repeated):
            return outcome.answer
    return await desk.refused(request, state)
