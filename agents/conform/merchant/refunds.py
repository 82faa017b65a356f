"""§20.2: refunds, collected by a buyer whom nobody knows."""

import asyncio
import shlex
from typing import NamedTuple

import msgspec

from protocol.envelope import Letter, seal_letter
from protocol.exchange import TICKET, Issue, RefundAnswer, RefundOrder, RefundRequest, Ticket
from protocol.refusals import Refusal
from protocol.wallet.outputs import unblind_outputs

from ..case import Skipped, Suite
from ..voice import HOUR_MS, Asking
from .visit import Paying, ShopVisit

suite = Suite[ShopVisit]("merchant")


class Slip(NamedTuple):
    """A ticket as its writer knows it, and the denominations that it asks for."""

    asking: Asking
    wanted: list[bytes]


async def _slip(visit: ShopVisit, amount: int) -> Slip:
    wanted, voice, to = await visit.buyer.outputs(amount), visit.voice, visit.buyer.receiver
    ticket_id = voice.new_id()
    key, outputs = voice.root.answer_key(ticket_id), visit.buyer.blind(voice, ticket_id, wanted)
    letter = Letter(TICKET, ticket_id, visit.clock.now() + 24 * HOUR_MS, key, b"", Ticket(outputs).encode())
    return Slip(Asking(to, TICKET, ticket_id, key, seal_letter(to.envelope_key, letter, None)), wanted)


def _wish(paying: Paying, ticket: bytes = b"") -> RefundRequest:
    return RefundRequest(paying.info.digest, paying.body.salt, ticket)


async def _grant(visit: ShopVisit, paying: Paying) -> None:
    """Have a refund granted by the operator's command."""
    if not visit.wish.grant:
        raise Skipped("no command grants a refund: --grant names it")
    command = visit.wish.grant.format(payment_id=paying.info.payment_id.hex(), amount=paying.info.amount)
    visit.notes.tell(f"the command {command}")
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()
    if process.returncode != 0:
        visit.notes.fail("a grant, exit code 0", f"exit code {process.returncode}: {told.decode(errors='replace')}")


@suite.case(
    "refund.unknown",
    "20.2",
    "An unknown digest, or a wrong salt, is `unknown_sale`; a late request `request_expired` first.",
)
async def _unknown(visit: ShopVisit) -> None:
    paying, _ = await visit.bought()
    known = _wish(paying)
    for what, body in {
        "an unknown digest": msgspec.structs.replace(known, digest=bytes(32)),
        "a wrong salt": msgspec.structs.replace(known, salt=bytes(16)),
    }.items():
        await visit.voice.refused(Refusal.UNKNOWN_SALE, visit.receiver, "refund", body, what=what)
    await visit.voice.refused(Refusal.MALFORMED, visit.receiver, "refund", b"\xc0", what="nil")
    await visit.voice.refused(Refusal.REQUEST_EXPIRED, visit.receiver, "refund", b"\xc0", deadline=1, what="late nil")


@suite.case("refund.none", "20.2", "Where nothing is granted it is `no_refund`; to a ticket, for good.")
async def _none(visit: ShopVisit) -> None:
    offer = await visit.order()
    paying = visit.paying(offer, await visit.coins(offer.payreq.amount))
    visit.receipt(paying, await visit.pay(offer, paying))
    await visit.voice.refused(Refusal.NO_REFUND, visit.receiver, "refund", _wish(paying), what="how much?")
    slip = await _slip(visit, offer.payreq.amount)
    visit.notes.tell("refund: a ticket, twice")
    asking = visit.voice.write(visit.receiver, "refund", _wish(paying, slip.asking.envelope))
    once = await visit.voice.send(asking)
    visit.notes.same("the refusal", Refusal.NO_REFUND.value, asking.open(once).refusal)
    visit.notes.same("the same answer, byte for byte:", once, await visit.voice.send(asking))


@suite.case(
    "refund.collected",
    "20.2",
    "What is granted is told, and collected once: the bank's answer to the ticket comes through.",
)
async def _collected(visit: ShopVisit) -> None:
    paying, offer = await visit.bought()
    await _grant(visit, paying)
    amount, since = offer.payreq.amount, len(visit.stage.ear.heard)
    body = await visit.voice.granted(visit.receiver, "refund", _wish(paying), what="how much?")
    visit.notes.same("amount and no issue", (amount, b""), msgspec.structs.astuple(RefundAnswer.decode(body)))
    account = await visit.stage.books.balance(visit.shop.certificate.account)
    charge = visit.stage.keyset.tariff.refund.charge(amount)
    if account < amount + charge:  # the deposit's commission was taken from it
        await visit.stage.books.credit(visit.shop.certificate.account, amount + charge, "for a refund")
    slip = await _slip(visit, amount)
    visit.notes.tell("refund: a ticket, twice")
    asking = visit.voice.write(visit.receiver, "refund", _wish(paying, slip.asking.envelope))
    once = await visit.voice.send(asking)
    told = RefundAnswer.decode(visit.voice.accepted("refund", asking.open(once)))
    visit.notes.same("amount", amount, told.amount)
    signatures = Issue.decode(visit.voice.accepted("the ticket", slip.asking.open(told.issue))).coins
    root, ring = visit.voice.root, visit.buyer.ring
    _, wrong = unblind_outputs(root, ring, slip.asking.request_id, slip.wanted, signatures)
    visit.notes.check("signatures that verify", holds=not wrong, came=wrong or f"{len(signatures)}")
    visit.notes.same("the same answer, byte for byte:", once, await visit.voice.send(asking))
    orders = {one.payload: one.opened for one in visit.stage.ear.of("refund", since)}
    visit.notes.same("orders at the bank:", 1, len(orders))
    (order,) = orders.values()
    wanted = RefundOrder(amount, charge, slip.asking.envelope)
    visit.notes.same("the order:", wanted.encode(), order.body)
    visit.notes.same("signed by:", visit.receiver.identity, order.sender)
    other = await _slip(visit, amount)
    await visit.voice.refused(
        Refusal.NO_REFUND, visit.receiver, "refund", _wish(paying, other.asking.envelope), what="another ticket"
    )
    again = await visit.voice.granted(
        visit.receiver, "refund", _wish(paying, slip.asking.envelope), what="the same ticket in another request"
    )
    visit.notes.same("the same issue:", told.issue, RefundAnswer.decode(again).issue)
