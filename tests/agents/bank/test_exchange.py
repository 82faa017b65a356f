"""Exchanges at the bank's desk: coins in, coins out, and nobody's name."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import pytest

from agents.bank.store import BooksUnavailable
from protocol.answer import Answer
from protocol.coins import Evidence, spend
from protocol.commission import parse_commission
from protocol.exchange import ExchangeRequest, Issue, exchange_digest
from protocol.keyset import KeyRing
from protocol.messages import BlindedCoin, Exhibits
from protocol.recovery import RedeemRequest, redeem_digest
from protocol.refusals import Refusal
from protocol.wallet.outputs import blind_outputs, unblind_outputs
from tests.agents.byhand import Asking, Caller, Purse, client, shopkeeper
from tests.agents.world import BANK, Town
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.entropy import SeededEntropy
from tests.world import alter, seed


@pytest.fixture
def nobody(founded: Town) -> Caller:
    """Somebody who has no account and signs nothing."""
    return Caller(founded, "nobody")


def outputs_of(caller: Caller, request_id: bytes, values: Iterable[int]) -> tuple[BlindedCoin, ...]:
    ids = caller.town.ring.current("USD", caller.town.clock.now())
    return blind_outputs(caller.root, caller.town.ring, request_id, [ids[value] for value in values])


def request_of(
    caller: Caller, name: str, purse: Purse, *values: int, commission: int = 0
) -> tuple[bytes, ExchangeRequest]:
    """Write a request with an id of this name; its coins out have these values."""
    request_id = seed(name)[:16]
    outputs = outputs_of(caller, request_id, values)
    digest = exchange_digest(BANK, request_id, commission, outputs)
    spent = tuple(spend(coin, key, digest) for coin, key in zip(purse.coins, purse.seeds, strict=True))
    return request_id, ExchangeRequest(commission, spent, outputs)


def sealed(caller: Caller, name: str, purse: Purse, *values: int, commission: int = 0, deadline: int = 0) -> Asking:
    request_id, body = request_of(caller, name, purse, *values, commission=commission)
    return caller.seal("exchange", body, request_id=request_id, deadline=deadline)


async def ask(caller: Caller, asking: Asking) -> Answer:
    return caller.open(asking, await caller.send(asking))


def coins_of(caller: Caller, asking: Asking, answer: Answer) -> Purse:
    issued = Issue.decode(answer.check()).coins
    denominations = [one.denomination for one in issued]
    found, wrong = unblind_outputs(caller.root, caller.town.ring, asking.request_id, denominations, issued)
    assert wrong == ""
    return Purse(
        tuple(coin for _, coin in found), tuple(caller.root.coin(asking.request_id, index) for index, _ in found)
    )


def charge(town: Town, policy: str) -> None:
    """Let the bank announce another commission for exchanges."""
    tariff = alter(town.keyset.tariff, "exchange", parse_commission(policy, "USD"))
    town.bank._desk.ring = KeyRing(msgspec.structs.replace(town.keyset, tariff=tariff))


def part(purse: Purse, *places: int) -> Purse:
    return Purse(tuple(purse.coins[i] for i in places), tuple(purse.seeds[i] for i in places))


# ---------------------------------------------------------------- what is granted


async def test_nobody_exchanges_coins_for_new_ones_that_can_be_spent(
    keeper: Caller, nobody: Caller, purse: Purse
) -> None:
    asking = sealed(nobody, "change", purse, 4, 4, 2, 2, 1)
    change = coins_of(nobody, asking, await ask(nobody, asking))
    assert not {coin.serial for coin in change.coins} & {coin.serial for coin in purse.coins}
    assert (await keeper.verdict(keeper.paying(13, change))).refusal == ""
    assert await keeper.town.faults() == []


async def test_the_new_coins_are_worth_the_old_ones_less_the_commission(
    founded: Town, nobody: Caller, purse: Purse
) -> None:
    charge(founded, "0.02")
    asking = sealed(nobody, "dear", purse, 8, 2, 1, commission=2)
    assert len(coins_of(nobody, asking, await ask(nobody, asking)).coins) == 3
    snapshot = await founded.books.snapshot()
    (posting,) = [row.id for row in snapshot.journal if row.kind == "exchange"]
    entries = {row.ledger: row.amount for row in snapshot.entries if row.journal == posting}
    assert entries.pop("commission/USD") == 2
    assert sum(entries.values()) == -2
    assert await founded.faults() == []


async def test_the_books_know_no_account_of_an_exchange(founded: Town, alice: Caller, purse: Purse) -> None:
    """Not even if the letter is signed, which no honest wallet does."""
    asking = sealed(alice, "signed by mistake", purse, 8, 4, 1)
    assert (await ask(alice, asking)).refusal == ""
    snapshot = await founded.books.snapshot()
    (posting,) = [row for row in snapshot.journal if row.kind == "exchange"]
    touched = {row.ledger.partition("/")[0] for row in snapshot.entries if row.journal == posting.id}
    assert touched <= {"coins", "commission"}
    account = await founded.books.account_by_key(alice.key)
    assert account is not None
    assert await founded.books.balance(account.number) == 86, "as after the withdrawal"


async def test_the_same_exchange_has_the_same_answer_byte_for_byte_even_after_a_restart(
    founded: Town, clock: VirtualClock, nobody: Caller, purse: Purse
) -> None:
    asking = sealed(nobody, "again and again", purse, 8, 4, 1)
    answers = set(await asyncio.gather(*(nobody.send(asking) for _ in range(5))))
    clock.advance(400 * 24 * HOUR_MS)
    answers.add(await nobody.send(asking))
    await founded.stop_bank()
    await founded.open_books()
    answers.add(await nobody.send(asking))
    assert len(answers) == 1
    assert nobody.open(asking, answers.pop()).refusal == ""
    assert await founded.faults() == []


async def test_an_answer_that_was_lost_lies_in_the_books_under_its_id(
    founded: Town, nobody: Caller, purse: Purse
) -> None:
    asking = sealed(nobody, "lost", purse, 8, 4, 1)
    await nobody.send(asking)
    row = await founded.books.fetch(asking.request_id)
    assert row is not None
    assert len(coins_of(nobody, asking, nobody.open(asking, row.answer)).coins) == 3


async def test_another_request_under_an_answered_id_is_refused(nobody: Caller, purse: Purse) -> None:
    first = sealed(nobody, "one id", part(purse, 0), 8)
    await nobody.send(first)
    second = sealed(nobody, "one id", part(purse, 1), 4)
    assert (await ask(nobody, second)).refusal == Refusal.REQUEST_ID_REUSED


# ---------------------------------------------------------------- spent before


def evidence_in(answer: Answer) -> list[Evidence]:
    assert answer.refusal == Refusal.ALREADY_SPENT
    exhibits = list(Exhibits.decode(answer.body).exhibits)
    for one in exhibits:
        one.check()
    return exhibits


async def test_coins_that_were_deposited_are_not_exchanged_and_the_evidence_says_why(
    keeper: Caller, nobody: Caller, purse: Purse
) -> None:
    info = keeper.info(8, part(purse, 0))
    assert (await keeper.verdict(keeper.deposit(info, part(purse, 0)))).refusal == ""
    asking = sealed(nobody, "too late", purse, 8, 4, 1)
    (evidence,) = evidence_in(await ask(nobody, asking))
    assert (evidence.serial, evidence.digest) == (purse.coins[0].serial, info.digest)
    assert (await ask(nobody, sealed(nobody, "the others", part(purse, 1, 2), 4, 1))).refusal == ""
    assert await keeper.town.faults() == []


async def test_coins_that_were_exchanged_are_neither_deposited_nor_exchanged(
    keeper: Caller, nobody: Caller, purse: Purse
) -> None:
    first = sealed(nobody, "first", purse, 8, 4, 1)
    assert (await ask(nobody, first)).refusal == ""
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == Refusal.ALREADY_SPENT
    _, body = request_of(nobody, "first", purse, 8, 4, 1)
    digest = exchange_digest(BANK, first.request_id, 0, body.outputs)
    again = evidence_in(await ask(nobody, sealed(nobody, "second", purse, 8, 4, 1)))
    assert [(one.serial, one.digest) for one in again] == [(coin.serial, digest) for coin in purse.coins]
    assert await keeper.town.faults() == []


async def test_one_coin_in_exchange_deposit_and_redemption_at_once_is_accepted_once(
    alice: Caller, keeper: Caller, nobody: Caller
) -> None:
    coin = await alice.withdraw(8)
    redemption = seed("redeem")[:16]
    proof = spend(coin.coins[0], coin.seeds[0], redeem_digest(BANK, redemption, alice.key))

    async def deposit() -> str:
        return (await keeper.verdict(keeper.paying(8, coin))).refusal

    async def exchange(name: str) -> str:
        return (await ask(nobody, sealed(nobody, name, coin, 8))).refusal

    told = await asyncio.gather(
        *(exchange(f"race {number}") for number in range(4)),
        alice.refusal("redeem", RedeemRequest(0, 0, (proof,)), request_id=redemption),
        *(deposit() for _ in range(3)),
    )
    assert sorted(told) == [""] + [Refusal.ALREADY_SPENT] * 7
    assert await keeper.town.faults() == []


# ---------------------------------------------------------------- refusals that pass, and refusals that last


async def test_a_fault_of_the_coins_is_refused_and_leaves_no_trace(founded: Town, nobody: Caller, purse: Purse) -> None:
    forged = Purse((alter(purse.coins[0], "signature"),), purse.seeds[:1])
    stolen = Purse(purse.coins[:1], purse.seeds[1:2])
    twice = part(purse, 0, 0)
    named = [(forged, Refusal.BAD_COIN), (stolen, Refusal.BAD_SPEND_SIGNATURE), (twice, Refusal.DUPLICATE_COIN)]
    for shown, refusal in named:
        asking = sealed(nobody, refusal, shown, 8)
        assert (await ask(nobody, asking)).refusal == refusal
        assert await founded.books.fetch(asking.request_id) is None
    assert (await ask(nobody, sealed(nobody, Refusal.BAD_COIN, purse, 8, 4, 1))).refusal == ""


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", b"\x93\x00\x90\x90"])
async def test_what_is_no_request_is_malformed(founded: Town, nobody: Caller, body: bytes) -> None:
    asking = nobody.seal("exchange", body)
    assert (await ask(nobody, asking)).refusal == Refusal.MALFORMED
    assert await founded.books.fetch(asking.request_id) is None


async def test_more_coins_than_the_bank_takes_at_once_are_refused(nobody: Caller, purse: Purse) -> None:
    assert (await ask(nobody, sealed(nobody, "many out", purse, *[1] * 13))).refusal == Refusal.MALFORMED
    assert (await ask(nobody, sealed(nobody, "as many", purse, 2, *[1] * 11))).refusal == ""


async def _wrong_sum(town: Town, caller: Caller, purse: Purse) -> tuple[Asking, Refusal]:
    return sealed(caller, "wrong sum", purse, 8, 4), Refusal.AMOUNT_MISMATCH


async def _wrong_commission(town: Town, caller: Caller, purse: Purse) -> tuple[Asking, Refusal]:
    return sealed(caller, "wrong commission", purse, 8, 4, commission=1), Refusal.COMMISSION_CHANGED


async def _signed_before(town: Town, caller: Caller, purse: Purse) -> tuple[Asking, Refusal]:
    other = await Caller(town, "client", seed("client's key")).withdraw(8, 4, 1)
    first = sealed(caller, "signed before", other, 8, 4, 1)
    assert (await ask(caller, first)).refusal == ""
    request_id = seed("signed again")[:16]
    _, body = request_of(caller, "signed before", purse, 8, 4, 1)
    digest = exchange_digest(BANK, request_id, 0, body.outputs)
    spent = tuple(spend(coin, key, digest) for coin, key in zip(purse.coins, purse.seeds, strict=True))
    again = caller.seal("exchange", ExchangeRequest(0, spent, body.outputs), request_id=request_id)
    return again, Refusal.BLINDED_VALUE_REUSED


async def _too_late(town: Town, caller: Caller, purse: Purse) -> tuple[Asking, Refusal]:
    return sealed(caller, "too late", purse, 8, 4, 1, deadline=town.clock.now()), Refusal.REQUEST_EXPIRED


Prepare = Callable[[Town, Caller, Purse], Awaitable[tuple[Asking, Refusal]]]
LASTING: tuple[Prepare, ...] = (_wrong_sum, _wrong_commission, _signed_before, _too_late)


@pytest.mark.parametrize("prepare", LASTING)
async def test_a_refusal_of_good_coins_lasts_and_they_can_be_used_elsewhere(
    founded: Town, nobody: Caller, purse: Purse, prepare: Prepare
) -> None:
    asking, refusal = await prepare(founded, nobody, purse)
    sent = await nobody.send(asking)
    assert nobody.open(asking, sent).refusal == refusal
    charge(founded, "0.01")  # what the bank charges now makes one of them right
    assert await nobody.send(asking) == sent
    await founded.stop_bank()
    await founded.open_books()
    assert await nobody.send(asking) == sent
    assert (await ask(nobody, sealed(nobody, "elsewhere", purse, 8, 4, 1))).refusal == ""
    assert await founded.faults() == []


@pytest.mark.parametrize("commission", [0, 1])
async def test_spent_coins_buy_neither_signatures_nor_a_place_in_the_books(
    keeper: Caller, nobody: Caller, purse: Purse, monkeypatch: pytest.MonkeyPatch, commission: int
) -> None:
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == ""

    async def sign(*_: object) -> list[bytes]:
        raise AssertionError("signed for spent coins")

    monkeypatch.setattr(nobody.town.bank._desk.signer, "blind_sign", sign)
    rows = len((await nobody.town.books.snapshot()).journal)
    for _ in range(2):
        asking = sealed(nobody, "spent", purse, 8, 4, 1, commission=commission)
        assert len(evidence_in(await ask(nobody, asking))) == 3
    assert await nobody.town.books.fetch(asking.request_id) is None
    assert len((await nobody.town.books.snapshot()).journal) == rows


async def test_coins_that_were_spent_while_the_bank_signed_are_refused_and_nothing_is_kept(
    keeper: Caller, nobody: Caller, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = nobody.town.bank._desk.signer
    real, deposits = signer.blind_sign, [keeper.paying(13, purse)]

    async def overtaken(denomination: bytes, blinded: list[bytes]) -> list[bytes]:
        if deposits:
            assert (await keeper.verdict(deposits.pop())).refusal == ""
        return await real(denomination, blinded)

    monkeypatch.setattr(signer, "blind_sign", overtaken)
    asking = sealed(nobody, "overtaken", purse, 8, 4, 1)
    assert len(evidence_in(await ask(nobody, asking))) == 3
    assert await nobody.town.books.fetch(asking.request_id) is None


async def test_a_request_that_has_spent_the_coins_itself_is_answered_as_before(
    founded: Town, nobody: Caller, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both copies of a request passed the question for a stored answer before either was granted."""
    asking = sealed(nobody, "twin", purse, 8, 4, 1)
    first = await nobody.send(asking)
    real, blind = founded.books.stored_answer, [None]

    async def stored(request_id: bytes, request_hash: bytes) -> object:
        return blind.pop() if blind else await real(request_id, request_hash)

    monkeypatch.setattr(founded.books, "stored_answer", stored)
    assert await nobody.send(asking) == first
    assert blind == []


