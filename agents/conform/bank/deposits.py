"""§12: deposits, and the verdict on each payment."""

from collections.abc import Callable
from typing import Any

import msgspec

from protocol.answer import open_secret
from protocol.errors import PeerError
from protocol.messages import DepositAnswer, DepositRequest, Exhibits, PaymentInfo
from protocol.refusals import Refusal

from ..case import Skipped, Suite
from ..voice import HOUR_MS, Voice
from .visit import Payment, Purse, Visit, code_of, faulty

suite = Suite[Visit]("bank")


async def _judged(visit: Visit, code: str, request: DepositRequest, what: str) -> None:
    """Deposit, and check what the verdict says."""
    verdict, _ = await visit.verdict(request, what)
    visit.notes.same("the verdict's refusal", str(code), verdict.refusal)


async def _unjudged(visit: Visit, code: Refusal, request: DepositRequest, what: str, by: Voice | None = None) -> None:
    """Deposit, and check the refusal without a verdict."""
    await (by or visit.merchant).refused(code, visit.receiver, "deposit", request, what=what)


@suite.case(
    "deposit.credit", "12.3", "An accepted payment is credited less the commission; the verdict names it in each field."
)
async def _credit(visit: Visit) -> None:
    await visit.merchant_account()
    before = await visit.balance(visit.merchant)
    payment = await visit.payment(await visit.purse(3))
    amount = payment.info.amount
    charge = visit.keyset.tariff.deposit.charge(amount)
    body = await visit.merchant.granted(visit.receiver, "deposit", payment.request, what="three coins")
    answer = DepositAnswer.decode(body)
    verdict = visit.read_verdict(answer.verdict, payment.info)
    visit.notes.same("the verdict's refusal and evidence", ("", b""), (verdict.refusal, verdict.evidence))
    visit.notes.same("commission", charge, answer.commission)
    visit.notes.same("balance", before + amount - charge, await visit.balance(visit.merchant))


@suite.case("deposit.twice", "7.2", "The same bytes again have the same answer, and the merchant is credited once.")
async def _twice(visit: Visit) -> None:
    payment = await visit.payment(await visit.purse(1))
    visit.notes.tell("deposit: the same bytes, twice")
    asking = visit.merchant.write(visit.receiver, "deposit", payment.request)
    first = await visit.merchant.send(asking)
    visit.merchant.accepted("deposit", asking.open(first))
    after = await visit.balance(visit.merchant)
    visit.notes.same("the same answer, byte for byte:", first, await visit.merchant.send(asking))
    visit.notes.same("balance", after, await visit.balance(visit.merchant))


@suite.case("deposit.again", "12.2", "A payment that has its verdict keeps it, byte for byte, in another request.")
async def _again(visit: Visit) -> None:
    payment = await visit.paid()
    after = await visit.balance(visit.merchant)
    _, signed = await visit.verdict(payment.request, "the same payment in another request")
    visit.notes.same("the same verdict:", payment.verdict, signed)
    visit.notes.same("balance", after, await visit.balance(visit.merchant))


@suite.case("deposit.refused-again", "12.3", "A refusing verdict is final, too: the payment keeps it.")
async def _refused_again(visit: Visit) -> None:
    payment = await visit.payment(await visit.purse(1), amount=await visit.unit() + 1)
    _, first = await visit.verdict(payment.request, "an amount that is not the coins'")
    _, second = await visit.verdict(payment.request, "the same in another request")
    visit.notes.same("the same verdict:", first, second)


@suite.case("deposit.id", "7.2", "Another request under the same id is `request_id_reused`.")
async def _id(visit: Visit) -> None:
    payment, request_id = await visit.payment(await visit.purse(1)), visit.merchant.new_id()
    await visit.merchant.granted(visit.receiver, "deposit", payment.request, request_id=request_id)
    await visit.merchant.refused(
        Refusal.REQUEST_ID_REUSED, visit.receiver, "deposit", payment.request, request_id=request_id, what="once more"
    )


@suite.case("deposit.anonymous", "12.2", "An anonymous letter is `bad_signature`, before `malformed`.")
async def _anonymous(visit: Visit) -> None:
    await visit.stranger.refused(Refusal.BAD_SIGNATURE, visit.receiver, "deposit", b"\xc0", what="nil, anonymous")


