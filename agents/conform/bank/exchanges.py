"""§19: coins for coins."""

from typing import NamedTuple

import msgspec

from protocol.exchange import ExchangeRequest, Issue, exchange_digest
from protocol.messages import BlindedCoin, BlindSignature, Exhibits
from protocol.refusals import Refusal
from protocol.wallet.outputs import unblind_outputs

from ..case import Suite
from ..voice import HOUR_MS
from .visit import Purse, Visit, faulty

suite = Suite[Visit]("bank")

DAY_MS = 24 * HOUR_MS


class Swap(NamedTuple):
    """An exchange: its id, what goes in, and the request."""

    request_id: bytes
    purse: Purse
    request: ExchangeRequest


async def _swap(
    visit: Visit,
    purse: Purse,
    *,
    request_id: bytes = b"",
    extra: int = 0,
    outputs: tuple[BlindedCoin, ...] | None = None,
    digest: bytes = b"",
) -> Swap:
    """Return an exchange of these coins: true, but for `extra` commission, other outputs, or another digest signed."""
    request_id = request_id or visit.stranger.new_id()
    worth = visit.worth(purse)
    commission = visit.keyset.tariff.exchange.charge(worth) + extra
    if outputs is None:
        outputs = visit.blind(visit.stranger, request_id, await visit.outputs(worth - commission))
    on = digest or exchange_digest(visit.keyset.bank, request_id, commission, outputs)
    return Swap(request_id, purse, ExchangeRequest(commission, purse.spent_on(on), outputs))


def _altered(swap: Swap, place: int, visit: Visit, **changes: bytes) -> Swap:
    """Return the exchange with one of its outputs changed, and signed as it is then."""
    outputs = list(swap.request.outputs)
    outputs[place] = msgspec.structs.replace(outputs[place], **changes)
    digest = exchange_digest(visit.keyset.bank, swap.request_id, swap.request.commission, outputs)
    request = ExchangeRequest(swap.request.commission, swap.purse.spent_on(digest), tuple(outputs))
    return swap._replace(request=request)


async def _refused(visit: Visit, code: Refusal, swap: Swap, what: str, deadline: int = 0) -> None:
    await visit.stranger.refused(
        code, visit.receiver, "exchange", swap.request, request_id=swap.request_id, what=what, deadline=deadline
    )


async def _lasts(visit: Visit, code: Refusal, swap: Swap, what: str, deadline: int = 0) -> None:
    """Check the refusal, and that it is stored: the same bytes again have the same answer."""
    visit.notes.tell(f"exchange: {what}, twice")
    asking = visit.stranger.write(
        visit.receiver, "exchange", swap.request, request_id=swap.request_id, deadline=deadline
    )
    first = await visit.stranger.send(asking)
    visit.notes.same("the refusal", code.value, asking.open(first).refusal)
    visit.notes.same("the same answer, byte for byte:", first, await visit.stranger.send(asking))
    other = visit.stranger.write(visit.receiver, "exchange", b"\xc0", request_id=swap.request_id)
    told = other.open(await visit.stranger.send(other)).refusal
    visit.notes.same("to another request under its id", Refusal.REQUEST_ID_REUSED.value, told)


async def _good(visit: Visit, swap: Swap, what: str) -> tuple[BlindSignature, ...]:
    body = await visit.stranger.granted(visit.receiver, "exchange", swap.request, request_id=swap.request_id, what=what)
    signatures = Issue.decode(body).coins
    wanted = tuple(coin.denomination for coin in swap.request.outputs)
    _, wrong = unblind_outputs(visit.stranger.root, visit.ring, swap.request_id, wanted, signatures)
    visit.notes.check("signatures that verify, in order (§19.3)", holds=not wrong, came=wrong or f"{len(signatures)}")
    return signatures


@suite.case("exchange.coins", "19.2", "Good coins are exchanged for others, worth as much less the commission.")
async def _coins(visit: Visit) -> None:
    await _good(visit, await _swap(visit, await visit.purse(3)), "three coins")


@suite.case("exchange.twice", "7.2", "The same bytes again have the same answer, byte for byte.")
async def _twice(visit: Visit) -> None:
    swap = await _swap(visit, await visit.purse(1))
    visit.notes.tell("exchange: the same bytes, twice")
    asking = visit.stranger.write(visit.receiver, "exchange", swap.request, request_id=swap.request_id)
    first = await visit.stranger.send(asking)
    visit.stranger.accepted("exchange", asking.open(first))
    visit.notes.same("the same answer, byte for byte:", first, await visit.stranger.send(asking))


