"""The desk for lost answers: whoever knows a request's id gets its answer, which only the asker can open."""

from protocol.bank import recovery as machine
from protocol.bank.desk import New
from protocol.recovery import FetchRequest, StoredAnswer

from .desk import Desk, Request


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `fetch`."""
    body = FetchRequest.decode(request.letter.body)
    row = await desk.books.fetch(body.request_id)
    state, _ = machine.step(New(), machine.AnswerAsked(StoredAnswer(*row) if row else None))
    match state:
        case machine.Told(body=told):
            return desk.answer(request, told)
        case _:
            return await desk.refused(request, state)
