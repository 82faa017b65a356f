"""§5.4, §6.1, §7.2, §10: catalogue, orders, payment requests, and the bank's keysets that a merchant follows."""

import asyncio

import msgspec

from protocol import topics
from protocol.errors import PeerError
from protocol.keyset import SignedKeyset
from protocol.messages import OrderLine, Payreq, Signed, Status
from protocol.refusals import Refusal
from protocol.signatures import check_public_key
from protocol.wallet.paying import open_catalog

from ..bank.visit import code_of
from ..case import Suite
from ..voice import speaking
from .visit import ShopVisit

suite = Suite[ShopVisit]("merchant")


@suite.case(
    "catalog.announced", "10.1", "The retained catalogue is signed, and holds the bank's certificate of name and key."
)
async def _announced(visit: ShopVisit) -> None:
    name = visit.receiver.name
    async with speaking(visit.stage.address.broker, visit.notes, visit.clock, visit.entropy) as voice:
        data = await voice.requester.retained(topics.catalog(name))
    try:
        shop = open_catalog(name, data, visit.stage.keyset)
        check_public_key(shop.catalog.key)
    except PeerError as error:
        visit.notes.fail("a catalogue that passes all checks", code_of(error))
    visit.notes.check("a catalogue that passes all checks", holds=True, came=f"{len(shop.catalog.items)} items")


@suite.case("status.announced", "6.1", "The retained `Status` of an open merchant says so, and names no lanes.")
async def _status(visit: ShopVisit) -> None:
    async with speaking(visit.stage.address.broker, visit.notes, visit.clock, visit.entropy) as voice:
        data = await voice.requester.retained(topics.status(visit.receiver.name))
    visit.notes.same("the status", Status(open=True, lanes=0), Status.decode(data))


@suite.case(
    "account.claim",
    "8",
    "A merchant claims its account with a letter that its certified key has signed, and looks only.",
)
async def _claim(visit: ShopVisit) -> None:
    for heard in visit.stage.ear.of("account"):
        if heard.opened.sender == visit.receiver.identity:
            visit.notes.check("a signed request", holds=True, came="one")
            return
    visit.notes.check("a request or, at a later start, none", holds=True, came="none: the account was claimed before")


@suite.case(
    "order.offer", "10.3", "An order has a signed payment request that a wallet accepts; salt and id are fresh."
)
async def _offer(visit: ShopVisit) -> None:
    first, second = await visit.order(), await visit.order(2)
    visit.late = visit.late or second
    for one, other in ((first.payreq.payment_id, second.payreq.payment_id), (first.payreq.salt, second.payreq.salt)):
        visit.notes.check("another one for each sale", holds=one != other, came=one.hex())
    visit.notes.same("the keyset's hash:", visit.stage.keyset.hash, first.payreq.keyset)


@suite.case("order.expired", "10.2", "`request_expired` comes first, before `malformed`.")
async def _expired(visit: ShopVisit) -> None:
    await visit.voice.refused(
        Refusal.REQUEST_EXPIRED, visit.receiver, "order", b"\xc0", deadline=1, what="late, and no order"
    )


@suite.case(
    "order.malformed", "10.2", "An order without lines, with 51, or with a quantity of 0 or 10,001, is `malformed`."
)
async def _malformed(visit: ShopVisit) -> None:
    bank, sku = visit.stage.address.bank, visit.item.sku
    bodies = {
        "nil": b"\xc0",
        "no lines": msgspec.msgpack.encode([bank, []]),
        "51 lines": msgspec.msgpack.encode([bank, [[sku, 1]] * 51]),
        "quantity 0": msgspec.msgpack.encode([bank, [[sku, 0]]]),
        "quantity 10,001": msgspec.msgpack.encode([bank, [[sku, 10_001]]]),
        "something behind": visit.wanted().encode() + b"\0",
    }
    for what, body in bodies.items():
        await visit.voice.refused(Refusal.MALFORMED, visit.receiver, "order", body, what=what)


