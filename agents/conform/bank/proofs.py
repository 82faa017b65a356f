"""§22 and §23: proofs of payment, and payouts. Last of all, the totals once more."""

import msgspec

from protocol.errors import PeerError
from protocol.messages import Signed, payer_digest
from protocol.payout import MAX_PAYOUT, PayoutAnswer, PayoutRequest
from protocol.proof import ProofAnswer, ProofRequest, open_proof
from protocol.refusals import Refusal

from ..case import Skipped, Suite
from .announced import grown
from .visit import Payment, Visit, code_of

suite = Suite[Visit]("bank")

CODE = "Bluesky"


async def _payment(visit: Visit, function: str) -> tuple[Payment, ProofRequest]:
    """Return an accepted payment with a payer code, and the question that proves it."""
    salt, payment_id = visit.entropy.bytes(16), visit.entropy.bytes(16)
    digest = payer_digest(function, salt, payment_id, CODE)
    changes = {"payer_function": function, "payer_digest": digest, "payment_id": payment_id}
    payment = await visit.payment(await visit.purse(1), **changes)
    verdict, signed = await visit.verdict(payment.request, f"a payment with a payer code by {function}")
    visit.notes.same("the verdict's refusal", "", verdict.refusal)
    return payment._replace(verdict=signed), ProofRequest(payment_id, salt, CODE)


@suite.case(
    "proof.code", "22", "Who knows the payer code has the bank's statement, with payment and verdict as they were."
)
async def _code(visit: Visit) -> None:
    for function in ("sha-256", "sha3-256"):
        payment, asked = await _payment(visit, function)
        body = await visit.stranger.granted(visit.receiver, "proof", asked, what="the right code")
        try:
            signed = Signed.decode(ProofAnswer.decode(body).proof)
            proof, info, _ = open_proof(signed, visit.keyset.identity, visit.keyset.bank)
        except PeerError as error:
            visit.notes.fail("a statement that verifies", code_of(error))
        visit.notes.same("the payment:", payment.info.digest, info.digest)
        visit.notes.same("the verdict:", payment.verdict, proof.verdict)


@suite.case("proof.wrong", "22", "A wrong code, salt or payment is `not_proven`, all alike.")
async def _wrong(visit: Visit) -> None:
    _, asked = await _payment(visit, "sha-256")
    details = set()
    for what, wrong in {
        "another code": ProofRequest(asked.payment_id, asked.salt, "bluesky"),
        "another salt": ProofRequest(asked.payment_id, bytes(16), CODE),
        "an unknown payment": ProofRequest(bytes(16), asked.salt, CODE),
    }.items():
        answer = await visit.stranger.refused(Refusal.NOT_PROVEN, visit.receiver, "proof", wrong, what=what)
        details.add(answer.detail)
    visit.notes.same("different sentences in the refusals:", 1, len(details))


@suite.case("proof.malformed", "22", "No code, or no salt, is `malformed`.")
async def _malformed(visit: Visit) -> None:
    for what, body in {
        "no code": msgspec.msgpack.encode([bytes(16), bytes(16), ""]),
        "no salt": msgspec.msgpack.encode([bytes(16), b"", CODE]),
    }.items():
        await visit.stranger.refused(Refusal.MALFORMED, visit.receiver, "proof", body, what=what)


@suite.case("proof.refused", "22", "A payment that was refused is `not_proven`.")
async def _refused(visit: Visit) -> None:
    salt, payment_id = visit.entropy.bytes(16), visit.entropy.bytes(16)
    digest = payer_digest("sha-256", salt, payment_id, CODE)
    payment = await visit.payment(await visit.forged(), payer_digest=digest, payment_id=payment_id)
    await visit.verdict(payment.request, "a forged coin")
    await visit.stranger.refused(Refusal.NOT_PROVEN, visit.receiver, "proof", ProofRequest(payment_id, salt, CODE))


@suite.case("payout.look", "23", "Amount 0 looks: balance and payouts; it is not stored.")
async def _look(visit: Visit) -> None:
    await visit.merchant_account()
    body = await visit.merchant.granted(visit.receiver, "payout", PayoutRequest(0, 0), what="a look")
    visit.notes.same("balance", await visit.balance(visit.merchant), PayoutAnswer.decode(body).balance)


@suite.case("payout.order", "23", "`bad_signature`, `malformed`, `unknown_account`, `wrong_merchant`, in this order.")
async def _order(visit: Visit) -> None:
    await visit.client_account()
    look = PayoutRequest(0, 5)
    await visit.stranger.refused(Refusal.BAD_SIGNATURE, visit.receiver, "payout", b"\xc0", what="nil, anonymous")
    passer = visit.passer_by()
    await passer.refused(Refusal.MALFORMED, visit.receiver, "payout", b"\xc0", what="nil, of an unknown key")
    await passer.refused(Refusal.UNKNOWN_ACCOUNT, visit.receiver, "payout", look, what="of an unknown key")
    await visit.client.refused(Refusal.WRONG_MERCHANT, visit.receiver, "payout", look, what="by a client")


@suite.case("payout.commission", "23", "Another commission is `commission_changed`, before `insufficient_funds`.")
async def _commission(visit: Visit) -> None:
    await visit.merchant_account()
    charge = visit.keyset.tariff.payout.charge(MAX_PAYOUT)
    asked = PayoutRequest(MAX_PAYOUT, charge + 1)
    await visit.merchant.refused(Refusal.COMMISSION_CHANGED, visit.receiver, "payout", asked, what="too dear")


@suite.case("payout.funds", "23", "What the account does not hold is `insufficient_funds`.")
async def _funds(visit: Visit) -> None:
    await visit.merchant_account()
    asked = PayoutRequest(MAX_PAYOUT, visit.keyset.tariff.payout.charge(MAX_PAYOUT))
    await visit.merchant.refused(Refusal.INSUFFICIENT_FUNDS, visit.receiver, "payout", asked)


@suite.case("payout.late", "23", "In the books `request_expired` comes before `no_destination`.")
async def _late(visit: Visit) -> None:
    charge, past = visit.keyset.tariff.payout.charge(1), visit.clock.now() - 60_000
    while await visit.balance(visit.merchant) < 1 + charge:
        await visit.paid()
    await visit.merchant.refused(
        Refusal.REQUEST_EXPIRED, visit.receiver, "payout", PayoutRequest(1, charge), deadline=past, what="late"
    )


@suite.case(
    "payout.destination", "23", "Without a destination in the books it is `no_destination`, and nothing is debited."
)
async def _destination(visit: Visit) -> None:
    charge = visit.keyset.tariff.payout.charge(1)
    await visit.merchant_account()
    while await visit.balance(visit.merchant) < 1 + charge:
        await visit.paid()
    before = await visit.balance(visit.merchant)
    answer = await visit.merchant.ask(visit.receiver, "payout", PayoutRequest(1, charge), what="of 1")
    if not answer.refusal:
        raise Skipped("the operator has entered a destination for the suite's merchant: a payout of 1 is queued")
    visit.notes.same("the refusal", Refusal.NO_DESTINATION.value, answer.refusal)
    visit.notes.same("balance", before, await visit.balance(visit.merchant))


suite.case("totals.grow", "24", "In later totals nothing is undone: no count is less, the journal no shorter.")(grown)
