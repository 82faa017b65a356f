"""§20.3: tickets, served at a merchant's expense."""

from typing import NamedTuple

import msgspec

from protocol.envelope import Letter, request_hash, seal_letter
from protocol.exchange import TICKET, Issue, RefundOrder, RefundOrderAnswer, Ticket
from protocol.messages import BlindedCoin
from protocol.recovery import FetchAnswer, FetchRequest
from protocol.refusals import Refusal
from protocol.wallet.outputs import unblind_outputs

from ..case import Suite
from ..voice import HOUR_MS, Asking, Voice
from .visit import Visit, faulty

suite = Suite[Visit]("bank")

DAY_MS = 24 * HOUR_MS


class Slip(NamedTuple):
    """A ticket as its writer knows it, and an order for it."""

    asking: Asking
    outputs: tuple[BlindedCoin, ...]
    order: RefundOrder


async def _slip(
    visit: Visit,
    *,
    ticket_id: bytes = b"",
    outputs: tuple[BlindedCoin, ...] | None = None,
    deadline: int = 0,
    kind: str = TICKET,
    signer: Voice | None = None,
) -> Slip:
    """Return a ticket for one coin, and the order for it; true, but for what is given."""
    await _fund(visit)
    ticket_id = ticket_id or visit.stranger.new_id()
    unit = await visit.unit()
    if outputs is None:
        outputs = visit.blind(visit.stranger, ticket_id, [(await visit.values())[unit]])
    key = visit.stranger.root.answer_key(ticket_id)
    due = deadline or visit.clock.now() + DAY_MS
    letter = Letter(kind, ticket_id, due, key, signer.key if signer else b"", Ticket(outputs).encode())
    envelope = seal_letter(visit.receiver.envelope_key, letter, signer.seed if signer else None)
    charge = visit.keyset.tariff.refund.charge(unit)
    return Slip(Asking(visit.receiver, TICKET, ticket_id, key, envelope), outputs, RefundOrder(unit, charge, envelope))


async def _fund(visit: Visit) -> None:
    """See to it that the merchant's account holds enough for a refund."""
    await visit.merchant_account()
    unit = await visit.unit()
    needed = 2 * (unit + visit.keyset.tariff.refund.charge(unit))
    if await visit.balance(visit.merchant) < needed:
        await visit.paid(min(8, visit.keyset.limits.max_coins))


async def _refused(
    visit: Visit, code: Refusal, order: RefundOrder, what: str, *, request_id: bytes = b"", deadline: int = 0
) -> None:
    await visit.merchant.refused(
        code, visit.receiver, "refund", order, what=what, request_id=request_id, deadline=deadline
    )


async def _bad_ticket(visit: Visit, ticket: bytes, what: str) -> None:
    order = RefundOrder(await visit.unit(), 0, ticket)
    await _refused(visit, Refusal.BAD_TICKET, order, what)


@suite.case(
    "refund.served", "20.3", "A ticket is served: its writer's answer opens and verifies, the merchant is debited."
)
async def _served(visit: Visit) -> None:
    slip = await _slip(visit)
    before = await visit.balance(visit.merchant)
    visit.notes.tell("refund: a ticket for one coin, twice")
    asking = visit.merchant.write(visit.receiver, "refund", slip.order)
    first = await visit.merchant.send(asking)
    issue = RefundOrderAnswer.decode(visit.merchant.accepted("refund", asking.open(first))).issue
    signatures = Issue.decode(visit.stranger.accepted("the ticket", slip.asking.open(issue))).coins
    wanted = [coin.denomination for coin in slip.outputs]
    _, wrong = unblind_outputs(visit.stranger.root, visit.ring, slip.asking.request_id, wanted, signatures)
    visit.notes.check("signatures that verify", holds=not wrong, came=wrong or "one signature")
    after = before - slip.order.amount - slip.order.commission
    visit.notes.same("balance", after, await visit.balance(visit.merchant))
    visit.notes.same("the same answer, byte for byte:", first, await visit.merchant.send(asking))
    visit.notes.same("balance", after, await visit.balance(visit.merchant))
    question = FetchRequest(slip.asking.request_id)
    body = await visit.stranger.granted(visit.receiver, "fetch", question, what="the answer to the ticket")
    found = FetchAnswer.decode(body).found
    visit.notes.same("answers found:", 1, len(found))
    visit.notes.same("the same bytes:", issue, found[0].answer)
    visit.notes.same("the ticket's hash:", request_hash(slip.asking.envelope), found[0].request_hash)


@suite.case("refund.once", "20.3", "One ticket is served once, whoever shows it: `blinded_value_reused`.")
async def _once(visit: Visit) -> None:
    slip = await _slip(visit)
    await visit.merchant.granted(visit.receiver, "refund", slip.order, what="a ticket")
    await _refused(visit, Refusal.BLINDED_VALUE_REUSED, slip.order, "the same ticket in another order")


@suite.case("refund.ticket-id", "20.3", "A ticket under an id that has an answer is `request_id_reused`.")
async def _ticket_id(visit: Visit) -> None:
    slip = await _slip(visit)
    await visit.merchant.granted(visit.receiver, "refund", slip.order, what="a ticket")
    ids = await visit.values()
    outputs = visit.blind(visit.stranger, visit.stranger.new_id(), [ids[await visit.unit()]])
    other = await _slip(visit, ticket_id=slip.asking.request_id, outputs=outputs)
    await _refused(visit, Refusal.REQUEST_ID_REUSED, other.order, "another ticket under its id")


