"""The desk for redemptions."""

from functools import partial

from protocol.bank import redemption as machine
from protocol.bank.desk import New
from protocol.bank.ledger import Posted, Repeated
from protocol.errors import PeerError
from protocol.keyset import KeyRing, read_keyset
from protocol.recovery import RedeemRequest

from .desk import Desk, Request, signed


async def serve(desk: Desk, request: Request) -> bytes:
    """Answer a request of kind `redeem`."""
    state, effects = machine.step(New(), await _examine(desk, request))
    for post in effects:
        outcome = await desk.post(request, post)
        state, _ = machine.step(state, desk.books_say(outcome))
        if isinstance(outcome, Posted | Repeated):
            return outcome.answer
    return await desk.refused(request, state)


async def _examine(desk: Desk, request: Request) -> machine.RedemptionEvent:
    """Judge a redemption as far as that needs no books; the cryptography runs beside the event loop."""
    letter = request.letter
    account = await desk.books.account_by_key(signed(letter))
    body = RedeemRequest.decode(letter.body)
    ring = desk.ring
    before = await _revoked_from(desk, body, ring)
    work = partial(machine.examine, body, account, letter.request_id, ring, desk.clock.now(), before)
    try:
        examined = await desk.check(work)
    except PeerError as error:
        return machine.CoinsBad(error.refusal, error.detail)
    return machine.CoinsGood(examined, letter.deadline)


async def _revoked_from(desk: Desk, body: RedeemRequest, ring: KeyRing) -> int:
    """Return since when the first of the request's revoked denominations is revoked; 0 if none is."""
    revoked = {spent.coin.denomination for spent in body.coins}.intersection(ring.revoked)
    if not revoked:
        return 0
    announced = map(read_keyset, await desk.books.keysets())
    return machine.revoked_from(revoked, [*announced, ring.keyset])
