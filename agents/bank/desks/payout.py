"""The desk for payouts: a merchant has money moved to its bank, or looks what became of it."""

from protocol.bank import payout as machine
from protocol.bank.desk import Account, New
from protocol.bank.ledger import Posted, Repeated
from protocol.payout import MAX_PAYOUTS, PayoutRequest, PayoutStatus

from .desk import Desk, Request, signed


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `payout`."""
    letter = request.letter
    account = await desk.books.account_by_key(signed(letter))
    body = PayoutRequest.decode(letter.body)
    asked = machine.Asked(
        request=body,
        account=account,
        balance=await desk.books.balance(account.number) if account else 0,
        payouts=await _last(desk, account) if account and body.amount == 0 else (),
        tariff=desk.ring.keyset.tariff,
        now=desk.clock.now(),
        deadline=letter.deadline,
    )
    state, effects = machine.step(New(), asked)
    for post in effects:
        outcome = await desk.post(request, post)
        state, _ = machine.step(state, desk.books_say(outcome))
        if isinstance(outcome, Posted | Repeated):
            return outcome.answer
    match state:
        case machine.Shown(body=shown):
            return desk.answer(request, shown)
        case _:
            return await desk.refused(request, state)


async def _last(desk: Desk, account: Account) -> tuple[PayoutStatus, ...]:
    rows = await desk.books.payouts(account.number, limit=MAX_PAYOUTS)
    return tuple(PayoutStatus(row.number, row.amount, row.commission, row.state, row.reason, row.at) for row in rows)
