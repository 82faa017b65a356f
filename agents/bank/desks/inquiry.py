"""The desk for inquiries: what became of a payment."""

from protocol.answer import Answer
from protocol.bank import inquiry as machine
from protocol.bank.desk import New
from protocol.messages import InquiryAnswer, InquiryRequest

from .desk import Desk, Request


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `verdict`."""
    letter = request.letter
    body = InquiryRequest.decode(letter.body)
    info = machine.check_inquiry(body, letter.request_id, desk.name)
    payment, spent_on, now = await desk.books.inquiry(info.digest, body.denomination, body.serial)
    state, _ = machine.step(New(), machine.Asked(info, payment, spent_on, now), desk.sign_verdict)
    match state:
        case machine.Told(verdict=verdict):
            return desk.seal(request, Answer(now, "", "", InquiryAnswer(verdict).encode()))
        case _:
            return await desk.refused(request, state)
