"""The desks `recover`, `fetch` and `check`, asked by hand."""

import threading

import pytest

from agents.bank.store import TooMany
from protocol.answer import open_answer
from protocol.bank import recovery as machine
from protocol.coins import Evidence
from protocol.messages import WithdrawAnswer
from protocol.recovery import (
    KEPT_WITHDRAWALS,
    CheckAnswer,
    CheckRequest,
    FetchAnswer,
    FetchRequest,
    RecoverAnswer,
    RecoverRequest,
    SealedSpending,
    StoredAnswer,
    find_spending,
    seal_spending,
)
from protocol.refusals import Refusal
from tests.agents.byhand import Asking, Caller, Purse
from tests.agents.world import Town


@pytest.fixture
def nobody(founded: Town) -> Caller:
    return Caller(founded, "nobody")


async def withdrawn(caller: Caller, *values: int) -> tuple[Asking, bytes]:
    """Withdraw, and lose the answer."""
    request_id, _, body = caller.order_coins(*values)
    asking = caller.seal("withdraw", body, request_id=request_id)
    return asking, await caller.send(asking)


async def recovered(caller: Caller, start: int = 0) -> RecoverAnswer:
    return RecoverAnswer.decode((await caller.ask("recover", RecoverRequest(caller.generation, start))).check())


# ---------------------------------------------------------------- recover


async def test_a_holder_gets_the_answers_to_its_withdrawals_which_only_its_seed_opens(alice: Caller) -> None:
    lost = [await withdrawn(alice, 8, 1), await withdrawn(alice, 4)]
    answer = await recovered(alice)
    assert (answer.total, answer.next) == (2, 0)
    assert [(one.request_id, one.answer) for one in answer.withdrawals] == [
        (asking.request_id, sealed) for asking, sealed in lost
    ]
    for one, coins in zip(answer.withdrawals, (2, 1), strict=True):
        key = alice.root.answer_key(one.request_id)
        opened = open_answer(alice.town.keyset.identity, key, one.request_hash, one.answer)
        assert len(WithdrawAnswer.decode(opened.check()).coins) == coins


async def test_many_withdrawals_come_by_pages_without_a_gap(alice: Caller) -> None:
    lost = [await withdrawn(alice, 1) for _ in range(KEPT_WITHDRAWALS + 2)]
    first = await recovered(alice)
    assert (len(first.withdrawals), first.total) == (KEPT_WITHDRAWALS, KEPT_WITHDRAWALS + 2)
    second = await recovered(alice, first.next)
    assert second.next == 0
    found = [one.answer for one in (*first.withdrawals, *second.withdrawals)]
    assert found == [sealed for _, sealed in lost]


async def test_refused_withdrawals_and_those_of_others_are_not_recovered(alice: Caller, keeper: Caller) -> None:
    request_id, _, body = alice.order_coins(*[16] * 7)
    assert await alice.refusal("withdraw", body, request_id=request_id) == Refusal.INSUFFICIENT_FUNDS
    await withdrawn(alice, 1)
    assert (await recovered(alice)).total == 1
    assert await recovered(keeper) == RecoverAnswer((), 0, 0)


async def test_only_the_device_that_is_served_recovers(alice: Caller, nobody: Caller) -> None:
    assert await alice.refusal("recover", RecoverRequest(alice.generation + 1, 0)) == Refusal.SUPERSEDED
    assert await nobody.refusal("recover", RecoverRequest(0, 0)) == Refusal.BAD_SIGNATURE
    stranger = Caller(alice.town, "eve", bytes(32))
    assert await stranger.refusal("recover", RecoverRequest(0, 0)) == Refusal.UNKNOWN_ACCOUNT


# ---------------------------------------------------------------- fetch