@suite.case("exchange.malformed", "19.2", "A request that is none is `malformed`, before any coin is looked at.")
async def _malformed(visit: Visit) -> None:
    await visit.stranger.refused(Refusal.MALFORMED, visit.receiver, "exchange", b"\xc0", what="nil")
    empty = msgspec.msgpack.encode([0, [], []])
    await visit.stranger.refused(Refusal.MALFORMED, visit.receiver, "exchange", empty, what="nothing for nothing")


@suite.case(
    "exchange.unknown-key", "19.2", "Coins of an unknown key are `unknown_denomination`, before `duplicate_coin`."
)
async def _unknown_key(visit: Visit) -> None:
    (coin,), seeds = await visit.forged()
    one = Purse((msgspec.structs.replace(coin, denomination=faulty()),), seeds)
    good = await _swap(visit, await visit.forged())
    digest = exchange_digest(visit.keyset.bank, good.request_id, good.request.commission, good.request.outputs)
    request = msgspec.structs.replace(good.request, coins=(one + one).spent_on(digest))
    await _refused(visit, Refusal.UNKNOWN_DENOMINATION, good._replace(request=request), "one of an unknown key, twice")


@suite.case("exchange.doubled", "19.2", "One coin twice is `duplicate_coin`, before `bad_coin`.")
async def _doubled(visit: Visit) -> None:
    purse = await visit.forged()
    await _refused(visit, Refusal.DUPLICATE_COIN, await _swap(visit, purse + purse), "a forged coin, twice")


@suite.case(
    "exchange.forged",
    "19.2",
    "What the key did not sign is `bad_coin`, before `bad_spend_signature` and all about outputs.",
)
async def _forged(visit: Visit) -> None:
    swap = _altered(await _swap(visit, await visit.forged()), 0, visit, blinded=bytes(256))
    await _refused(visit, Refusal.BAD_COIN, swap, "a forged coin, for the blinded value 0")
    unsigned = await _swap(visit, await visit.forged(), digest=bytes(32))
    await _refused(visit, Refusal.BAD_COIN, unsigned, "a forged coin, spent on something else")


@suite.case("exchange.rubbish", "7.2", "Refusals of forged coins are not stored: the id is free for a good request.")
async def _rubbish(visit: Visit) -> None:
    request_id = visit.stranger.new_id()
    await _refused(visit, Refusal.BAD_COIN, await _swap(visit, await visit.forged(), request_id=request_id), "forged")
    await _good(visit, await _swap(visit, await visit.purse(1), request_id=request_id), "good, under the same id")


@suite.case(
    "exchange.unsigned",
    "19.1",
    "The signature is over bank, id, commission and outputs: for any other it is `bad_spend_signature`.",
)
async def _unsigned(visit: Visit) -> None:
    purse = await visit.purse(1)
    swap = await _swap(visit, purse)
    bank, request = visit.keyset.bank, swap.request
    for what, digest in {
        "another bank": exchange_digest("no-such-bank", swap.request_id, request.commission, request.outputs),
        "another id": exchange_digest(bank, bytes(16), request.commission, request.outputs),
        "another commission": exchange_digest(bank, swap.request_id, request.commission + 1, request.outputs),
        "other outputs": exchange_digest(bank, swap.request_id, request.commission, ()),
    }.items():
        spoilt = swap._replace(request=msgspec.structs.replace(request, coins=purse.spent_on(digest)))
        await _refused(visit, Refusal.BAD_SPEND_SIGNATURE, spoilt, f"signed for {what}")
    await _good(visit, swap, "and signed for this one")


@suite.case(
    "exchange.spent",
    "7.5",
    "A spent coin is `already_spent`, with the signature that spent it, before all about outputs.",
)
async def _spent(visit: Visit) -> None:
    first, fresh = await visit.paid(), await visit.purse(1)
    swap = _altered(await _swap(visit, first.purse + fresh), 0, visit, denomination=faulty())
    answer = await visit.stranger.refused(
        Refusal.ALREADY_SPENT,
        visit.receiver,
        "exchange",
        swap.request,
        request_id=swap.request_id,
        what="a spent coin and a fresh one, for a coin of an unknown key",
    )
    exhibits = Exhibits.decode(answer.body).exhibits
    for one in exhibits:
        one.check()
    shown = [(one.denomination, one.serial, one.digest) for one in exhibits]
    coin = first.purse.coins[0]
    visit.notes.same("exhibits of", [(coin.denomination, coin.serial, first.info.digest)], shown)
    await _good(visit, await _swap(visit, fresh), "the fresh coin alone")


