"""The desk for deposits."""

import logging
from functools import partial

from protocol.bank import deposit as machine
from protocol.bank.desk import New
from protocol.bank.ledger import Posted, Repeated
from protocol.errors import PeerError
from protocol.messages import PARCEL, DepositAnswer, DepositRequest
from protocol.refusals import Refusal

from .desk import Desk, Request, signed

_log = logging.getLogger("ecash.bank")


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `deposit`."""
    state, effects = machine.step(New(), await _examine(desk, request), desk.sign_verdict)
    while effects:
        (post,) = effects
        outcome = await desk.post(request, post)
        state, effects = machine.step(state, desk.books_say(outcome), desk.sign_verdict)
        if isinstance(outcome, Posted | Repeated):
            return outcome.answer
    match state:
        case machine.Settled(verdict=verdict, commission=commission):
            return desk.answer(request, DepositAnswer(verdict, commission).encode())
        case _:
            return await desk.refused(request, state)


async def _examine(desk: Desk, request: Request) -> machine.DepositEvent:
    """Judge a deposit as far as that needs no books; the cryptography runs beside the event loop."""
    account = await desk.books.account_by_key(signed(request.letter))
    body = DepositRequest.decode(request.letter.body)
    now = desk.clock.now()
    try:
        info = machine.own_payment(body, account, desk.name)
    except PeerError as error:
        return machine.NotTheirs(error.refusal, error.detail)
    open_parcel = partial(desk.open_envelope, body.parcel, PARCEL, Refusal.BAD_PARCEL)
    try:
        examined = await desk.check(partial(machine.examine, info, open_parcel, desk.ring, now))
    except PeerError as error:
        _log.info("deposit %s refused: %s", info.payment_id.hex(), error)
        return machine.CoinsBad(info, error.refusal, now)
    return machine.CoinsGood(examined, now)