async def test_a_deadline_too_far_ahead_is_refused_and_stays_so_when_it_comes_nearer(
    founded: Town, nobody: Caller, purse: Purse
) -> None:
    far = sealed(nobody, "far", purse, 8, 4, 1, deadline=founded.clock.now() + 26 * HOUR_MS + 1)
    assert (await ask(nobody, far)).refusal == Refusal.MALFORMED
    assert await founded.books.fetch(far.request_id) is not None


async def test_of_the_coins_a_revoked_key_made_none_is_exchanged(founded: Town, nobody: Caller, purse: Purse) -> None:
    revoked = msgspec.structs.replace(founded.keyset, revoked=(purse.coins[0].denomination,))
    founded.bank._desk.ring = KeyRing(revoked)
    assert (await ask(nobody, sealed(nobody, "stolen key", purse, 4, 4, 4, 1))).refusal == Refusal.KEY_REVOKED
    assert (await ask(nobody, sealed(nobody, "into it", part(purse, 1), 4))).refusal == ""


async def test_books_that_fail_lose_nothing(nobody: Caller, purse: Purse, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise BooksUnavailable("disk full")

    asking = sealed(nobody, "disk full", purse, 8, 4, 1)
    with monkeypatch.context() as patch:
        patch.setattr(nobody.town.books, "post", fail)
        assert (await ask(nobody, asking)).refusal == Refusal.OVERLOADED
    assert (await ask(nobody, asking)).refusal == ""
    assert await nobody.town.faults() == []


async def test_exchanges_take_the_place_of_each_other_over_and_over(founded: Town, nobody: Caller) -> None:
    """Money neither comes nor goes, whatever way the coins take."""
    alice, keeper = await client(founded), await shopkeeper(founded)
    coins = await alice.withdraw(8, 4, 1)
    choose = SeededEntropy("ways of change")
    for turn in range(6):
        values = ((8, 4, 1), (4, 4, 4, 1), (8, 2, 2, 1), (8, 1, 1, 1, 1, 1))[choose.bytes(1)[0] % 4]
        asking = sealed(nobody, f"turn {turn}", coins, *values)
        coins = coins_of(nobody, asking, await ask(nobody, asking))
    assert (await keeper.verdict(keeper.paying(13, coins))).refusal == ""
    assert await founded.books.balance(founded.shop_number) == 12
    assert await founded.faults() == []
