import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest

from agents.bank.desks import DESKS
from agents.bank.store import BooksUnavailable
from broker.port import Incoming
from protocol import topics
from protocol.messages import (
    AccountAnswer,
    AccountRequest,
    BlindedCoin,
    Certificate,
    DepositRequest,
    Signed,
    WithdrawAnswer,
    WithdrawRequest,
)
from protocol.payout import PayoutRequest
from protocol.recovery import RecoverRequest, RedeemRequest
from protocol.refusals import Refusal
from protocol.signatures import Domain
from tests.agents.byhand import Asking, Caller, Purse, open_invited
from tests.agents.world import BANK, Town
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.world import alter, seed

DAY_MS = 24 * HOUR_MS
LOOK = AccountRequest(b"", 0)


def claim(invitation: bytes) -> AccountRequest:
    return AccountRequest(invitation, 0)


# ---------------------------------------------------------------- every kind: one request, one answer


async def _account(alice: Caller, keeper: Caller) -> tuple[Caller, Asking]:
    await open_invited(alice.town, "bob", b"for bob".ljust(16))
    bob = Caller(alice.town, "bob", seed("bob's key"))
    return bob, bob.seal("account", claim(b"for bob".ljust(16)))


async def _withdraw(alice: Caller, keeper: Caller) -> tuple[Caller, Asking]:
    request_id, _, body = alice.order_coins(8, 1)
    return alice, alice.seal("withdraw", body, request_id=request_id)


async def _refused_withdrawal(alice: Caller, keeper: Caller) -> tuple[Caller, Asking]:
    request_id, _, body = alice.order_coins(*[16] * 7)
    return alice, alice.seal("withdraw", body, request_id=request_id)


async def _deposit(alice: Caller, keeper: Caller) -> tuple[Caller, Asking]:
    return keeper, keeper.seal("deposit", keeper.paying(8, await alice.withdraw(8)))


async def _refused_deposit(alice: Caller, keeper: Caller) -> tuple[Caller, Asking]:
    return keeper, keeper.seal("deposit", keeper.paying(9, await alice.withdraw(8)))


Prepare = Callable[[Caller, Caller], Awaitable[tuple[Caller, Asking]]]
KINDS = (_account, _withdraw, _refused_withdrawal, _deposit, _refused_deposit)


@pytest.mark.parametrize("prepare", KINDS)
async def test_the_same_request_has_the_same_answer_byte_for_byte_even_after_a_restart(
    founded: Town, clock: VirtualClock, alice: Caller, keeper: Caller, prepare: Prepare
) -> None:
    caller, asking = await prepare(alice, keeper)
    answers = set(await asyncio.gather(*(caller.send(asking) for _ in range(5))))
    clock.advance(400 * DAY_MS)
    answers.add(await caller.send(asking))
    await founded.stop_bank()
    await founded.open_books()
    answers.add(await caller.send(asking))
    assert len(answers) == 1
    assert await founded.faults() == []


@pytest.mark.parametrize("prepare", KINDS)
async def test_another_request_under_an_answered_id_is_refused_even_after_a_restart(
    founded: Town, alice: Caller, keeper: Caller, prepare: Prepare
) -> None:
    caller, asking = await prepare(alice, keeper)
    first = await caller.send(asking)
    other = caller.seal(asking.kind, b"something else", request_id=asking.request_id)
    assert caller.open(other, await caller.send(other)).refusal == Refusal.REQUEST_ID_REUSED
    await founded.stop_bank()
    await founded.open_books()
    assert caller.open(other, await caller.send(other)).refusal == Refusal.REQUEST_ID_REUSED
    assert await caller.send(asking) == first


async def test_the_answer_goes_where_the_broker_says_that_the_request_came_from(alice: Caller) -> None:
    asking = alice.seal("account", LOOK)
    topic = topics.bank_request(BANK, 3, "account", "elsewhere")
    answer = await alice.town.bank.handle(Incoming(topic, asking.envelope, correlation=b"not ours"))
    assert answer is not None
    assert answer.topic == f"ecash/v1/reply/elsewhere/{BANK}"
    assert answer.correlation == asking.request_id