@suite.case("refund.anonymous", "20.3", "An anonymous letter is `bad_signature`, before `malformed`.")
async def _anonymous(visit: Visit) -> None:
    await visit.stranger.refused(Refusal.BAD_SIGNATURE, visit.receiver, "refund", b"\xc0", what="nil, anonymous")


@suite.case(
    "refund.stranger",
    "20.3",
    "`malformed`, then `unknown_account`, then `wrong_merchant` of a client, then the ticket.",
)
async def _stranger(visit: Visit) -> None:
    await visit.client_account()
    rubbish = RefundOrder(1, 0, b"")
    await visit.passer_by().refused(Refusal.MALFORMED, visit.receiver, "refund", b"\xc0", what="nil")
    await visit.passer_by().refused(Refusal.UNKNOWN_ACCOUNT, visit.receiver, "refund", rubbish, what="no ticket")
    await visit.client.refused(Refusal.WRONG_MERCHANT, visit.receiver, "refund", rubbish, what="by a client, no ticket")


@suite.case(
    "refund.bad-ticket",
    "20.3",
    "`bad_ticket`: rubbish, of another kind, signed, with the order's own id, too far ahead.",
)
async def _bad_tickets(visit: Visit) -> None:
    for what, envelope in {"nothing": b"", "zeros": bytes(900)}.items():
        await visit.merchant_account()
        await _bad_ticket(visit, envelope, what)
    slip = await _slip(visit)
    altered = slip.order.ticket[:-1] + bytes([slip.order.ticket[-1] ^ 1])
    await _bad_ticket(visit, altered, "an altered ticket")
    await _bad_ticket(visit, (await _slip(visit, kind="exchange")).order.ticket, "sealed as `exchange`")
    await _bad_ticket(visit, (await _slip(visit, signer=visit.merchant)).order.ticket, "signed by the merchant")
    ahead = visit.clock.now() + 9 * DAY_MS
    await _bad_ticket(visit, (await _slip(visit, deadline=ahead)).order.ticket, "with a deadline in nine days")
    request_id = visit.merchant.new_id()
    own = await _slip(visit, ticket_id=request_id)
    await _refused(visit, Refusal.BAD_TICKET, own.order, "with the order's id", request_id=request_id)


@suite.case("refund.outputs", "20.3", "Outputs are refused as in a withdrawal, before `amount_mismatch`.")
async def _outputs(visit: Visit) -> None:
    slip = await _slip(visit)
    for code, changes in (
        (Refusal.UNKNOWN_DENOMINATION, {"denomination": faulty()}),
        (Refusal.BAD_BLINDED_VALUE, {"blinded": bytes(256)}),
    ):
        outputs = (slip.outputs[0], msgspec.structs.replace(slip.outputs[0], **changes))
        await _refused(
            visit, code, (await _slip(visit, outputs=outputs)).order, f"{next(iter(changes))}, worth too much"
        )
    twice = await _slip(visit, outputs=slip.outputs * 2)
    await _refused(visit, Refusal.BLINDED_VALUE_REUSED, twice.order, "one value twice, worth too much")


@suite.case(
    "refund.amount", "20.3", "A ticket that is not worth the amount is `amount_mismatch`, before `commission_changed`."
)
async def _amount(visit: Visit) -> None:
    order = (await _slip(visit)).order
    wrong = msgspec.structs.replace(order, amount=order.amount + 1, commission=order.commission + 99)
    await _refused(visit, Refusal.AMOUNT_MISMATCH, wrong, "one more, and a wrong commission")


@suite.case("refund.commission", "20.3", "Another commission is `commission_changed`, before `insufficient_funds`.")
async def _commission(visit: Visit) -> None:
    order = (await _slip(visit)).order
    wrong = msgspec.structs.replace(order, commission=2**53 - 1)
    await _refused(visit, Refusal.COMMISSION_CHANGED, wrong, "a commission that nobody has")


@suite.case("refund.funds", "20.3", "What the account does not hold is `insufficient_funds`, and nothing is served.")
async def _funds(visit: Visit) -> None:
    await visit.merchant_account()
    dear, balance, ticket_id = max(await visit.values()), await visit.balance(visit.merchant), visit.stranger.new_id()
    count = min(balance // dear + 1, visit.keyset.limits.max_coins)
    ids = await visit.values()
    outputs = visit.blind(visit.stranger, ticket_id, [ids[dear]] * count)
    slip = await _slip(visit, ticket_id=ticket_id, outputs=outputs)
    charge = visit.keyset.tariff.refund.charge(dear * count)
    order = msgspec.structs.replace(slip.order, amount=dear * count, commission=charge)
    await _refused(visit, Refusal.INSUFFICIENT_FUNDS, order, f"a ticket worth {dear * count}")
    body = await visit.stranger.granted(visit.receiver, "fetch", FetchRequest(ticket_id), what="the ticket's answer")
    visit.notes.same("answers found:", 0, len(FetchAnswer.decode(body).found))


@suite.case("refund.late", "20.3", "Late by the order's deadline or by the ticket's is `request_expired`.")
async def _late(visit: Visit) -> None:
    past = visit.clock.now() - 60_000
    await _refused(visit, Refusal.REQUEST_EXPIRED, (await _slip(visit)).order, "a late order", deadline=past)
    await _refused(visit, Refusal.REQUEST_EXPIRED, (await _slip(visit, deadline=past)).order, "a late ticket")