@suite.case("deposit.malformed", "12.2", "A request that is none is `malformed`, before `unknown_account`.")
async def _malformed(visit: Visit) -> None:
    await visit.passer_by().refused(Refusal.MALFORMED, visit.receiver, "deposit", b"\xc0", what="nil")
    await visit.merchant_account()
    await visit.merchant.refused(
        Refusal.MALFORMED, visit.receiver, "deposit", b"\x92\xc4\x00\xc0", what="nil for bytes"
    )


@suite.case(
    "deposit.stranger", "12.2", "A key without an account is `unknown_account`, before the payment information is read."
)
async def _stranger(visit: Visit) -> None:
    await _unjudged(visit, Refusal.UNKNOWN_ACCOUNT, DepositRequest(b"\xc0", b""), "rubbish", visit.passer_by())


@suite.case("deposit.information", "12.2", "Payment information that is none is `malformed`, without a verdict.")
async def _information(visit: Visit) -> None:
    await visit.merchant_account()
    await _unjudged(visit, Refusal.MALFORMED, DepositRequest(b"\xc0", b""), "nil for payment information")


@suite.case("deposit.order", "12.2", "`wrong_bank` comes before `wrong_currency`, and that before `wrong_merchant`.")
async def _order(visit: Visit) -> None:
    payment = await visit.payment(await visit.forged())
    altered: dict[str, Any] = {}
    for field, value, code in (
        ("payer_function", "sha-1", Refusal.MALFORMED),
        ("account", payment.info.account + 1000, Refusal.WRONG_MERCHANT),
        ("currency", "XTS", Refusal.WRONG_CURRENCY),
        ("bank", "no-such-bank", Refusal.WRONG_BANK),
    ):
        altered[field] = value
        info = msgspec.structs.replace(payment.info, **altered)
        await _unjudged(visit, code, DepositRequest(info.encode(), b""), f"wrong {', '.join(altered)}")


@suite.case("deposit.client", "12.2", "A client's account takes no deposit: `wrong_merchant`.")
async def _client(visit: Visit) -> None:
    account = await visit.client_account()
    payment = await visit.payment(await visit.forged(), account=account.account)
    await _unjudged(visit, Refusal.WRONG_MERCHANT, payment.request, "for a client's own account", visit.client)


_ALTERED: dict[str, Callable[[PaymentInfo], Any]] = {
    "amount": lambda info: info.amount + 1,
    "timestamp": lambda info: info.timestamp + 1,
    "order_digest": lambda info: bytes(32),
    "payer_digest": lambda info: bytes(32),
    "payment_id": lambda info: bytes(16),
    "parcel": lambda info: bytes(32),
    "deposit_before": lambda info: info.deposit_before + 1,
}


@suite.case(
    "deposit.altered", "12.2", "A merchant that alters any field of the payment information gets `payment_altered`."
)
async def _altered(visit: Visit) -> None:
    payment = await visit.payment(await visit.purse(1))
    for field, change in _ALTERED.items():
        info = msgspec.structs.replace(payment.info, **{field: change(payment.info)})
        await _judged(visit, Refusal.PAYMENT_ALTERED, DepositRequest(info.encode(), payment.request.parcel), f"{field}")
    await _judged(visit, "", payment.request, "and the payment as it was agreed on")


@suite.case("deposit.functions", "12.2", "A hash function off the list, or a digest of another size, is `malformed`.")
async def _functions(visit: Visit) -> None:
    payment = await visit.payment(await visit.forged())
    for changes in (
        {"order_function": "sha-1"},
        {"payer_function": "sha-384"},
        {"payer_function": "sha-256", "payer_digest": bytes(33)},
    ):
        info = msgspec.structs.replace(payment.info, **changes)
        await _unjudged(visit, Refusal.MALFORMED, DepositRequest(info.encode(), b""), f"{changes}")


@suite.case("deposit.hashes", "3.9", "Each of the four functions serves for the payer's digest.")
async def _hashes(visit: Visit) -> None:
    for function, size in (("sha-384", 48), ("sha-512", 64), ("sha3-256", 32)):
        changes = {"payer_function": function, "payer_digest": visit.entropy.bytes(size)}
        payment = await visit.payment(await visit.purse(1), **changes)
        await _judged(visit, "", payment.request, function)