async def test_while_the_books_are_unavailable_everybody_is_asked_to_try_again(
    alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(key: bytes) -> None:
        raise BooksUnavailable("disk full")

    asking = alice.seal("account", LOOK)
    with monkeypatch.context() as patch:
        patch.setattr(alice.town.books, "account_by_key", fail)
        assert alice.open(asking, await alice.send(asking)).refusal == Refusal.OVERLOADED
    assert alice.open(asking, await alice.send(asking)).refusal == ""


@pytest.mark.parametrize("method", ["stored_answer", "account_by_key", "post"])
async def test_books_that_fail_at_any_step_lose_nothing_and_stop_nothing(
    alice: Caller, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async def fail(*_: object) -> None:
        raise BooksUnavailable("disk full")

    request_id, _, body = alice.order_coins(16, 16, 16, 16, 16, 16, 16)
    refused = alice.seal("withdraw", body, request_id=request_id)
    broken = alice.seal("withdraw", b"no request")
    request_id, _, body = alice.order_coins(8)
    granted = alice.seal("withdraw", body, request_id=request_id)
    for asking in (refused, broken, granted):
        with monkeypatch.context() as patch:
            patch.setattr(alice.town.books, method, fail)
            assert alice.open(asking, await alice.send(asking)).refusal == Refusal.OVERLOADED
    assert alice.open(refused, await alice.send(refused)).refusal == Refusal.INSUFFICIENT_FUNDS
    assert alice.open(broken, await alice.send(broken)).refusal == Refusal.MALFORMED
    assert alice.open(granted, await alice.send(granted)).refusal == ""


# ---------------------------------------------------------------- accounts


async def test_an_invitation_opens_one_account_for_one_key(founded: Town, alice: Caller) -> None:
    await open_invited(founded, "bob", b"for bob".ljust(16))
    bob, eve = Caller(founded, "bob", seed("bob's key")), Caller(founded, "eve", seed("eve's key"))
    request = claim(b"for bob".ljust(16))
    assert await alice.refusal("account", request) == Refusal.ACCOUNT_EXISTS
    assert await eve.refusal("account", claim(b"guessed")) == Refusal.INVALID_INVITATION
    told = AccountAnswer.decode((await bob.ask("account", request)).check())
    assert (told.kind, told.currency, told.balance, told.certificate) == ("client", "USD", 0, b"")
    assert await eve.refusal("account", request) == Refusal.INVALID_INVITATION


async def test_one_invitation_at_once_from_many_keys_opens_one_account(founded: Town) -> None:
    await open_invited(founded, "bob", b"for bob".ljust(16))
    callers = [Caller(founded, f"caller-{i}", seed(f"key {i}")) for i in range(8)]
    refusals = await asyncio.gather(*(one.refusal("account", claim(b"for bob".ljust(16))) for one in callers))
    assert sorted(refusals) == [""] + [Refusal.INVALID_INVITATION] * 7


async def test_only_merchants_have_a_certificate(keeper: Caller, alice: Caller) -> None:
    told = AccountAnswer.decode((await keeper.ask("account", LOOK)).check())
    signed = Signed.decode(told.certificate).check(keeper.town.keyset.identity, Domain.CERTIFICATE)
    certificate = Certificate.decode(signed)
    assert (certificate.merchant, certificate.key, certificate.account) == ("keeper", keeper.key, told.account)
    assert not AccountAnswer.decode((await alice.ask("account", LOOK)).check()).certificate


async def test_who_has_no_account_is_told_so(founded: Town) -> None:
    eve = Caller(founded, "eve", seed("eve's key"))
    request_id, _, body = eve.order_coins(1)
    assert await eve.refusal("account", LOOK) == Refusal.UNKNOWN_ACCOUNT
    assert await eve.refusal("withdraw", body, request_id=request_id) == Refusal.UNKNOWN_ACCOUNT
    info = eve.info(1, account=1)
    assert await eve.refusal("deposit", DepositRequest(info.encode(), b"")) == Refusal.UNKNOWN_ACCOUNT


@pytest.mark.parametrize("kind", ["account", "withdraw", "deposit", "recover", "redeem", "payout"])
async def test_what_speaks_for_an_account_must_be_signed(alice: Caller, kind: str) -> None:
    nobody = Caller(alice.town, "nobody")
    bodies = {
        "account": LOOK,
        "withdraw": alice.order_coins(1)[2],
        "deposit": DepositRequest(alice.info(1).encode(), b""),
        "recover": RecoverRequest(0, 0),
        "redeem": RedeemRequest(0, 0, alice.forged()),
        "payout": PayoutRequest(0, 0),
    }
    assert await nobody.refusal(kind, bodies[kind]) == Refusal.BAD_SIGNATURE


async def test_a_device_that_takes_over_is_served_and_the_one_before_it_no_more(alice: Caller) -> None:
    _, _, old = alice.order_coins(1)
    told = AccountAnswer.decode((await alice.ask("account", LOOK)).check())
    assert told.generation == 0
    told = AccountAnswer.decode((await alice.ask("account", AccountRequest(b"", 1))).check())
    assert (told.generation, told.balance) == (1, 100)
    assert await alice.refusal("withdraw", old) == Refusal.SUPERSEDED
    assert await alice.refusal("recover", RecoverRequest(0, 0)) == Refusal.SUPERSEDED
    assert await alice.refusal("redeem", RedeemRequest(0, 0, alice.forged())) == Refusal.SUPERSEDED
    alice.generation = 1
    assert (await alice.withdraw(1)).coins
    assert AccountAnswer.decode((await alice.ask("account", LOOK)).check()).generation == 1


async def test_of_many_devices_at_once_one_takes_over(alice: Caller) -> None:
    refusals = await asyncio.gather(*(alice.refusal("account", AccountRequest(b"", 1)) for _ in range(8)))
    assert sorted(refusals) == [""] + [Refusal.SUPERSEDED] * 7
    assert await alice.refusal("account", AccountRequest(b"", 3)) == Refusal.SUPERSEDED


async def test_who_claims_an_account_is_its_first_device(founded: Town) -> None:
    await open_invited(founded, "bob", b"for bob".ljust(16))
    bob = Caller(founded, "bob", seed("bob's key"))
    told = AccountAnswer.decode((await bob.ask("account", claim(b"for bob".ljust(16)))).check())
    assert told.generation == 1
    assert await bob.refusal("withdraw", bob.order_coins(1)[2]) == Refusal.SUPERSEDED
    bob.generation = 1
    assert await bob.refusal("withdraw", bob.order_coins(1)[2]) == Refusal.INSUFFICIENT_FUNDS


# ---------------------------------------------------------------- withdrawal


async def test_a_withdrawal_debits_the_amount_and_its_commission(alice: Caller) -> None:
    request_id, _, body = alice.order_coins(16, 16, 8)
    answer = WithdrawAnswer.decode((await alice.ask("withdraw", body, request_id=request_id)).check())
    assert (answer.amount, answer.commission, len(answer.coins)) == (40, 4, 3)
    assert [balance for _, balance in await alice.town.books.accounts()] == [0, 56]


async def test_the_account_must_hold_the_commission_too(alice: Caller) -> None:
    request_id, _, body = alice.order_coins(16, 16, 16, 16, 16, 8, 2, 1)  # 91, and 9 or 10 of commission
    charge = alice.town.keyset.tariff.withdrawal.charge(91)
    refused = await alice.refusal("withdraw", body, request_id=request_id)
    assert (refused == Refusal.INSUFFICIENT_FUNDS) == (91 + charge > 100)
    request_id, _, body = alice.order_coins(*[16] * 6)
    assert await alice.refusal("withdraw", body, request_id=request_id) == Refusal.INSUFFICIENT_FUNDS
    assert await alice.town.faults() == []


async def test_withdrawals_at_once_never_take_more_than_there_is(alice: Caller) -> None:
    orders = [alice.order_coins(16, 16) for _ in range(6)]  # 32 + 3 each
    refusals = await asyncio.gather(*(alice.refusal("withdraw", body, request_id=rid) for rid, _, body in orders))
    assert sorted(refusals) == ["", ""] + [Refusal.INSUFFICIENT_FUNDS] * 4
    assert await alice.town.faults() == []


async def test_an_unknown_denomination_is_refused(alice: Caller) -> None:
    body = WithdrawRequest(0, 0, (BlindedCoin(bytes(32), bytes(255) + b"\2"),), ())
    assert await alice.refusal("withdraw", body) == Refusal.UNKNOWN_DENOMINATION


async def test_a_denomination_is_minted_until_its_date_and_spent_until_a_later_one(
    alice: Caller, keeper: Caller, purse: Purse, clock: VirtualClock
) -> None:
    _, _, body = alice.order_coins(1)
    clock.advance(36_500 * DAY_MS)
    assert await alice.refusal("withdraw", body) == Refusal.DENOMINATION_CLOSED
    one = Purse(purse.coins[:1], purse.seeds[:1])
    assert (await keeper.verdict(keeper.paying(8, one))).refusal == ""
    clock.advance(100 * DAY_MS)
    rest = Purse(purse.coins[1:], purse.seeds[1:])
    assert (await keeper.verdict(keeper.paying(5, rest))).refusal == Refusal.DENOMINATION_CLOSED


@pytest.mark.parametrize("value", [bytes(256), bytes(255) + b"\1", b"\xff" * 256])
async def test_a_value_that_no_key_may_sign_is_refused(alice: Caller, value: bytes) -> None:
    _, _, good = alice.order_coins(1, 2)
    body = alter(good, "coins", (good.coins[0], alter(good.coins[1], "blinded", value)))
    assert await alice.refusal("withdraw", body) == Refusal.BAD_BLINDED_VALUE


async def test_a_blinded_value_is_signed_once(alice: Caller) -> None:
    request_id, _, body = alice.order_coins(4)
    assert await alice.refusal("withdraw", alter(body, "coins", body.coins * 2)) == Refusal.BLINDED_VALUE_REUSED
    assert await alice.refusal("withdraw", body, request_id=request_id) == ""
    assert await alice.refusal("withdraw", body) == Refusal.BLINDED_VALUE_REUSED
    assert await alice.town.faults() == []


async def test_more_coins_than_the_keyset_allows_are_refused(alice: Caller) -> None:
    _, _, body = alice.order_coins(*[1] * 13)
    assert await alice.refusal("withdraw", body) == Refusal.MALFORMED
    commission = alice.town.keyset.tariff.withdrawal.charge(12)
    assert await alice.refusal("withdraw", WithdrawRequest(0, commission, body.coins[:12], ())) == ""


@pytest.mark.parametrize("commission", [0, 1, 3])
async def test_a_withdrawal_at_another_commission_than_the_banks_is_refused(alice: Caller, commission: int) -> None:
    _, _, body = alice.order_coins(16, 8)
    other = msgspec.structs.replace(body, commission=commission)
    assert await alice.refusal("withdraw", other) == Refusal.COMMISSION_CHANGED
    assert await alice.refusal("withdraw", body) == ""


async def test_a_request_is_not_carried_out_after_its_deadline(alice: Caller, clock: VirtualClock) -> None:
    _, _, body = alice.order_coins(1)
    asking = alice.seal("withdraw", body, deadline=clock.now() + 1)
    clock.advance(1)
    assert alice.open(asking, await alice.send(asking)).refusal == Refusal.REQUEST_EXPIRED
    assert await alice.town.books.balance(1002) == 100


# ---------------------------------------------------------------- what is no request


def test_the_bank_has_a_desk_for_every_kind_of_the_topics() -> None:
    assert DESKS.keys() == topics.BANK_KINDS


@pytest.mark.parametrize("kind", sorted(topics.BANK_KINDS))
async def test_what_is_no_request_of_its_kind_is_malformed(alice: Caller, kind: str) -> None:
    assert await alice.refusal(kind, b"") == Refusal.MALFORMED


async def test_a_retained_request_is_dropped_and_counted(alice: Caller, caplog: pytest.LogCaptureFixture) -> None:
    asking = alice.seal("account", LOOK)
    message = Incoming(topics.bank_request(BANK, 0, "account", "client"), asking.envelope)
    with caplog.at_level(logging.WARNING):
        assert await alice.town.bank.handle(replace(message, retained=True)) is None
    assert "dropped" in caplog.text
    assert alice.town.bank.dropped == {Refusal.WRONG_TYPE: 1}
    assert await alice.town.bank.handle(message) is not None
