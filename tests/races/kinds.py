"""The races: what is asked of several workers at one moment, and what their answers must be."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, NamedTuple

from protocol.exchange import TICKET, RefundOrder, Ticket
from protocol.payout import PayoutRequest
from protocol.refusals import Refusal
from protocol.wallet.outputs import blind_outputs
from tests.agents.byhand import Asking, Purse

from .scene import Scene, fresh, part
from .workers import Order

Judge = Callable[[Sequence[bytes]], Iterator[str]]
"""Told the sealed answers, in the order of the requests; yields a sentence for each fault."""


class Prepared(NamedTuple):
    """A race that can begin. `at` tells when each request is handed in, if not at once."""

    askings: Sequence[Asking]
    judge: Judge
    at: Sequence[int] = ()

    @property
    def orders(self) -> list[Order]:
        when = self.at or [0] * len(self.askings)
        return [Order(one.kind, one.envelope, at) for one, at in zip(self.askings, when, strict=True)]


Prepare = Callable[[Scene, int], Awaitable[Prepared]]
"""Prepares a race of so many requests."""
Spend = Callable[[Scene, Purse], Asking]

DEPOSIT: Final[Spend] = Scene.deposit
EXCHANGE: Final[Spend] = Scene.exchange
REDEEM: Final[Spend] = Scene.redeem
_AHEAD_MS: Final = 60
"""How soon after it was prepared a payment's deadline is."""


def expect(scene: Scene, askings: Sequence[Asking], winners: int, refusal: str) -> Judge:
    """So many are accepted, and all others refused so."""

    def judge(answers: Sequence[bytes]) -> Iterator[str]:
        said = Counter(scene.told(*pair).refusal for pair in zip(askings, answers, strict=True))
        if said != Counter({"": winners, refusal: len(askings) - winners}):
            yield f"answers are {dict(said)}, not {winners} acceptances and otherwise {refusal}"

    return judge


def contest(*ways: Spend) -> Prepare:
    """All spend one coin, in these ways by turns: one succeeds, and the others are shown who has spent it."""

    async def prepare(scene: Scene, count: int) -> Prepared:
        purse = await scene.coins(1)
        askings = [ways[i % len(ways)](scene, purse) for i in range(count)]
        return Prepared(askings, _one_spends(scene, askings, purse))

    return prepare


def _one_spends(scene: Scene, askings: Sequence[Asking], purse: Purse) -> Judge:
    only = expect(scene, askings, 1, Refusal.ALREADY_SPENT)

    def judge(answers: Sequence[bytes]) -> Iterator[str]:
        yield from only(answers)
        shown = [told.evidence for pair in zip(askings, answers, strict=True) if (told := scene.told(*pair)).refusal]
        if {(one.denomination, one.serial) for evidence in shown for one in evidence} != {
            (purse.coins[0].denomination, purse.coins[0].serial)
        } or not all(shown):
            yield "a refusal does not show who has spent the coin"
        if len(set(shown)) > 1:
            yield "refusals show different evidence"

    return judge


async def overlap(scene: Scene, count: int) -> Prepared:
    """Lists (A, B, C) and (C, D), spent in any way: one list is spent whole, and nothing of the other."""
    coins = await scene.coins(4)
    lists = (part(coins, 0, 1, 2), part(coins, 2, 3))
    askings = [random.choice((DEPOSIT, EXCHANGE, REDEEM))(scene, lists[i % 2]) for i in range(count)]
    only = expect(scene, askings, 1, Refusal.ALREADY_SPENT)

    def judge(answers: Sequence[bytes]) -> Iterator[str]:
        yield from only(answers)
        won = [i for i, pair in enumerate(zip(askings, answers, strict=True)) if not scene.told(*pair).refusal]
        known = {one.serial for pair in zip(askings, answers, strict=True) for one in scene.told(*pair).evidence}
        whole = {coin.serial for i in won for coin in lists[i % 2].coins}
        if not known <= whole:
            yield "a coin of the list that was refused is spent"

    return Prepared(askings, judge)


async def withdrawals(scene: Scene, count: int) -> Prepared:
    """Withdrawals that together exceed the balance: as many are granted as it pays for."""
    fit = random.randrange(1, count)
    caller, _ = await scene.customer(9 * fit + 8)  # 8 and a commission of 10 %, rounded up
    askings = [scene.withdraw(caller, 8) for _ in range(count)]
    return Prepared(askings, expect(scene, askings, fit, Refusal.INSUFFICIENT_FUNDS))


