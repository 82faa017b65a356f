"""§21: withdrawals and answers once more, spendings asked in the dark, and redemption."""

from typing import NamedTuple

import msgspec

from protocol.envelope import request_hash
from protocol.errors import PeerError
from protocol.messages import Exhibits
from protocol.recovery import (
    CheckAnswer,
    CheckRequest,
    FetchAnswer,
    FetchRequest,
    RecoverAnswer,
    RecoverRequest,
    RedeemAnswer,
    RedeemRequest,
    find_spending,
    redeem_digest,
)
from protocol.refusals import Refusal

from ..case import Skipped, Suite
from ..voice import Voice
from .visit import Purse, Visit, code_of, faulty

suite = Suite[Visit]("bank")

_LONGEST = 16


@suite.case("recover.pages", "21.1", "The answers to withdrawals come again as they were given, the oldest first.")
async def _pages(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = await visit.ordered(await visit.unit(), request_id=request_id)
    asking = visit.client.write(visit.receiver, "withdraw", request, request_id=request_id)
    visit.notes.tell("withdraw: a coin")
    sealed = await visit.client.send(asking)
    visit.client.accepted("withdraw", asking.open(sealed))
    start, found, last = 0, {}, b""
    while True:
        body = await visit.client.granted(
            visit.receiver, "recover", RecoverRequest(visit.generation, start), what=f"from number {start}"
        )
        page = RecoverAnswer.decode(body)
        for one in page.withdrawals:
            found[one.request_id], last = one, one.request_id
        if page.next == 0:
            break
        visit.notes.check("`next` that grows", holds=page.next > start, came=str(page.next))
        start = page.next
    visit.notes.same("the newest last:", request_id, last)
    visit.notes.same("total of withdrawals", len(found), page.total)
    visit.notes.same("request hash:", request_hash(asking.envelope), found[request_id].request_hash)
    visit.notes.same("the answer as it was given:", sealed, found[request_id].answer)


@suite.case("recover.end", "21.1", "A page past the end is empty, with `next` 0.")
async def _end(visit: Visit) -> None:
    await visit.client_account()
    asked = RecoverRequest(visit.generation, 2**31 - 1)
    page = RecoverAnswer.decode(await visit.client.granted(visit.receiver, "recover", asked, what="past the end"))
    visit.notes.same("withdrawals and next", (0, 0), (len(page.withdrawals), page.next))


@suite.case("recover.order", "21.1", "`bad_signature`, then `malformed`, then `unknown_account`, then `superseded`.")
async def _order(visit: Visit) -> None:
    await visit.client_account()
    other = RecoverRequest(visit.generation + 1, 0)
    await visit.stranger.refused(Refusal.BAD_SIGNATURE, visit.receiver, "recover", b"\xc0", what="nil, anonymous")
    await visit.passer_by().refused(Refusal.MALFORMED, visit.receiver, "recover", b"\xc0", what="nil, unknown key")
    await visit.passer_by().refused(Refusal.UNKNOWN_ACCOUNT, visit.receiver, "recover", other, what="unknown key")
    await visit.client.refused(Refusal.SUPERSEDED, visit.receiver, "recover", other, what="another generation")


@suite.case("fetch.found", "21.2", "Who knows an id has the stored answer and its request's hash; else nothing.")
async def _fetch(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = await visit.ordered(await visit.unit(), request_id=request_id)
    asking = visit.client.write(visit.receiver, "withdraw", request, request_id=request_id)
    visit.notes.tell("withdraw: a coin")
    sealed = await visit.client.send(asking)
    for wanted, count in ((request_id, 1), (visit.stranger.new_id(), 0)):
        body = await visit.stranger.granted(visit.receiver, "fetch", FetchRequest(wanted), what=f"{count} to find")
        found = FetchAnswer.decode(body).found
        visit.notes.same("answers found:", count, len(found))
        for one in found:
            wanted_row = (request_id, request_hash(asking.envelope), sealed)
            visit.notes.same("the answer as it was given:", wanted_row, (one.request_id, one.request_hash, one.answer))


@suite.case("fetch.malformed", "21.2", "A question that is none is `malformed`.")
async def _fetch_malformed(visit: Visit) -> None:
    await visit.stranger.refused(
        Refusal.MALFORMED, visit.receiver, "fetch", b"\x91\xc4\x01\x00", what="an id of 1 byte"
    )


@suite.case("check.bucket", "21.3", "A bucket tells all spendings in it, each sealed for who knows the serial number.")
async def _bucket(visit: Visit) -> None:
    payment, fresh = await visit.paid(), await visit.purse(1)
    coin, other = payment.purse.coins[0], fresh.coins[0]
    for prefix in await _prefixes(visit, coin.denomination, coin.serial):
        answer = await _check(visit, coin.denomination, prefix)
        try:
            evidence = find_spending(answer.spendings, coin.denomination, coin.serial)
            unspent = find_spending(answer.spendings, other.denomination, other.serial)
        except PeerError as error:
            visit.notes.fail("spendings that open and verify", code_of(error))
        digest = evidence.digest if evidence else b""
        visit.notes.same("the digest that the coin was spent on:", payment.info.digest, digest)
        visit.notes.same("of the unspent coin", None, unspent)


async def _check(visit: Visit, denomination: bytes, prefix: str) -> CheckAnswer:
    asked = CheckRequest(denomination, prefix)
    body = await visit.stranger.granted(visit.receiver, "check", asked, what=f"prefix {prefix!r}")
    return CheckAnswer.decode(body)


async def _prefixes(visit: Visit, denomination: bytes, serial: bytes) -> list[str]:
    """Return the shortest prefix that is told, and the longest that may be asked."""
    for length in range(_LONGEST + 1):
        answer = await _check(visit, denomination, serial.hex()[:length])
        if answer.complete:
            return [serial.hex()[:length], serial.hex()[:_LONGEST]]
        visit.notes.same("spendings that are told of what is not complete:", 0, len(answer.spendings))
    raise Skipped("too much was spent of this denomination to tell")


@suite.case("check.elsewhere", "21.3", "A bucket holds only what begins so.")
async def _elsewhere(visit: Visit) -> None:
    coin = (await visit.paid()).purse.coins[0]
    digits = coin.serial.hex()[:8]
    beside = f"{int(digits, 16) ^ 1:08x}"
    answer = await _check(visit, coin.denomination, beside)
    found = find_spending(answer.spendings, coin.denomination, coin.serial)
    visit.notes.same("in another bucket", None, found)


@suite.case("check.order", "21.3", "A question that is none is `malformed`; a key that is none `unknown_denomination`.")
async def _check_order(visit: Visit) -> None:
    ids = await visit.values()
    denomination = next(iter(ids.values()))
    for prefix in ("A", "g", "0" * 17):
        body = msgspec.msgpack.encode([denomination, prefix])
        await visit.stranger.refused(Refusal.MALFORMED, visit.receiver, "check", body, what=f"prefix {prefix!r}")
    asked = CheckRequest(faulty(), "")
    await visit.stranger.refused(Refusal.UNKNOWN_DENOMINATION, visit.receiver, "check", asked)


# ---------------------------------------------------------------- redemption


class Redeeming(NamedTuple):
    """A redemption: who asks, its id, and the request."""

    voice: Voice
    request_id: bytes
    request: RedeemRequest


async def _redeeming(
    visit: Visit, purse: Purse, voice: Voice | None = None, *, digest: bytes = b"", extra: int = 0, generation: int = -1
) -> Redeeming:
    """Return a redemption of these coins by the client, or another: true, but for what is given."""
    voice = voice or visit.client
    request_id = voice.new_id()
    on = digest or redeem_digest(visit.keyset.bank, request_id, voice.key)
    commission = visit.keyset.tariff.redemption.charge(visit.worth(purse)) + extra
    current = visit.generation if voice is visit.client else (await visit.merchant_account()).generation
    number = current if generation < 0 else generation
    return Redeeming(voice, request_id, RedeemRequest(number, commission, purse.spent_on(on)))


async def _refused(visit: Visit, code: Refusal, one: Redeeming, what: str, deadline: int = 0) -> None:
    """Check the refusal, and that it is stored."""
    visit.notes.tell(f"redeem: {what}, twice")
    asking = one.voice.write(visit.receiver, "redeem", one.request, request_id=one.request_id, deadline=deadline)
    first = await one.voice.send(asking)
    answer = asking.open(first)
    visit.notes.same("the refusal", code.value, answer.refusal)
    visit.notes.same("the same answer, byte for byte:", first, await one.voice.send(asking))


@suite.case("redeem.credit", "21.4", "Coins are credited less the commission, once; they are spent then.")
async def _credit(visit: Visit) -> None:
    purse = await visit.purse(2)
    before, worth = await visit.balance(visit.client), visit.worth(purse)
    one = await _redeeming(visit, purse)
    visit.notes.tell("redeem: two coins, twice")
    asking = visit.client.write(visit.receiver, "redeem", one.request, request_id=one.request_id)
    first = await visit.client.send(asking)
    told = RedeemAnswer.decode(visit.client.accepted("redeem", asking.open(first)))
    charge = visit.keyset.tariff.redemption.charge(worth)
    visit.notes.same("amount and commission", (worth, charge), (told.amount, told.commission))
    visit.notes.same("the same answer, byte for byte:", first, await visit.client.send(asking))
    visit.notes.same("balance", before + worth - charge, await visit.balance(visit.client))
    verdict, _ = await visit.verdict((await visit.payment(purse)).request, "the same coins")
    visit.notes.same("the verdict's refusal", Refusal.ALREADY_SPENT.value, verdict.refusal)


@suite.case("redeem.order-1", "21.4", "`bad_signature`, `malformed`, `unknown_account`, `superseded`, in this order.")
async def _redeem_order(visit: Visit) -> None:
    await visit.client_account()
    await visit.stranger.refused(Refusal.BAD_SIGNATURE, visit.receiver, "redeem", b"\xc0", what="nil, anonymous")
    await visit.passer_by().refused(Refusal.MALFORMED, visit.receiver, "redeem", b"\xc0", what="nil, unknown key")
    forged = await visit.forged()
    one = await _redeeming(visit, forged + forged, generation=visit.generation + 1)
    await visit.passer_by().refused(Refusal.UNKNOWN_ACCOUNT, visit.receiver, "redeem", one.request, what="unknown key")
    await _refused(visit, Refusal.SUPERSEDED, one, "of another generation, one forged coin twice")


@suite.case(
    "redeem.order-2",
    "21.4",
    "Then the coins: `duplicate_coin`, `bad_coin`, `bad_spend_signature`, `commission_changed`.",
)
async def _redeem_coins(visit: Visit) -> None:
    forged, purse = await visit.forged(), await visit.purse(1)
    (coin,), seeds = forged
    unknown = Purse((msgspec.structs.replace(coin, denomination=faulty()),), seeds)
    digest = bytes(32)
    request = RedeemRequest(visit.generation, 0, (unknown + unknown).spent_on(digest))
    strange = Redeeming(visit.client, visit.client.new_id(), request)
    await _refused(visit, Refusal.UNKNOWN_DENOMINATION, strange, "one of an unknown key, twice")
    await _refused(visit, Refusal.DUPLICATE_COIN, await _redeeming(visit, forged + forged), "one forged coin, twice")
    await _refused(
        visit, Refusal.BAD_COIN, await _redeeming(visit, forged, digest=digest), "forged, and not spent on it"
    )
    unsigned = await _redeeming(visit, purse, digest=digest, extra=1)
    await _refused(visit, Refusal.BAD_SPEND_SIGNATURE, unsigned, "not spent on it, and a wrong commission")
    dear = await _redeeming(visit, purse, extra=1)
    past = visit.clock.now() - 60_000
    await _refused(visit, Refusal.COMMISSION_CHANGED, dear, "a wrong commission, and late", past)


@suite.case("redeem.digest", "21.4", "A coin is redeemed into the account that its key has signed for, and no other.")
async def _digest(visit: Visit) -> None:
    purse = await visit.purse(1)
    account = await visit.merchant_account()
    mine = await _redeeming(visit, purse)
    number = account.generation
    theirs = msgspec.structs.replace(mine.request, generation=number)
    stolen = Redeeming(visit.merchant, mine.request_id, theirs)
    await _refused(visit, Refusal.BAD_SPEND_SIGNATURE, stolen, "another's redemption, under its id")


@suite.case("redeem.late", "21.4", "In the books `request_expired` comes before `already_spent`.")
async def _redeem_late(visit: Visit) -> None:
    spent, past = await visit.paid(), visit.clock.now() - 60_000
    await _refused(visit, Refusal.REQUEST_EXPIRED, await _redeeming(visit, spent.purse), "a spent coin, late", past)


@suite.case("redeem.spent", "7.5", "A spent coin is `already_spent`, with the signature that spent it.")
async def _redeem_spent(visit: Visit) -> None:
    spent, fresh = await visit.paid(), await visit.purse(1)
    one = await _redeeming(visit, spent.purse + fresh)
    answer = await visit.client.refused(
        Refusal.ALREADY_SPENT,
        visit.receiver,
        "redeem",
        one.request,
        request_id=one.request_id,
        what="a spent coin and a fresh one",
    )
    exhibits = Exhibits.decode(answer.body).exhibits
    for exhibit in exhibits:
        exhibit.check()
    shown = [(exhibit.serial, exhibit.digest) for exhibit in exhibits]
    visit.notes.same("exhibits of", [(spent.purse.coins[0].serial, spent.info.digest)], shown)


@suite.case("redeem.capped", "17", "Who never withdrew redeems nothing: `redemption_capped`; the coins stay good.")
async def _capped(visit: Visit) -> None:
    purse = await visit.purse(1)
    one = await _redeeming(visit, purse, visit.merchant)
    await _refused(visit, Refusal.REDEMPTION_CAPPED, one, "by a merchant that never withdrew")
    verdict, _ = await visit.verdict((await visit.payment(purse)).request, "the same coin")
    visit.notes.same("the verdict's refusal", "", verdict.refusal)


@suite.case("redeem.closed", "5.2", "From redeem-until on coins are `denomination_closed`.")
async def _redeem_closed(visit: Visit) -> None:
    past = visit.clock.now() - 60_000
    ids = [key for key, one in visit.ring.items() if one.redeem_until < past]
    if not ids:
        raise Skipped("no key of this bank is past its redeem-until")
    (coin,), seeds = await visit.forged()
    purse = Purse((msgspec.structs.replace(coin, denomination=ids[0]),), seeds)
    await _refused(visit, Refusal.DENOMINATION_CLOSED, await _redeeming(visit, purse), "a coin that is worth nothing")