@suite.case(
    "exchange.spends", "21.4", "Spent coins are on one list: what was exchanged is `already_spent` at a deposit."
)
async def _spends(visit: Visit) -> None:
    purse = await visit.purse(1)
    await _good(visit, await _swap(visit, purse), "a coin")
    verdict, _ = await visit.verdict((await visit.payment(purse)).request, "the same coin")
    visit.notes.same("the verdict's refusal", Refusal.ALREADY_SPENT.value, verdict.refusal)


@suite.case(
    "exchange.ahead", "19.2", "A deadline more than 26 hours ahead is `malformed`, lasting, before the outputs."
)
async def _ahead(visit: Visit) -> None:
    purse = await visit.purse(1)
    swap = _altered(await _swap(visit, purse), 0, visit, denomination=faulty())
    deadline = visit.clock.now() + 2 * DAY_MS
    await _lasts(visit, Refusal.MALFORMED, swap, "with a deadline in two days", deadline)
    await _good(visit, await _swap(visit, purse), "the same coin, under another id")


@suite.case("exchange.output-key", "19.2", "Outputs of an unknown key are `unknown_denomination`, lasting.")
async def _output_key(visit: Visit) -> None:
    swap = _altered(await _swap(visit, await visit.purse(1)), 0, visit, denomination=faulty())
    await _lasts(visit, Refusal.UNKNOWN_DENOMINATION, swap, "for a coin of an unknown key")


@suite.case(
    "exchange.output-value", "19.2", "A hostile output is `bad_blinded_value`, lasting, before `amount_mismatch`."
)
async def _output_value(visit: Visit) -> None:
    purse = await visit.purse(2)
    request_id = visit.stranger.new_id()
    few = visit.blind(visit.stranger, request_id, [purse.coins[0].denomination])
    swap = await _swap(visit, purse, request_id=request_id, outputs=few)
    await _lasts(
        visit, Refusal.BAD_BLINDED_VALUE, _altered(swap, 0, visit, blinded=bytes(255) + b"\1"), "for the value 1"
    )


@suite.case("exchange.reused", "19.2", "An output that was ever signed is `blinded_value_reused`, lasting.")
async def _reused(visit: Visit) -> None:
    purse = await visit.purse(2)
    one, other = Purse(purse.coins[:1], purse.seeds[:1]), Purse(purse.coins[1:], purse.seeds[1:])
    first = await _swap(visit, one)
    await _good(visit, first, "a coin")
    await _lasts(visit, Refusal.BLINDED_VALUE_REUSED, await _swap(visit, other, outputs=first.request.outputs), "again")


@suite.case(
    "exchange.amount", "19.2", "Outputs that are not worth the coins less the named commission are `amount_mismatch`."
)
async def _amount(visit: Visit) -> None:
    purse, request_id = await visit.purse(2), visit.stranger.new_id()
    few = visit.blind(visit.stranger, request_id, [purse.coins[0].denomination])
    swap = await _swap(visit, purse, request_id=request_id, outputs=few)
    await _lasts(visit, Refusal.AMOUNT_MISMATCH, swap, "two coins for one")


@suite.case(
    "exchange.commission",
    "19.2",
    "Another commission than the tariff's, that the sums agree with, is `commission_changed`.",
)
async def _commission(visit: Visit) -> None:
    await _lasts(visit, Refusal.COMMISSION_CHANGED, await _swap(visit, await visit.purse(3), extra=1), "one too much")


@suite.case("exchange.late", "19.2", "A request that is late is `request_expired`, lasting; its coins stay good.")
async def _late(visit: Visit) -> None:
    purse = await visit.purse(1)
    past = visit.clock.now() - 60_000
    await _lasts(visit, Refusal.REQUEST_EXPIRED, await _swap(visit, purse), "with a deadline in the past", past)
    await _good(visit, await _swap(visit, purse), "the same coin, in time")
