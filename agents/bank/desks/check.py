"""The desk for spendings: which coins are spent, asked without naming one."""

from functools import partial

from protocol.bank import recovery as machine
from protocol.bank.desk import New
from protocol.coins import Evidence
from protocol.recovery import CheckRequest

from ..store import TooMany
from .desk import Desk, Request


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `check`; all spendings are sealed beside the event loop."""
    body = CheckRequest.decode(request.letter.body)
    event = machine.SpendingsAsked(body, await _spendings(desk, body), desk.ring)
    state, _ = await desk.check(partial(machine.step, New(), event))
    match state:
        case machine.Told(body=told):
            return desk.answer(request, told)
        case _:
            return await desk.refused(request, state)


async def _spendings(desk: Desk, body: CheckRequest) -> tuple[Evidence, ...] | None:
    try:
        return tuple(await desk.books.spendings(body.denomination, body.prefix))
    except TooMany:
        return None
