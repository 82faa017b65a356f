"""§6.2, §10, §11, §14: ordering and paying, and what nobody may learn by it."""

from collections.abc import Callable

import msgspec

from broker.port import Outgoing
from protocol.answer import Answer, open_answer
from protocol.coins import check_coin, check_spend
from protocol.envelope import request_hash
from protocol.errors import PeerError
from protocol.keyset import KeyRing
from protocol.messages import (
    Certificate,
    OrderRequest,
    PayAnswer,
    Payreq,
    Receipt,
    Signed,
    WithdrawRequest,
    order_digest,
)
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key
from protocol.wallet.paying import LONGEST_BINDING_MS

from ..bank.visit import code_of
from ..case import Suite
from ..played import Heard, Honest, Mood, first, honest, sealed, silent
from .accounts import check_deadline, distinct
from .visit import PRICE, SHOP, Payment, WalletVisit

suite = Suite[WalletVisit]("wallet")
UNDER_ACCOUNT = frozenset({"account", "withdraw", "recover", "redeem"})
ANONYMOUS = frozenset({"order", "pay", "exchange", "verdict", "refund", "fetch", "check", "proof"})
DAY_MS = 86_400_000


async def _paid(visit: WalletVisit, mood: Mood) -> tuple[Payment, list[Heard]]:
    """Have the wallet buy a song while the shop is in a mood; return the payment, and all copies that came."""
    await visit.stocked()
    ear = visit.shop.ear
    since, ear.mood, visit.free = len(ear.heard), mood, None
    try:
        await visit.does(*visit.paying)
    finally:
        ear.mood = honest
    payments = await visit.payments(since)
    visit.notes.same("payments:", 1, len(payments))
    return payments[0], ear.of("pay", since)


@suite.case("order.letter", "10.2", "An order is anonymous, names bank and lines, and its deadline is a rounded day.")
async def _order(visit: WalletVisit) -> None:
    await visit.bought()
    heard = visit.shop.ear.of("order")[0]
    letter, request = heard.opened, OrderRequest.decode(heard.opened.body)
    visit.notes.same("sender", b"", letter.sender)
    visit.notes.same("bank and lines", (visit.stage.address.bank, [("song", 1)]), (request.bank, _lines(request)))
    check_deadline(visit, heard)


def _lines(request: OrderRequest) -> list[tuple[str, int]]:
    return [(line.sku, line.quantity) for line in request.lines]


@suite.case(
    "pay.information", "11.1", "Payment information repeats the payment request; of order and payer it holds hashes."
)
async def _information(visit: WalletVisit) -> None:
    payment = await visit.bought()
    info, payreq = payment.info, payment.payreq
    fields = ("currency", "amount", "timestamp", "bank", "account", "payment_id", "deposit_before")
    for field in fields:
        visit.notes.same(field, getattr(payreq, field), getattr(info, field))
    wanted = ("sha-256", order_digest(payreq.salt, payreq.order))
    visit.notes.same("order function and digest", wanted, (info.order_function, info.order_digest))
    info.check_functions()
    visit.notes.same("salt", payreq.salt, payment.request.salt)


@suite.case("pay.letter", "11.3", "The letter is anonymous, with deposit-before as its deadline.")
async def _letter(visit: WalletVisit) -> None:
    payment = await visit.bought()
    letter = payment.heard.opened
    visit.notes.same("sender", b"", letter.sender)
    visit.notes.same("deadline", payment.info.deposit_before, letter.deadline)


@suite.case(
    "pay.parcel",
    "11.3",
    "The parcel holds good coins worth exactly the amount, spent on the payment, sorted by serial.",
)
async def _parcel(visit: WalletVisit) -> None:
    payment = await visit.bought()
    info, parcel, ring = payment.info, payment.parcel, KeyRing(visit.stage.keyset)
    visit.notes.same("digest:", info.digest, parcel.digest)
    visit.notes.same("commitment:", info.parcel, parcel.commitment)
    serials = [one.coin.serial for one in parcel.coins]
    visit.notes.check(
        "serials in order, none twice", holds=serials == sorted(set(serials)), came=f"{len(serials)} coins"
    )
    try:
        for one in parcel.coins:
            check_coin(ring.key(one.coin.denomination), one.coin)
            check_spend(one, info.digest)
    except PeerError as error:
        visit.notes.fail("coins that verify, spent on this payment", code_of(error))
    denominations = [ring.denomination(one.coin.denomination) for one in parcel.coins]
    visit.notes.same("worth", PRICE, sum(one.value for one in denominations))
    until = info.deposit_before + LONGEST_BINDING_MS
    visit.notes.check(
        "coins that outlive it by a week", holds=all(until <= one.spend_until for one in denominations), came=""
    )


