"""The desk for proofs: the bank's statement for who knows a payment's payer code."""

from protocol.bank import proof as machine
from protocol.bank.desk import New
from protocol.proof import ProofAnswer, ProofRequest

from .desk import Desk, Request


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `proof`."""
    body = ProofRequest.decode(request.letter.body)
    payments = tuple(await desk.books.payments(body.payment_id))
    asked = machine.Asked(body, payments, desk.clock.now())
    state, _ = machine.step(New(), asked, desk.name, desk.keys.identity)
    match state:
        case machine.Proven(proof=proof):
            return desk.answer(request, ProofAnswer(proof).encode())
        case _:
            return await desk.refused(request, state)
