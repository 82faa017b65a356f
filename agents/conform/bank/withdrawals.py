"""§9: withdrawals, granted and refused."""

import msgspec

from protocol.messages import WithdrawAnswer, WithdrawRequest
from protocol.refusals import Refusal

from ..case import Skipped, Suite
from .visit import Visit, faulty

suite = Suite[Visit]("bank")

_N_BYTES = 256


async def _good(visit: Visit, request_id: bytes, count: int = 1) -> WithdrawRequest:
    return await visit.ordered(*[await visit.unit()] * count, request_id=request_id)


async def _refused(
    visit: Visit, code: Refusal, request: WithdrawRequest, request_id: bytes, what: str, deadline: int = 0
) -> None:
    await visit.client.refused(
        code, visit.receiver, "withdraw", request, what=what, request_id=request_id, deadline=deadline
    )


def _with(request: WithdrawRequest, index: int, **changes: bytes) -> WithdrawRequest:
    coins = list(request.coins)
    coins[index] = msgspec.structs.replace(coins[index], **changes)
    return msgspec.structs.replace(request, coins=tuple(coins))


@suite.case("withdraw.coins", "9.3", "A withdrawal has as many signatures as coins, in order, each of which verifies.")
async def _coins(visit: Visit) -> None:
    await visit.client_account()
    values = sorted(await visit.values())[:2]
    purse = await visit.withdraw(*values, values[0])
    visit.notes.same("coins:", len(values) + 1, len(purse.coins))


@suite.case("withdraw.debit", "4.2", "The account is debited by amount and commission, and by nothing else.")
async def _debit(visit: Visit) -> None:
    await visit.client_account()
    before, unit = await visit.balance(visit.client), await visit.unit()
    await visit.withdraw(unit, unit, unit)
    charge = visit.keyset.tariff.withdrawal.charge(3 * unit)
    visit.notes.same("balance", before - 3 * unit - charge, await visit.balance(visit.client))