async def same_id(scene: Scene, count: int) -> Prepared:
    """Different requests under one id: one is done, and the id is another's for all others."""
    caller, _ = await scene.customer(1000)
    request_id = fresh()
    askings = [scene.withdraw(caller, 1 << i % 4, *[1] * (i // 4), request_id=request_id) for i in range(count)]
    return Prepared(askings, expect(scene, askings, 1, Refusal.REQUEST_ID_REUSED))


async def same_request(scene: Scene, count: int) -> Prepared:
    """One request to all workers: it is done once, and all give the same answer, byte for byte."""
    purse = await scene.coins(1)
    caller, _ = await scene.merchant(1000)
    ways: list[Callable[[], Asking]] = [
        lambda: scene.deposit(purse),
        lambda: scene.exchange(purse),
        lambda: scene.redeem(purse),
        lambda: scene.withdraw(caller, 8),
        lambda: caller.seal("payout", PayoutRequest(100, 0), request_id=fresh()),
    ]
    asking = random.choice(ways)()

    def judge(answers: Sequence[bytes]) -> Iterator[str]:
        if len(set(answers)) != 1:
            yield f"one {asking.kind} has {len(set(answers))} answers"
        if scene.told(asking, answers[0]).refusal:
            yield f"a {asking.kind} is refused: {scene.told(asking, answers[0]).refusal}"

    return Prepared([asking] * count, judge)


async def refunds(scene: Scene, count: int) -> Prepared:
    """One ticket in several orders: one is paid for."""
    caller, _ = await scene.customer(1000, "merchant")
    request_id = fresh()
    ids = scene.town.ring.current("USD", scene.town.clock.now())
    outputs = blind_outputs(scene.nobody.root, scene.town.ring, request_id, [ids[8]])
    ticket = scene.nobody.seal(TICKET, Ticket(outputs), request_id=request_id)
    askings = [caller.seal("refund", RefundOrder(8, 0, ticket.envelope), request_id=fresh()) for _ in range(count)]

    def judge(answers: Sequence[bytes]) -> Iterator[str]:
        said = Counter(scene.told(*pair).refusal for pair in zip(askings, answers, strict=True))
        others = set(said) - {""}
        if said[""] != 1 or not others <= {Refusal.REQUEST_ID_REUSED, Refusal.BLINDED_VALUE_REUSED}:
            yield f"orders with one ticket are answered {dict(said)}"

    return Prepared(askings, judge)


async def payouts(scene: Scene, count: int) -> Prepared:
    """Payouts that together exceed the balance."""
    fit = random.randrange(1, count)
    caller, _ = await scene.merchant(60 * fit + 59)
    askings = [caller.seal("payout", PayoutRequest(60, 0), request_id=fresh()) for _ in range(count)]
    return Prepared(askings, expect(scene, askings, fit, Refusal.INSUFFICIENT_FUNDS))


async def deadline(scene: Scene, count: int) -> Prepared:
    """Deposits of one payment, and inquiries after it, as its deadline passes: there is one verdict, or none yet."""
    purse, now = await scene.coins(1), scene.town.clock.now()
    info = scene.keeper.info(2, purse, timestamp=now, deposit_before=now + _AHEAD_MS)
    askings, at = [], []
    for i in range(count):
        if i % 2:
            request_id, body = scene.nobody.inquiry(info, purse)
            askings.append(scene.nobody.seal("verdict", body, request_id=request_id))
        else:
            askings.append(scene.deposit(purse, info))
        at.append(info.deposit_before + random.randint(-3, 1 + i % 2))

    def judge(answers: Sequence[bytes]) -> Iterator[str]:
        verdicts, pending = set(), set()
        for asking, sealed in zip(askings, answers, strict=True):
            answer = scene.open(asking, sealed)
            if asking.kind == "verdict":
                if answer.refusal:
                    pending.add(answer.refusal)
                else:
                    verdicts.add(scene.verdict_of(answer.check()).refusal)
            else:
                verdicts.add(scene.told(asking, sealed).refusal)
        if len(verdicts) > 1 or not verdicts <= {"", Refusal.PAYMENT_EXPIRED} or not pending <= {Refusal.PENDING}:
            yield f"a payment at its deadline has verdicts {verdicts}, and is {pending or 'not pending'}"

    return Prepared(askings, judge, at)


KINDS: Final[dict[str, Prepare]] = {
    "deposit × deposit": contest(DEPOSIT),
    "deposit × exchange": contest(DEPOSIT, EXCHANGE),
    "deposit × redemption": contest(DEPOSIT, REDEEM),
    "exchange × exchange": contest(EXCHANGE),
    "exchange × redemption": contest(EXCHANGE, REDEEM),
    "redemption × redemption": contest(REDEEM),
    "overlapping lists": overlap,
    "withdrawals beyond the balance": withdrawals,
    "payouts beyond the balance": payouts,
    "one ticket, many refunds": refunds,
    "one id, many requests": same_id,
    "one request, many workers": same_request,
    "deposit × inquiry at the deadline": deadline,
}
