"""§11, §12: payments, deposits, and what the buyer is told."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from broker.port import Outgoing
from protocol import topics
from protocol.answer import Answer
from protocol.errors import PeerError
from protocol.messages import DepositAnswer, DepositRequest, PayAnswer, PaymentInfo, PayRequest, Signed, Verdict
from protocol.refusals import Refusal
from protocol.signatures import Domain

from ..bank.visit import code_of
from ..case import Skipped, Suite
from ..played import Heard, Honest, Mood, first, honest, sealed, silent
from .visit import Offer, Paying, ShopVisit

suite = Suite[ShopVisit]("merchant")


def _deposits(visit: ShopVisit, paying: Paying, since: int) -> list[Heard]:
    """Return the deposits of a payment that have come to the bank."""
    return [
        one
        for one in visit.stage.ear.of("deposit", since)
        if DepositRequest.decode(one.opened.body).info == paying.body.info
    ]


async def _pays(visit: ShopVisit, mood: Mood, what: str) -> tuple[Paying, list[Heard]]:
    """Pay with good coins while the bank is in a mood, and check that a receipt comes in the end."""
    offer = await visit.order()
    paying, ear = visit.paying(offer, await visit.coins(offer.payreq.amount)), visit.stage.ear
    since, ear.mood = len(ear.heard), mood
    try:
        visit.receipt(paying, await visit.pay(offer, paying, what))
    finally:
        ear.mood = honest
    return paying, _deposits(visit, paying, since)


@suite.case(
    "pay.receipt", "11.5", "A good payment has a receipt, signed by the merchant, with the bank's accepting verdict."
)
async def _receipt(visit: ShopVisit) -> None:
    await visit.bought()


@suite.case(
    "pay.deposit", "12.1", "The deposit is what was paid, as it came, signed by the certified key, on its lane."
)
async def _deposit(visit: ShopVisit) -> None:
    paying, heard = await _pays(visit, honest, "a good payment")
    visit.notes.check("a deposit", holds=bool(heard), came=f"{len(heard)}")
    deposit, topic = heard[0].opened, heard[0].topic
    visit.notes.same("sender:", visit.receiver.identity, deposit.sender)
    wanted = DepositRequest(paying.body.info, paying.body.parcel)
    visit.notes.same("information and parcel as they came:", wanted.encode(), deposit.body)
    lanes = visit.stage.keyset.limits.lanes
    came = topic.lane if isinstance(topic, topics.BankRequest) else -1
    visit.notes.same("lane (§6.4)", topics.lane_of(deposit.request_id, lanes, 0), came)


@suite.case("pay.again", "11.4", "A repeated payment has the same answer, byte for byte, and is deposited once.")
async def _again(visit: ShopVisit) -> None:
    offer = await visit.order()
    paying = visit.paying(offer, await visit.coins(offer.payreq.amount))
    since = len(visit.stage.ear.heard)
    visit.notes.tell("pay: the same bytes, twice")
    asking = visit.asking(offer, paying)
    once = await visit.voice.send(asking)
    visit.receipt(paying, asking.open(once))
    visit.notes.same("the same answer, byte for byte:", once, await visit.voice.send(asking))
    ids = {one.opened.request_id for one in _deposits(visit, paying, since)}
    visit.notes.same("deposits:", 1, len(ids))


@suite.case("pay.anew", "11.4", "Who pays the same once more, in another request, has a receipt again.")
async def _anew(visit: ShopVisit) -> None:
    paying, offer = await visit.bought()
    visit.receipt(paying, await visit.pay(offer, paying, "the same payment in another request"))


@suite.case("pay.id", "7.2", "Another request under an id that was taken in is `request_id_reused`.")
async def _id(visit: ShopVisit) -> None:
    paying, offer = await visit.bought()
    asking = visit.asking(offer, paying)
    visit.notes.tell("pay: two requests under one id")
    visit.voice.accepted("pay", asking.open(await visit.voice.send(asking)))
    other = visit.voice.write(visit.receiver, "pay", paying.body, request_id=asking.request_id)
    told = other.open(await visit.voice.send(other))
    visit.notes.same("the refusal", Refusal.REQUEST_ID_REUSED.value, told.refusal)


@suite.case("pay.expired", "11.4", "A request that is late is `request_expired`, before `malformed`.")
async def _expired(visit: ShopVisit) -> None:
    await visit.voice.refused(Refusal.REQUEST_EXPIRED, visit.receiver, "pay", b"\xc0", deadline=1, what="late rubbish")


@suite.case("pay.malformed", "11.4", "A request, or payment information, that is none is `malformed`.")
async def _malformed(visit: ShopVisit) -> None:
    await visit.voice.refused(Refusal.MALFORMED, visit.receiver, "pay", b"\xc0", what="nil")
    body = PayRequest(b"\xc0", b"", bytes(16))
    await visit.voice.refused(Refusal.MALFORMED, visit.receiver, "pay", body, what="nil for payment information")


@suite.case(
    "pay.unknown", "11.4", "An unknown payment id, or a wrong salt, is `unknown_sale`, before `payment_altered`."
)
async def _unknown(visit: ShopVisit) -> None:
    offer = await visit.order()
    strange = visit.paying(offer, visit.forged(), payment_id=bytes(16), amount=offer.payreq.amount + 1)
    await visit.refused(Refusal.UNKNOWN_SALE, offer, strange, "an unknown payment id, and another amount")
    altered = visit.paying(offer, visit.forged(), amount=offer.payreq.amount + 1)
    unsalted = altered._replace(body=msgspec.structs.replace(altered.body, salt=bytes(16)))
    await visit.refused(Refusal.UNKNOWN_SALE, offer, unsalted, "a wrong salt, and another amount")


_ALTERED: dict[str, Callable[[PaymentInfo], Any]] = {
    "currency": lambda info: "XTS",
    "amount": lambda info: info.amount + 1,
    "timestamp": lambda info: info.timestamp + 1,
    "bank": lambda info: "no-such-bank",
    "account": lambda info: info.account + 1,
    "order_function": lambda info: "sha-512",
    "order_digest": lambda info: bytes(32),
    "deposit_before": lambda info: info.deposit_before + 1,
}


@suite.case("pay.altered", "11.4", "Each field but the payer's must be that of the payment request: `payment_altered`.")
async def _altered(visit: ShopVisit) -> None:
    offer, since = await visit.order(), len(visit.stage.ear.heard)
    purse = visit.forged()
    info = visit.paying(offer, purse).info
    for field, change in _ALTERED.items():
        altered = visit.paying(offer, purse, **{field: change(info)})
        await visit.refused(Refusal.PAYMENT_ALTERED, offer, altered, f"another {field}")
    visit.notes.same("deposits:", 0, len(visit.stage.ear.of("deposit", since)))


@suite.case("pay.payer", "11.1", "The payer chooses the function of its code's digest.")
async def _payer(visit: ShopVisit) -> None:
    offer = await visit.order()
    changes = {"payer_function": "sha-512", "payer_digest": bytes(64)}
    paying = visit.paying(offer, await visit.coins(offer.payreq.amount), **changes)
    visit.receipt(paying, await visit.pay(offer, paying, "with a payer digest by sha-512"))


@suite.case("pay.paid", "11.4", "Another payment of a sale that was paid is `already_paid`, and is not deposited.")
async def _paid(visit: ShopVisit) -> None:
    _, offer = await visit.bought()
    since = len(visit.stage.ear.heard)
    await visit.refused(Refusal.ALREADY_PAID, offer, visit.paying(offer, visit.forged()), "another payment of the sale")
    visit.notes.same("deposits:", 0, len(visit.stage.ear.of("deposit", since)))


@suite.case(
    "pay.refused", "11.5", "If the bank refuses, its verdict is the answer, and the sale is open for another payment."
)
async def _refused(visit: ShopVisit) -> None:
    offer = await visit.order()
    forged = visit.paying(offer, visit.forged())
    answer = await visit.pay(offer, forged, "with a forged coin")
    body = PayAnswer.decode(visit.voice.accepted("pay", answer))
    visit.notes.same("receipt", b"", body.receipt)
    try:
        verdict = visit.verdict(forged, body)
    except PeerError as error:
        visit.notes.fail("the bank's verdict on this payment", code_of(error))
    visit.notes.check("a verdict that refuses", holds=bool(verdict.refusal), came=verdict.refusal or "it accepts")
    good = visit.paying(offer, await visit.coins(offer.payreq.amount))
    visit.receipt(good, await visit.pay(offer, good, "with good coins, for the same sale"))


@suite.case(
    "pay.repeats",
    "7.3",
    "While the bank is silent the merchant sends the same bytes again, each time in the next lane.",
)
async def _repeats(visit: ShopVisit) -> None:
    _, heard = await _pays(visit, first("deposit", 2, silent), "while the bank is silent twice")
    visit.notes.check("three deposits", holds=len(heard) >= 3, came=f"{len(heard)}")
    visit.notes.same("different ones:", 1, len({one.payload for one in heard}))
    lanes, deposit = visit.stage.keyset.limits.lanes, heard[0].opened
    wanted = [topics.lane_of(deposit.request_id, lanes, attempt) for attempt in range(len(heard))]
    came = [one.topic.lane for one in heard if isinstance(one.topic, topics.BankRequest)]
    visit.notes.same("lanes", wanted, came)


@suite.case("pay.busy", "7.5", "On `overloaded` the merchant goes on as if nothing had come.")
async def _busy(visit: ShopVisit) -> None:
    async def busy(heard: Heard, _: Honest) -> Outgoing | None:
        refusal = Answer(visit.clock.now(), Refusal.OVERLOADED.value, "", b"")
        return sealed(visit.stage.address.bank, visit.stage.keys.identity, heard, refusal)

    _, heard = await _pays(visit, first("deposit", 1, busy), "while the bank is busy once")
    visit.notes.check("another deposit", holds=len(heard) >= 2, came=f"{len(heard)}")
    visit.notes.same("different ones:", 1, len({one.payload for one in heard}))


def _saying(visit: ShopVisit, signer: bytes, verdict_signer: bytes, **changes: Any) -> Mood:
    """Return a mood that accepts a deposit without depositing it, signed by whomever, altered by `changes`."""

    async def say(heard: Heard, _: Honest) -> Outgoing | None:
        info = PaymentInfo.decode(DepositRequest.decode(heard.opened.body).info)
        now = visit.clock.now()
        verdict = Verdict(
            info.bank, info.digest, info.payment_id, info.account, info.currency, info.amount, "", now, b""
        )
        signed = Signed.make(verdict_signer, Domain.VERDICT, msgspec.structs.replace(verdict, **changes))
        answer = Answer(now, "", "", DepositAnswer(signed.encode(), 0).encode())
        return sealed(visit.stage.address.bank, signer, heard, answer)

    return say


@suite.case(
    "pay.forged-answer", "3.6", "An answer that another key has signed is dropped: the true one is still to come."
)
async def _forged_answer(visit: ShopVisit) -> None:
    mood = _saying(visit, bytes(32), visit.stage.keys.identity)
    _, heard = await _pays(visit, first("deposit", 1, mood), "while somebody else answers for the bank")
    visit.notes.check("another deposit", holds=len(heard) >= 2, came=f"{len(heard)}")


@suite.case(
    "pay.forged-verdict",
    "12.3",
    "The merchant verifies the verdict: one by another key, or on another payment, is none.",
)
async def _forged_verdict(visit: ShopVisit) -> None:
    identity = visit.stage.keys.identity
    for what, mood in {
        "a verdict that another key has signed": _saying(visit, identity, bytes(32)),
        "a verdict on another payment": _saying(visit, identity, identity, digest=bytes(32)),
    }.items():
        _, heard = await _pays(visit, first("deposit", 1, mood), what)
        visit.notes.check("another deposit", holds=len(heard) >= 2, came=f"{len(heard)}")


@suite.case("pay.pending", "11.4", "While one payment is being deposited, another of the same sale is `pending`.")
async def _pending(visit: ShopVisit) -> None:
    offer = await visit.order()
    paying, ear = visit.paying(offer, await visit.coins(offer.payreq.amount)), visit.stage.ear
    released = asyncio.Event()

    async def slow(_: Heard, go: Honest) -> Outgoing | None:
        await released.wait()
        return await go()

    since, ear.mood = len(ear.heard), first("deposit", 1000, slow)
    try:
        visit.notes.tell("pay: while the bank takes its time")
        asking = visit.asking(offer, paying)
        sending = asyncio.create_task(visit.voice.send(asking))
        await ear.comes("deposit", 1, since)
        await visit.refused(Refusal.PENDING, offer, visit.paying(offer, visit.forged()), "another payment meanwhile")
    finally:
        ear.mood = honest
        released.set()
    visit.receipt(paying, asking.open(await sending))


@suite.case("pay.late", "11.4", "From `expires` on a first payment is `sale_expired`.", patience_s=100_000)
async def _late(visit: ShopVisit) -> None:
    offer: Offer = visit.late or await visit.order()
    left = (offer.payreq.expires - visit.clock.now()) / 1000
    if left > visit.wish.wait_s:
        raise Skipped(f"an offer stands for {left:.0f} seconds more; --wait says how long to wait")
    await visit.clock.sleep_until(offer.payreq.expires + 50)
    await visit.refused(Refusal.SALE_EXPIRED, offer, visit.paying(offer, visit.forged()), "when the offer has expired")


@suite.case(
    "deposit.letters",
    "12.1",
    "All that the merchant has sent to the bank opens, is signed by its key, and pads as it must.",
)
async def _letters(visit: ShopVisit) -> None:
    heard = [one for one in visit.stage.ear.heard if one.topic.kind in ("deposit", "refund")]
    faults = {one.fault for one in heard if one.letter is None}
    visit.notes.check("letters that open", holds=not faults, came=", ".join(faults) or f"{len(heard)} letters")
    senders = {one.opened.sender for one in heard}
    visit.notes.check("no other sender", holds=senders <= {visit.receiver.identity}, came=f"{len(senders)} senders")