@suite.case("pay.repeats", "7.3", "While the shop is silent the same payment is sent again, and taken once.")
async def _repeats(visit: WalletVisit) -> None:
    since = len(visit.stage.ear.heard)
    _, heard = await _paid(visit, first("pay", 1, silent))
    visit.notes.check("two payments", holds=len(heard) >= 2, came=f"{len(heard)}")
    visit.notes.same("different ones:", 1, len({one.payload for one in heard}))
    visit.notes.same("deposits:", 1, len(distinct(visit.stage.ear.of("deposit", since))))


@suite.case(
    "pay.forged-receipt", "11.5", "A receipt that another key has signed is none: the true one is still to come."
)
async def _forged_receipt(visit: WalletVisit) -> None:
    async def forge(heard: Heard, go: Honest) -> Outgoing | None:
        receipt = Receipt(bytes(32), b"", "goods", visit.clock.now())
        signed = Signed.make(bytes(32), Domain.RECEIPT, receipt).encode()
        answer = Answer(visit.clock.now(), "", "", PayAnswer(signed, b"").encode())
        return sealed(SHOP, visit.shop.desk.keys.identity, heard, answer)

    _, heard = await _paid(visit, first("pay", 1, forge))
    visit.notes.check("another payment", holds=len(heard) >= 2, came=f"{len(heard)}")


def _offering(visit: WalletVisit, change: Callable[[Payreq], Payreq], signer: bytes = b"") -> Mood:
    """Return a mood: the shop's honest offer, changed, and signed by its key (or another)."""
    seed = visit.shop.desk.keys.identity

    async def offer(heard: Heard, go: Honest) -> Outgoing | None:
        said, letter = await go(), heard.opened
        if said is None:
            return None
        answer = open_answer(public_key(seed), letter.answer_key, request_hash(heard.payload), said.payload)
        payreq = change(Payreq.decode(Signed.decode(answer.check()).statement))
        signed = Signed.make(signer or seed, Domain.PAYREQ, payreq).encode()
        return sealed(SHOP, seed, heard, msgspec.structs.replace(answer, body=signed))

    return offer


async def _declined(visit: WalletVisit, what: str, change: Callable[[Payreq], Payreq], signer: bytes = b"") -> None:
    """Make a wrong offer, and check that nothing is paid."""
    await visit.stocked()
    ear = visit.shop.ear
    since, ear.mood = len(ear.heard), first("order", 1000, _offering(visit, change, signer))
    visit.notes.tell(f"an offer with {what}")
    try:
        await visit.fails(*visit.paying)
    finally:
        ear.mood = honest
    visit.notes.check("an order", holds=bool(ear.of("order", since)), came=f"{len(ear.of('order', since))}")
    visit.notes.same("payments:", 0, len(ear.of("pay", since)))


def _enter_offers() -> None:
    """Enter a case for each wrong offer."""
    replace = msgspec.structs.replace
    wrong: dict[str, tuple[str, str, Callable[[Payreq], Payreq], bytes]] = {
        "signed": ("1", "another key's signature", lambda one: one, bytes(32)),
        "account": ("2", "another account", lambda one: replace(one, account=one.account + 1), b""),
        "keyset": ("3", "a keyset that nobody knows", lambda one: replace(one, keyset=bytes(32)), b""),
        "expired": ("4", "an end that is past", lambda one: replace(one, expires=one.timestamp - 1000), b""),
        "week": ("4", "eight days to deposit", lambda one: replace(one, deposit_before=one.expires + 8 * DAY_MS), b""),
        "amount": ("5", "another amount", lambda one: replace(one, amount=one.amount + 1), b""),
    }
    for name, (rule, what, change, signer) in wrong.items():

        async def check(
            visit: WalletVisit, what: str = what, change: Callable[[Payreq], Payreq] = change, signer: bytes = signer
        ) -> None:
            await _declined(visit, what, change, signer)

        sentence = f"A payment request with {what} is refused, and nothing is paid (rule {rule})."
        suite.case(f"offer.{name}", "10.3", sentence)(check)


_enter_offers()


@suite.case("catalog.forged", "10.1", "A merchant whom the bank has not certified is refused: nothing is ordered.")
async def _certificate(visit: WalletVisit) -> None:
    await visit.stocked()
    shop, since = visit.shop, len(visit.shop.ear.heard)
    true = shop.desk.banks[visit.stage.address.bank]
    certificate: Certificate = true.certificate
    identity = visit.stage.keys.identity
    other = msgspec.structs.replace(certificate, key=public_key(bytes(32)))
    try:
        for what, signed in {
            "that another key has signed": Signed.make(bytes(32), Domain.CERTIFICATE, certificate),
            "of another key": Signed.make(identity, Domain.CERTIFICATE, other),
        }.items():
            visit.notes.tell(f"a certificate {what}")
            shop.desk.banks[visit.stage.address.bank] = true._replace(signed=signed.encode())
            await shop.announce()
            await visit.fails(*visit.paying)
            visit.notes.same("requests to the shop:", 0, len(shop.ear.heard) - since)
    finally:
        shop.desk.banks[visit.stage.address.bank] = true
        await shop.announce()


