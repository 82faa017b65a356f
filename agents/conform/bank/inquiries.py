"""§13: what became of a payment."""

from protocol.messages import InquiryAnswer, InquiryRequest, PaymentInfo
from protocol.refusals import Refusal
from protocol.signatures import Domain, sign

from ..case import Suite
from .visit import Payment, Purse, Visit

suite = Suite[Visit]("bank")

NEVER = 2**53 - 1


def _question(
    payment: Payment, request_id: bytes, purse: Purse | None = None, info: PaymentInfo | None = None
) -> InquiryRequest:
    asked, coins = info or payment.info, purse or payment.purse
    proof = sign(coins.seeds[0], Domain.INQUIRY, asked.digest, request_id)
    return InquiryRequest(asked.encode(), coins.coins[0].denomination, coins.coins[0].serial, proof)


async def _told(visit: Visit, payment: Payment, what: str) -> bytes:
    request_id = visit.stranger.new_id()
    question = _question(payment, request_id)
    body = await visit.stranger.granted(
        visit.receiver, "verdict", question, request_id=request_id, deadline=NEVER, what=what
    )
    return InquiryAnswer.decode(body).verdict


@suite.case("inquiry.accepted", "13.1", "Who holds a coin of an accepted payment is told its verdict, byte for byte.")
async def _accepted(visit: Visit) -> None:
    payment = await visit.paid()
    for what in ("asked once", "asked again"):
        visit.notes.same("the verdict:", payment.verdict, await _told(visit, payment, what))


@suite.case("inquiry.refused", "13.1", "Of a refused payment the refusing verdict is told.")
async def _refused(visit: Visit) -> None:
    payment = await visit.payment(await visit.forged())
    _, signed = await visit.verdict(payment.request, "a forged coin")
    visit.notes.same("the verdict:", signed, await _told(visit, payment, "asked with the forged coin's key"))


@suite.case("inquiry.pending", "13.1", "Before deposit-before a payment without a verdict is `pending`.")
async def _pending(visit: Visit) -> None:
    payment, request_id = await visit.payment(await visit.forged()), visit.stranger.new_id()
    question = _question(payment, request_id)
    await visit.stranger.refused(Refusal.PENDING, visit.receiver, "verdict", question, request_id=request_id)


@suite.case(
    "inquiry.expired",
    "13.1",
    "Afterwards its verdict is `payment_expired` at deposit-before, and it is never accepted.",
)
async def _expired(visit: Visit) -> None:
    past = visit.clock.now() - 60_000
    payment = await visit.payment(await visit.forged(), deposit_before=past)
    verdict = visit.read_verdict(await _told(visit, payment, "of a payment that nobody deposited"), payment.info)
    visit.notes.same("refusal and time", (Refusal.PAYMENT_EXPIRED.value, past), (verdict.refusal, verdict.at))
    late, _ = await visit.verdict(payment.request, "the payment, after all")
    visit.notes.same("the verdict's refusal", Refusal.PAYMENT_EXPIRED.value, late.refusal)


@suite.case("inquiry.malformed", "13.1", "A question that is none is `malformed`.")
async def _malformed(visit: Visit) -> None:
    await visit.stranger.refused(Refusal.MALFORMED, visit.receiver, "verdict", b"\xc0", what="nil")
    question = InquiryRequest(b"\xc0", bytes(32), bytes(32), bytes(64))
    await visit.stranger.refused(Refusal.MALFORMED, visit.receiver, "verdict", question, what="nil for information")


@suite.case("inquiry.order", "13.1", "`wrong_bank` comes before `bad_signature`, and that before what the books say.")
async def _order(visit: Visit) -> None:
    payment, request_id = await visit.payment(await visit.forged()), visit.stranger.new_id()
    other = await visit.info(payment.purse, bytes(32), bank="no-such-bank")
    unsigned = InquiryRequest(other.encode(), bytes(32), payment.purse.coins[0].serial, bytes(64))
    await visit.stranger.refused(
        Refusal.WRONG_BANK, visit.receiver, "verdict", unsigned, what="unsigned, of another bank"
    )
    foreign = _question(payment, visit.stranger.new_id())
    await visit.stranger.refused(
        Refusal.BAD_SIGNATURE, visit.receiver, "verdict", foreign, request_id=request_id, what="signed for another id"
    )


@suite.case(
    "inquiry.other-coin", "13.1", "An accepted payment is told to its own coins alone: `bad_spend_signature` to others."
)
async def _other_coin(visit: Visit) -> None:
    payment, request_id = await visit.paid(), visit.stranger.new_id()
    question = _question(payment, request_id, await visit.forged())
    await visit.stranger.refused(
        Refusal.BAD_SPEND_SIGNATURE, visit.receiver, "verdict", question, request_id=request_id, what="by another coin"
    )