@suite.case(
    "deposit.late", "12.2", "From deposit-before on a payment is `payment_expired`, whatever else is wrong with it."
)
async def _late(visit: Visit) -> None:
    past = visit.clock.now() - 60_000
    good = await visit.payment(await visit.forged(), deposit_before=past)
    await _judged(visit, Refusal.PAYMENT_EXPIRED, DepositRequest(good.info.encode(), b"rubbish"), "late rubbish")


@suite.case(
    "deposit.parcel",
    "12.2",
    "A parcel that does not open is `bad_parcel`, and one for another payment `payment_altered`.",
)
async def _parcel(visit: Visit) -> None:
    for what, parcel in {"nothing": b"", "two bytes": b"\1\2", "zeros": bytes(2000)}.items():
        payment = await visit.payment(await visit.forged())
        await _judged(visit, Refusal.BAD_PARCEL, DepositRequest(payment.info.encode(), parcel), what)
    one, other = await visit.payment(await visit.forged()), await visit.payment(await visit.forged())
    swapped = DepositRequest(one.info.encode(), other.request.parcel)
    await _judged(visit, Refusal.PAYMENT_ALTERED, swapped, "the parcel of another payment")


@suite.case(
    "deposit.substitute",
    "12.2",
    "The commitment is compared first: other coins, under another key, are `payment_altered`.",
)
async def _substitute(visit: Visit) -> None:
    spent, payment = await visit.paid(), await visit.payment(await visit.purse(1))
    digest, key = payment.info.digest, visit.entropy.bytes(32)
    parcel = visit.sealed_parcel(digest, key, spent.purse.spent_on(digest))
    await _judged(visit, Refusal.PAYMENT_ALTERED, DepositRequest(payment.info.encode(), parcel), "coins put in place")
    other = await visit.payment(payment.purse)
    await _judged(visit, "", other.request, "the payer's own coins, in another payment")


@suite.case(
    "deposit.unknown-key", "12.2", "A coin of an unknown key is `unknown_denomination`, before `duplicate_coin`."
)
async def _unknown_key(visit: Visit) -> None:
    (coin,), seeds = await visit.forged()
    purse = Purse((msgspec.structs.replace(coin, denomination=faulty()),), seeds)
    payment = await visit.payment(purse + purse)
    await _judged(visit, Refusal.UNKNOWN_DENOMINATION, payment.request, "one coin of an unknown key, twice")


@suite.case("deposit.revoked", "5.2", "Coins of a revoked key are `key_revoked`.")
async def _revoked(visit: Visit) -> None:
    await _of(visit, [key for key in visit.ring.revoked if key in visit.ring.ids], Refusal.KEY_REVOKED, "revoked")


@suite.case("deposit.closed", "5.2", "From spend-until on coins are `denomination_closed`.")
async def _closed(visit: Visit) -> None:
    past = visit.clock.now() - 60_000
    ids = [key for key, one in visit.ring.items() if one.spend_until < past and key not in visit.ring.revoked]
    await _of(visit, ids, Refusal.DENOMINATION_CLOSED, "past its spend-until")


async def _of(visit: Visit, chosen: list[bytes], code: Refusal, lacks: str) -> None:
    if not chosen:
        raise Skipped(f"no key of this bank is {lacks}")
    (coin,), seeds = await visit.forged()
    payment = await visit.payment(Purse((msgspec.structs.replace(coin, denomination=chosen[0]),), seeds))
    await _judged(visit, code, payment.request, f"a coin of a key that is {lacks}")


@suite.case("deposit.doubled", "12.2", "One coin twice in a parcel is `duplicate_coin`, before `amount_mismatch`.")
async def _doubled(visit: Visit) -> None:
    purse = await visit.purse(1)
    payment = await visit.payment(purse + purse, amount=await visit.unit())
    await _judged(visit, Refusal.DUPLICATE_COIN, payment.request, "one coin twice, for the amount of one")


@suite.case("deposit.amount", "12.2", "Coins that are not worth the amount are `amount_mismatch`, before `bad_coin`.")
async def _amount(visit: Visit) -> None:
    unit = await visit.unit()
    for amount in (unit + 1, max(unit - 1, 1) if unit > 1 else unit + 2):
        payment = await visit.payment(await visit.forged(), amount=amount)
        await _judged(visit, Refusal.AMOUNT_MISMATCH, payment.request, f"a forged coin worth {unit} for {amount}")