async def test_who_knows_a_requests_id_fetches_its_answer_and_cannot_open_it(alice: Caller, nobody: Caller) -> None:
    asking, sealed = await withdrawn(alice, 8)
    told = FetchAnswer.decode((await nobody.ask("fetch", FetchRequest(asking.request_id))).check())
    (found,) = told.found
    assert (found.request_id, found.answer) == (asking.request_id, sealed)
    assert alice.open(asking, found.answer).refusal == ""


async def test_of_a_request_that_was_never_answered_there_is_nothing(nobody: Caller) -> None:
    answer = await nobody.ask("fetch", FetchRequest(b"never".ljust(16)))
    assert FetchAnswer.decode(answer.check()) == FetchAnswer(())


async def test_a_fetched_answer_may_be_fetched_again(alice: Caller, nobody: Caller) -> None:
    asking, _ = await withdrawn(alice, 8)
    answers: set[tuple[StoredAnswer, ...]] = set()
    for _ in range(2):
        answers.add(FetchAnswer.decode((await nobody.ask("fetch", FetchRequest(asking.request_id))).check()).found)
    assert len(answers) == 1


# ---------------------------------------------------------------- check


async def checked(caller: Caller, denomination: bytes, prefix: str = "") -> CheckAnswer:
    return CheckAnswer.decode((await caller.ask("check", CheckRequest(denomination, prefix))).check())


async def test_what_is_spent_is_found_by_who_has_the_coin_and_the_rest_is_not(
    keeper: Caller, purse: Purse, nobody: Caller
) -> None:
    spent = Purse(purse.coins[:1], purse.seeds[:1])
    info = keeper.info(8, spent)
    assert (await keeper.verdict(keeper.deposit(info, spent))).refusal == ""
    for index, coin in enumerate(purse.coins):
        answer = await checked(nobody, coin.denomination)
        found = find_spending(answer.spendings, coin.denomination, coin.serial)
        assert answer.complete
        assert (found is not None and found.digest == info.digest) == (index == 0)


async def test_a_longer_prefix_narrows_what_is_told(keeper: Caller, purse: Purse, nobody: Caller) -> None:
    coin = purse.coins[0]
    await keeper.verdict(keeper.paying(8, Purse(purse.coins[:1], purse.seeds[:1])))
    serial = coin.serial.hex()
    other = "0" if serial[0] != "0" else "1"
    assert len((await checked(nobody, coin.denomination, serial[:16])).spendings) == 1
    assert await checked(nobody, coin.denomination, other) == CheckAnswer((), complete=True)


async def test_where_there_is_too_much_to_tell_nothing_is(
    nobody: Caller, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_many(denomination: bytes, prefix: str) -> list[Evidence]:
        raise TooMany(f"{prefix} of {denomination.hex()}")

    monkeypatch.setattr(nobody.town.books, "spendings", too_many)
    assert await checked(nobody, purse.coins[0].denomination) == CheckAnswer((), complete=False)


async def test_spendings_are_sealed_beside_the_event_loop(
    keeper: Caller, purse: Purse, nobody: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = list[threading.Thread]()

    def sealing(evidence: Evidence) -> SealedSpending:
        threads.append(threading.current_thread())
        return seal_spending(evidence)

    monkeypatch.setattr(machine, "seal_spending", sealing)
    await keeper.verdict(keeper.paying(8, Purse(purse.coins[:1], purse.seeds[:1])))
    assert len((await checked(nobody, purse.coins[0].denomination)).spendings) == 1
    assert [thread is threading.main_thread() for thread in threads] == [False]


async def test_of_a_denomination_that_is_not_the_banks_nothing_is_said(nobody: Caller) -> None:
    assert await nobody.refusal("check", CheckRequest(bytes(32), "")) == Refusal.UNKNOWN_DENOMINATION


@pytest.mark.parametrize("kind", ["recover", "fetch", "check"])
async def test_what_is_no_request_is_malformed(alice: Caller, kind: str) -> None:
    assert await alice.refusal(kind, b"no request") == Refusal.MALFORMED