@suite.case("presence.payment", "6.2", "Order and payment share a presence, which nothing else has had.")
async def _presence(visit: WalletVisit) -> None:
    await visit.bought()
    payments = await visit.payments()
    orders = {one.topic.client for one in visit.shop.ear.of("order")}
    clients = [payment.heard.topic.client for payment in payments]
    visit.notes.check("the client id of an order", holds=orders.issuperset(clients), came=f"{len(clients)} payments")
    visit.notes.same("different ids of payments:", len(clients), len(set(clients)))
    exchanges = [one.topic.client for one in distinct(visit.stage.ear.of("exchange"))]
    visit.notes.same("different ids of exchanges:", len(exchanges), len(set(exchanges) - set(clients)))


@suite.case("privacy.presence", "14", "A presence under which the account was used is used for nothing anonymous.")
async def _apart(visit: WalletVisit) -> None:
    await visit.bought()
    shared = visit.clients(UNDER_ACCOUNT) & visit.clients(ANONYMOUS)
    visit.notes.check("no client id in common", holds=not shared, came=f"{len(shared)}")


@suite.case("privacy.letters", "14", "What is anonymous is not signed by the account's key.")
async def _unsigned(visit: WalletVisit) -> None:
    await visit.bought()
    signed = [one.topic.kind for one in visit.heard if one.topic.kind in ANONYMOUS and one.opened.sender]
    visit.notes.check("no sender in anonymous letters", holds=not signed, came=", ".join(sorted(set(signed))) or "none")


@suite.case(
    "privacy.link", "14", "Nothing that the bank saw at a withdrawal stands in a payment: no id, no value, no key."
)
async def _link(visit: WalletVisit) -> None:
    await visit.bought()
    payments = await visit.payments()
    seen: set[bytes] = set()
    for one in visit.stage.ear.of("withdraw"):
        letter, request = one.opened, WithdrawRequest.decode(one.opened.body)
        seen |= {letter.request_id, letter.answer_key, letter.sender, one.topic.client.encode()}
        seen |= {coin.blinded for coin in request.coins}
    for payment in payments:
        letter = payment.heard.opened
        said = letter.encode() + payment.parcel.encode() + payment.heard.payload
        visit.notes.same("of a withdrawal in a payment:", [], [one.hex() for one in seen if one in said])


@suite.case("privacy.ids", "3.10", "No request id, answer key or evidence key is used twice.")
async def _ids(visit: WalletVisit) -> None:
    await visit.bought()
    letters = [one.opened for one in distinct(visit.heard)]
    for field in ("request_id", "answer_key"):
        visit.notes.same(f"different {field}s:", len(letters), len({getattr(one, field) for one in letters}))
    payments = await visit.payments()
    keys = {payment.parcel.evidence_key for payment in payments}
    visit.notes.same("different evidence keys:", len(payments), len(keys))


@suite.case(
    "letters.open", "3.4", "All that the wallet has sent opens, in its one encoding, with its padding and signature."
)
async def _open(visit: WalletVisit) -> None:
    await visit.bought()
    faults = sorted({one.fault for one in visit.heard if one.letter is None})
    visit.notes.check("letters that open", holds=not faults, came=", ".join(faults) or f"{len(visit.heard)} letters")


@suite.case(
    "pay.merchant-refuses",
    "11.5",
    "The merchant's refusal frees no coin: it could lie, so they wait for the bank's verdict.",
)
async def _merchant_refuses(visit: WalletVisit) -> None:
    await visit.stocked()
    before, ear, visit.free = await visit.balance(), visit.shop.ear, None

    async def refuse(heard: Heard, _: Honest) -> Outgoing | None:
        answer = Answer(visit.clock.now(), Refusal.SALE_EXPIRED.value, "", b"")
        return sealed(SHOP, visit.shop.desk.keys.identity, heard, answer)

    since, ear.mood = len(ear.heard), first("pay", 1000, refuse)
    try:
        await visit.begins(ear.comes("pay", 1, since), *visit.paying)
    finally:
        ear.mood = honest
    visit.notes.check("a payment", holds=bool(ear.of("pay", since)), came=f"{len(ear.of('pay', since))}")
    after = await visit.balance()
    reserved = after.get("reserved", 0) - before.get("reserved", 0)
    visit.notes.same("more reserved coins, worth", PRICE, reserved)
    visit.notes.check("less free money", holds=after.get("free", 0) <= before.get("free", 0) - PRICE, came=str(after))
