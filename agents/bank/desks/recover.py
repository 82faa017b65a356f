"""The desk for recovery: the answers to an account's last withdrawals, once more."""

from protocol.bank import recovery as machine
from protocol.bank.desk import New
from protocol.recovery import RecoverAnswer, RecoverRequest, StoredAnswer

from ..store import Kept
from .desk import Desk, Request, signed


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `recover`."""
    account = await desk.books.account_by_key(signed(request.letter))
    body = RecoverRequest.decode(request.letter.body)
    kept = await desk.books.withdrawals(account.number, body.start) if account else Kept([], 0, 0)
    page = RecoverAnswer(tuple(StoredAnswer(*row) for row in kept.withdrawals), kept.total, kept.next)
    state, _ = machine.step(New(), machine.WithdrawalsAsked(body, account, page))
    match state:
        case machine.Told(body=told):
            return desk.answer(request, told)
        case _:
            return await desk.refused(request, state)