@suite.case("order.bank", "10.2", "A bank where the merchant has no account is `wrong_bank`, before `unknown_item`.")
async def _bank(visit: ShopVisit) -> None:
    wrong = visit.wanted(bank="no-such-bank", lines=(OrderLine("no-such-item", 1),))
    await visit.voice.refused(
        Refusal.WRONG_BANK, visit.receiver, "order", wrong, what="neither bank nor item are known"
    )


@suite.case("order.item", "10.2", "What is not in the catalogue is `unknown_item`.")
async def _item(visit: ShopVisit) -> None:
    lines = (OrderLine(visit.item.sku, 1), OrderLine("no-such-item", 1))
    await visit.voice.refused(Refusal.UNKNOWN_ITEM, visit.receiver, "order", visit.wanted(lines=lines))


@suite.case(
    "drop.rubbish",
    "7.2",
    "What does not open as the topic's kind is dropped without an answer, and the next is served.",
)
async def _rubbish(visit: ShopVisit) -> None:
    voice, name = visit.voice, visit.receiver.name
    good = voice.write(visit.receiver, "order", visit.wanted())
    order = topics.merchant_request(name, "order", voice.link.client_id)
    pay = topics.merchant_request(name, "pay", voice.link.client_id)
    inside = voice.write(visit.receiver, "order", visit.wanted(), letter_kind="order").envelope
    for what, topic, payload in (
        ("nothing", order, b""),
        ("zeros", order, bytes(900)),
        ("an envelope cut short", order, good.envelope[:-1]),
        ("an envelope with one byte altered", order, good.envelope[:-1] + bytes([good.envelope[-1] ^ 1])),
        ("an order on the topic of `pay`", pay, inside),
    ):
        await voice.dropped(what, topic, payload, voice.write(visit.receiver, "order", visit.wanted()))


@suite.case(
    "keyset.followed",
    "5.4",
    "A merchant follows the bank's keysets: offers name the newest as soon as it is announced.",
)
async def _followed(visit: ShopVisit) -> None:
    known = visit.stage.keyset
    newer = msgspec.structs.replace(
        known, number=known.number + 1, chain=(*known.chain, known.hash), issued_at=visit.clock.now()
    )
    await visit.stage.adopt(newer)
    visit.notes.tell(f"keyset {newer.number}")
    named = b""
    for _ in range(100):
        named = (await visit.order()).payreq.keyset
        if named == newer.hash:
            break
        await asyncio.sleep(0.1)
    visit.notes.same("the newest keyset in an offer:", newer.hash, named)


@suite.case(
    "keyset.refused", "5.4", "A keyset that is rolled back, forked, or not signed by the bank, is not followed."
)
async def _refused(visit: ShopVisit) -> None:
    stage, known = visit.stage, visit.stage.keyset
    seed = stage.keys.identity
    forked = msgspec.structs.replace(known, issued_at=known.issued_at + 1)
    beyond = msgspec.structs.replace(
        known, number=known.number + 1, chain=(*known.chain, bytes(32)), issued_at=visit.clock.now()
    )
    follower = msgspec.structs.replace(beyond, chain=(*known.chain, known.hash))
    older = msgspec.structs.replace(known, number=0, chain=())
    try:
        for what, announced in {
            "one that is rolled back": SignedKeyset.sign(seed, older),
            "another one of the same number": SignedKeyset.sign(seed, forked),
            "one whose chain does not hold the known one": SignedKeyset.sign(seed, beyond),
            "one that another key has signed": SignedKeyset.sign(bytes(32), follower),
        }.items():
            visit.notes.tell(f"a keyset: {what}")
            await stage.announce(announced.encode())
            for _ in range(2):  # the second is written when the keyset has certainly come
                offer = Signed.decode(
                    await visit.voice.granted(visit.receiver, "order", visit.wanted(), what="after it")
                )
                visit.notes.same("the known keyset in the offer:", known.hash, _keyset_of(offer))
    finally:
        await stage.announce(stage.announcement)


def _keyset_of(offer: Signed) -> bytes:
    return Payreq.decode(offer.statement).keyset