@suite.case("withdraw.twice", "7.2", "The same bytes again have the same answer, and the account is debited once.")
async def _twice(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = await _good(visit, request_id)
    visit.notes.tell("withdraw: the same bytes, twice")
    asking = visit.client.write(visit.receiver, "withdraw", request, request_id=request_id)
    first = await visit.client.send(asking)
    visit.client.accepted("withdraw", asking.open(first))
    after = await visit.balance(visit.client)
    visit.notes.same("the same answer, byte for byte:", first, await visit.client.send(asking))
    visit.notes.same("balance", after, await visit.balance(visit.client))


@suite.case(
    "withdraw.id", "7.2", "Another request under the same id is `request_id_reused`, whatever else is wrong with it."
)
async def _id(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = await _good(visit, request_id)
    await visit.client.granted(visit.receiver, "withdraw", request, request_id=request_id, what="a good one")
    other = _with(await _good(visit, request_id), 0, denomination=faulty())
    await _refused(visit, Refusal.REQUEST_ID_REUSED, other, request_id, "another under its id, with an unknown key")


@suite.case(
    "withdraw.anonymous", "9.2", "An anonymous letter is `bad_signature`, though its body is malformed as well."
)
async def _anonymous(visit: Visit) -> None:
    await visit.client_account()
    await visit.stranger.refused(Refusal.BAD_SIGNATURE, visit.receiver, "withdraw", b"\xc0", what="nil, anonymous")


@suite.case(
    "withdraw.malformed", "9.2", "`malformed`: no coin, a coin of a wrong length, rubbish; before `unknown_account`."
)
async def _malformed(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = await _good(visit, request_id)
    passer = visit.passer_by()
    encoded = msgspec.msgpack.encode
    coin = [request.coins[0].denomination, request.coins[0].blinded]
    bodies = {
        "nil": b"\xc0",
        "no coin": encoded([request.generation, request.commission, [], []]),
        "a blinded value of 255 bytes": encoded([request.generation, request.commission, [[coin[0], coin[1][1:]]], []]),
        "a blinded value of 257 bytes": encoded(
            [request.generation, request.commission, [[coin[0], coin[1] + b"0"]], []]
        ),
        "a denomination of 31 bytes": encoded([request.generation, request.commission, [[coin[0][1:], coin[1]]], []]),
        "33 settled withdrawals": encoded([request.generation, request.commission, [coin], [bytes(16)] * 33]),
    }
    for what, body in bodies.items():
        await visit.client.refused(Refusal.MALFORMED, visit.receiver, "withdraw", body, what=what)
    await passer.refused(Refusal.MALFORMED, visit.receiver, "withdraw", bodies["no coin"], what="of an unknown key")


@suite.case("withdraw.many", "9.2", "More than `max_coins` coins are `malformed`.")
async def _many(visit: Visit) -> None:
    limit = visit.keyset.limits.max_coins
    request_id = visit.client.new_id()
    request = await _good(visit, request_id)
    coin = [request.coins[0].denomination, request.coins[0].blinded]
    body = msgspec.msgpack.encode([request.generation, request.commission, [coin] * (limit + 1), []])
    await visit.client.refused(Refusal.MALFORMED, visit.receiver, "withdraw", body, what=f"{limit + 1} coins")


@suite.case("withdraw.stranger", "9.2", "A key without an account is `unknown_account`, before `superseded`.")
async def _stranger(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = msgspec.structs.replace(await _good(visit, request_id), generation=77)
    await visit.passer_by().refused(Refusal.UNKNOWN_ACCOUNT, visit.receiver, "withdraw", request)


@suite.case("withdraw.superseded", "9.2", "Another generation is `superseded`, before any coin is looked at.")
async def _superseded(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = _with(await _good(visit, request_id), 0, denomination=faulty())
    request = msgspec.structs.replace(request, generation=visit.generation + 1)
    await _refused(visit, Refusal.SUPERSEDED, request, request_id, "of the next generation, for an unknown key")


@suite.case(
    "withdraw.unknown-key",
    "9.2",
    "A key that is none of the bank's is `unknown_denomination`, before `bad_blinded_value`.",
)
async def _unknown_key(visit: Visit) -> None:
    request_id = visit.client.new_id()
    good = await _good(visit, request_id, 2)
    request = _with(good, 1, denomination=faulty())
    await _refused(visit, Refusal.UNKNOWN_DENOMINATION, request, request_id, "the second coin of an unknown key")
    request = _with(_with(good, 0, blinded=bytes(_N_BYTES)), 1, denomination=faulty())
    again = visit.client.new_id()
    await _refused(visit, Refusal.UNKNOWN_DENOMINATION, request, again, "and the first coin's value is 0")


async def _of(visit: Visit, chosen: list[bytes], code: Refusal, lacks: str) -> None:
    if not chosen:
        raise Skipped(lacks)
    request_id = visit.client.new_id()
    request = _with(await _good(visit, request_id), 0, denomination=chosen[0])
    await _refused(visit, code, request, request_id, f"of denomination {chosen[0].hex()[:16]}")


@suite.case("withdraw.closed", "5.2", "A key that is not minted now is `denomination_closed`.")
async def _closed(visit: Visit) -> None:
    now = visit.clock.now()
    ids = [
        key
        for key, one in visit.ring.items()
        if key not in visit.ring.revoked and not one.mint_from - 60_000 <= now < one.mint_until + 60_000
    ]
    await _of(visit, ids, Refusal.DENOMINATION_CLOSED, "all keys of this bank are minted now")


@suite.case("withdraw.revoked", "26.3", "A revoked key signs nothing: `key_revoked`, before `denomination_closed`.")
async def _revoked(visit: Visit) -> None:
    ids = [key for key in visit.ring.revoked if key in visit.ring.ids]
    await _of(visit, ids, Refusal.KEY_REVOKED, "this bank has revoked no key")


@suite.case("withdraw.currency", "9.2", "A key of another currency than the account's is `wrong_currency`.")
async def _currency(visit: Visit) -> None:
    currency, now = (await visit.client_account()).currency, visit.clock.now()
    ids = [key for key, one in visit.ring.items() if one.currency != currency and one.mint_from <= now < one.mint_until]
    await _of(visit, ids, Refusal.WRONG_CURRENCY, "this bank has keys of one currency only")


@suite.case(
    "withdraw.hostile", "3.7", "0, 1, n − 1, n, and what is more, is `bad_blinded_value`, before `commission_changed`."
)
async def _hostile(visit: Visit) -> None:
    unit = await visit.unit()
    n = visit.ring.key((await visit.values())[unit]).n
    for what, value in {
        "0": 0,
        "1": 1,
        "n - 1": n - 1,
        "n": n,
        "n + 1": n + 1,
        "2^2048 - 1": 2**2048 - 1,
    }.items():
        request_id = visit.client.new_id()
        good = await visit.ordered(unit, unit, request_id=request_id)
        request = _with(good, 1, blinded=value.to_bytes(_N_BYTES))
        request = msgspec.structs.replace(request, commission=request.commission + 1)
        await _refused(visit, Refusal.BAD_BLINDED_VALUE, request, request_id, f"{what}, and a wrong commission")


@suite.case(
    "withdraw.doubled", "9.2", "A value that stands twice is `blinded_value_reused`, before `commission_changed`."
)
async def _doubled(visit: Visit) -> None:
    request_id = visit.client.new_id()
    good = await _good(visit, request_id, 2)
    request = _with(good, 1, blinded=good.coins[0].blinded)
    request = msgspec.structs.replace(request, commission=request.commission + 1)
    await _refused(visit, Refusal.BLINDED_VALUE_REUSED, request, request_id, "one value twice, and a wrong commission")


@suite.case("withdraw.commission", "9.2", "Another commission is `commission_changed`, before `insufficient_funds`.")
async def _commission(visit: Visit) -> None:
    for step in (1, -1):
        request_id = visit.client.new_id()
        good = await _dear(visit, request_id)
        commission = good.commission + step
        if commission >= 0:
            request = msgspec.structs.replace(good, commission=commission)
            what = f"a commission of {commission}, for more than there is"
            await _refused(visit, Refusal.COMMISSION_CHANGED, request, request_id, what)


async def _dear(visit: Visit, request_id: bytes) -> WithdrawRequest:
    """Return a request for more than the account holds."""
    await visit.client_account()
    balance, largest = await visit.balance(visit.client), max(await visit.values())
    count = balance // largest + 1
    if count > visit.keyset.limits.max_coins:
        raise Skipped("the client's account holds more than one withdrawal can ask for")
    return await visit.ordered(*[largest] * count, request_id=request_id)


@suite.case("withdraw.funds", "9.2", "What the account does not hold is `insufficient_funds`, and stays so.")
async def _funds(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = await _dear(visit, request_id)
    visit.notes.tell(f"withdraw: {len(request.coins)} of the dearest coins, twice")
    asking = visit.client.write(visit.receiver, "withdraw", request, request_id=request_id)
    first = await visit.client.send(asking)
    visit.notes.same("the refusal", Refusal.INSUFFICIENT_FUNDS.value, asking.open(first).refusal)
    visit.notes.same("the same answer, byte for byte:", first, await visit.client.send(asking))


@suite.case(
    "withdraw.late", "9.2", "In the books `request_expired` comes before `blinded_value_reused`; nothing is debited."
)
async def _late(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = await _good(visit, request_id)
    await visit.client.granted(visit.receiver, "withdraw", request, request_id=request_id, what="a good one")
    before, late = await visit.balance(visit.client), visit.client.new_id()
    what = "the same values, but a deadline in the past"
    await _refused(visit, Refusal.REQUEST_EXPIRED, request, late, what, deadline=visit.clock.now() - 60_000)
    visit.notes.same("balance", before, await visit.balance(visit.client))


@suite.case("withdraw.reused", "9.2", "A value that was ever signed under the key is `blinded_value_reused`.")
async def _reused(visit: Visit) -> None:
    request_id = visit.client.new_id()
    request = await _good(visit, request_id)
    await visit.client.granted(visit.receiver, "withdraw", request, request_id=request_id, what="a good one")
    again = visit.client.new_id()
    await _refused(visit, Refusal.BLINDED_VALUE_REUSED, request, again, "the same values in another request")


@suite.case("withdraw.named", "9.2", "The answer names amount, commission, and the denomination of each signature.")
async def _named(visit: Visit) -> None:
    request_id = visit.client.new_id()
    await visit.client_account()
    values = sorted(await visit.values())[:3]
    request = await visit.ordered(*values, request_id=request_id)
    body = await visit.client.granted(visit.receiver, "withdraw", request, request_id=request_id, what="three coins")
    answer = WithdrawAnswer.decode(body)
    visit.notes.same("amount and commission", (sum(values), request.commission), (answer.amount, answer.commission))
    wanted = [coin.denomination for coin in request.coins]
    visit.notes.same("denominations as asked", wanted, [coin.denomination for coin in answer.coins])


@suite.case("withdraw.settled", "9.2", "Withdrawals may be named as settled, also such as never were.")
async def _settled(visit: Visit) -> None:
    request_id = visit.client.new_id()
    good = await _good(visit, request_id)
    request = msgspec.structs.replace(good, settled=(visit.entropy.bytes(16), visit.entropy.bytes(16)))
    body = await visit.client.granted(visit.receiver, "withdraw", request, request_id=request_id, what="two settled")
    visit.notes.same("signatures:", 1, len(WithdrawAnswer.decode(body).coins))