@suite.case("deposit.forged", "12.2", "What the key did not sign is `bad_coin`, before `bad_spend_signature`.")
async def _forged(visit: Visit) -> None:
    forged = await visit.forged()
    await _judged(visit, Refusal.BAD_COIN, (await _unspent(visit, forged)).request, "a forged coin, not spent")
    for signature in (bytes(256), b"\xff" * 256):
        purse = Purse((msgspec.structs.replace(forged.coins[0], signature=signature),), forged.seeds)
        await _judged(visit, Refusal.BAD_COIN, (await visit.payment(purse)).request, f"signed {signature[:1].hex()}…")


async def _unspent(visit: Visit, purse: Purse) -> Payment:
    """Return a payment whose coins were signed for another one."""
    key = visit.entropy.bytes(32)
    info = await visit.info(purse, key)
    parcel = visit.sealed_parcel(info.digest, key, purse.spent_on(bytes(32)))
    return Payment(info, purse, key, DepositRequest(info.encode(), parcel))


@suite.case("deposit.other-key", "3.8", "A coin of one key, shown as one of another, is `bad_coin`.")
async def _other_key(visit: Visit) -> None:
    purse, ids = await visit.purse(1), await visit.values()
    others = [key for key in ids.values() if key != purse.coins[0].denomination]
    if not others:
        raise Skipped("this bank has coins of one value only")
    dear = Purse((msgspec.structs.replace(purse.coins[0], denomination=others[-1]),), purse.seeds)
    await _judged(visit, Refusal.BAD_COIN, (await visit.payment(dear)).request, "a small coin as a larger one")
    await _judged(visit, "", (await visit.payment(purse)).request, "and as what it is")


@suite.case("deposit.unsigned", "12.2", "A coin that was signed for another payment is `bad_spend_signature`.")
async def _unsigned(visit: Visit) -> None:
    purse = await visit.purse(1)
    await _judged(visit, Refusal.BAD_SPEND_SIGNATURE, (await _unspent(visit, purse)).request, "spent on another digest")
    await _judged(visit, "", (await visit.payment(purse)).request, "and a payment that it was signed for")


@suite.case(
    "deposit.spent", "12.3", "A coin that was spent is `already_spent`, with evidence that the payer alone can open."
)
async def _spent(visit: Visit) -> None:
    first, fresh = await visit.paid(), await visit.purse(1)
    before = await visit.balance(visit.merchant)
    second = await visit.payment(first.purse + fresh)
    verdict, _ = await visit.verdict(second.request, "a spent coin, and a fresh one")
    visit.notes.same("the verdict's refusal", Refusal.ALREADY_SPENT.value, verdict.refusal)
    try:
        exhibits = Exhibits.decode(open_secret(second.evidence_key, second.info.digest, verdict.evidence)).exhibits
        for one in exhibits:
            one.check()
    except PeerError as error:
        visit.notes.fail("evidence that opens under the evidence key, and verifies", code_of(error))
    shown = [(one.denomination, one.serial, one.digest) for one in exhibits]
    coin = first.purse.coins[0]
    visit.notes.same("exhibits of", [(coin.denomination, coin.serial, first.info.digest)], shown)
    visit.notes.same("balance", before, await visit.balance(visit.merchant))
    await _judged(visit, "", (await visit.payment(fresh)).request, "the fresh coin alone")


@suite.case("deposit.sale-paid", "12.2", "A second payment for one payment id is `already_paid`; its coins stay good.")
async def _sale_paid(visit: Visit) -> None:
    first, purse = await visit.paid(), await visit.purse(1)
    second = await visit.payment(purse, payment_id=first.info.payment_id)
    await _judged(visit, Refusal.ALREADY_PAID, second.request, "another payment of the same id")
    await _judged(visit, "", (await visit.payment(purse)).request, "the same coins, for another id")


@suite.case("deposit.no-deadline", "7.4", "The letter's own deadline is not looked at: `deposit_before` decides.")
async def _no_deadline(visit: Visit) -> None:
    payment = await visit.payment(await visit.purse(1), deposit_before=visit.clock.now() + HOUR_MS)
    body = await visit.merchant.granted(visit.receiver, "deposit", payment.request, deadline=1, what="deadline 1")
    verdict = visit.read_verdict(DepositAnswer.decode(body).verdict, payment.info)
    visit.notes.same("the verdict's refusal", "", verdict.refusal)
