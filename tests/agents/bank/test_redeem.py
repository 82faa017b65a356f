"""Redemptions at the bank's desk: the value of lost coins goes back into the account."""

import asyncio

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from protocol.answer import Answer
from protocol.coins import Coin, message_of, spend
from protocol.commission import parse_commission
from protocol.exchange import ExchangeRequest, exchange_digest
from protocol.keyset import KeyRing
from protocol.messages import AccountAnswer, AccountRequest, Exhibits
from protocol.recovery import RedeemAnswer, RedeemRequest, redeem_digest
from protocol.refusals import Refusal
from protocol.signatures import public_key
from tests.agents.byhand import Asking, Caller, Purse, client
from tests.agents.world import BANK, Town
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.world import alter, seed


def sealed(
    caller: Caller, name: str, purse: Purse, *, commission: int = 0, generation: int = 0, deadline: int = 0
) -> Asking:
    """Write a request with an id of this name."""
    request_id = seed(name)[:16]
    digest = redeem_digest(BANK, request_id, caller.key)
    spent = tuple(spend(coin, key, digest) for coin, key in zip(purse.coins, purse.seeds, strict=True))
    body = RedeemRequest(generation, commission, spent)
    return caller.seal("redeem", body, request_id=request_id, deadline=deadline)


async def ask(caller: Caller, asking: Asking) -> Answer:
    return caller.open(asking, await caller.send(asking))


async def balance(caller: Caller) -> int:
    account = await caller.town.books.account_by_key(caller.key)
    assert account is not None
    return await caller.town.books.balance(account.number)


def part(purse: Purse, *places: int) -> Purse:
    return Purse(tuple(purse.coins[i] for i in places), tuple(purse.seeds[i] for i in places))


def announce(town: Town, **fields: object) -> None:
    """Let the bank serve under a keyset that differs in these fields."""
    town.bank._desk.ring = KeyRing(msgspec.structs.replace(town.keyset, **fields))


def revoke(town: Town, *denominations: bytes) -> None:
    """Announce, a millisecond later, that these denominations are revoked."""
    assert isinstance(town.clock, VirtualClock)
    town.clock.advance(1)
    announce(town, issued_at=town.clock.now(), revoked=denominations)


def forge(town: Town, denomination: bytes, *names: str) -> Purse:
    """Make coins as a thief does: with the private key, beside the bank's books."""
    key = load_der_private_key(town.mint.keys.denominations[denomination], None)
    assert isinstance(key, RSAPrivateKey)
    seeds = tuple(map(seed, names))
    serials = tuple(map(public_key, seeds))
    pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
    signed = (key.sign(message_of(denomination, serial), pss, hashes.SHA384()) for serial in serials)
    return Purse(tuple(map(Coin, [denomination] * len(names), serials, signed)), seeds)


def charging(town: Town, policy: str) -> object:
    return alter(town.keyset.tariff, "redemption", parse_commission(policy, "USD"))


# ---------------------------------------------------------------- what is credited


async def test_the_value_of_coins_goes_back_into_the_account(alice: Caller, purse: Purse) -> None:
    answer = await ask(alice, sealed(alice, "all", purse))
    assert RedeemAnswer.decode(answer.check()) == RedeemAnswer(13, 0)
    assert await balance(alice) == 86 + 13
    assert await alice.town.faults() == []


async def test_the_commission_is_taken_from_the_value(founded: Town, alice: Caller, purse: Purse) -> None:
    announce(founded, tariff=charging(founded, "0.02"))
    answer = await ask(alice, sealed(alice, "dear", purse, commission=2))
    assert RedeemAnswer.decode(answer.check()) == RedeemAnswer(13, 2)
    assert await balance(alice) == 86 + 11
    assert await founded.faults() == []


async def test_coins_of_a_revoked_key_have_their_value_back(founded: Town, alice: Caller, purse: Purse) -> None:
    revoke(founded, *(coin.denomination for coin in purse.coins))
    assert (await ask(alice, sealed(alice, "revoked", purse))).refusal == ""
    assert await balance(alice) == 86 + 13


async def test_the_same_redemption_has_the_same_answer_byte_for_byte_even_after_a_restart(
    founded: Town, clock: VirtualClock, alice: Caller, purse: Purse
) -> None:
    asking = sealed(alice, "again", purse)
    answers = set(await asyncio.gather(*(alice.send(asking) for _ in range(5))))
    clock.advance(400 * 24 * HOUR_MS)
    await founded.stop_bank()
    await founded.open_books()
    answers.add(await alice.send(asking))
    assert len(answers) == 1
    assert await balance(alice) == 86 + 13
    assert await founded.faults() == []


# ---------------------------------------------------------------- spent before


async def test_spent_coins_are_not_redeemed_and_redeemed_coins_are_spent(
    alice: Caller, keeper: Caller, purse: Purse
) -> None:
    info = keeper.info(8, part(purse, 0))
    assert (await keeper.verdict(keeper.deposit(info, part(purse, 0)))).refusal == ""
    answer = await ask(alice, sealed(alice, "one too many", purse))
    assert answer.refusal == Refusal.ALREADY_SPENT
    (evidence,) = Exhibits.decode(answer.body).exhibits
    evidence.check()
    assert (evidence.serial, evidence.digest) == (purse.coins[0].serial, info.digest)

    rest = part(purse, 1, 2)
    assert (await ask(alice, sealed(alice, "the rest", rest))).refusal == ""
    assert (await ask(alice, sealed(alice, "twice", rest))).refusal == Refusal.ALREADY_SPENT
    assert (await keeper.verdict(keeper.paying(5, rest))).refusal == Refusal.ALREADY_SPENT
    assert await balance(alice) == 86 + 5
    assert await alice.town.faults() == []


async def test_one_coin_redeemed_many_times_at_once_is_credited_once(alice: Caller) -> None:
    coin = await alice.withdraw(8)
    before = await balance(alice)
    told = await asyncio.gather(*(ask(alice, sealed(alice, f"race {number}", coin)) for number in range(6)))
    assert sorted(one.refusal for one in told) == [""] + [Refusal.ALREADY_SPENT] * 5
    assert await balance(alice) == before + 8
    assert await alice.town.faults() == []


# ---------------------------------------------------------------- whose coins, which device, how much


async def test_nobody_redeems_more_than_it_has_withdrawn(founded: Town, alice: Caller, purse: Purse) -> None:
    bob = Caller(founded, "bob", seed("bob's key"))
    await bob.open_account("client", 30)
    await bob.withdraw(4, 4)
    assert (await ask(bob, sealed(bob, "alice's", purse))).refusal == Refusal.REDEMPTION_CAPPED
    assert (await ask(bob, sealed(bob, "some", part(purse, 0)))).refusal == ""
    assert (await ask(bob, sealed(bob, "one more", part(purse, 2)))).refusal == Refusal.REDEMPTION_CAPPED
    assert (await ask(alice, sealed(alice, "my own", part(purse, 1, 2)))).refusal == ""
    assert await founded.faults() == []


async def test_a_merchant_that_has_withdrawn_nothing_redeems_nothing(keeper: Caller, purse: Purse) -> None:
    assert (await ask(keeper, sealed(keeper, "past the till", purse))).refusal == Refusal.REDEMPTION_CAPPED
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == ""


async def test_an_older_device_redeems_nothing(alice: Caller, purse: Purse) -> None:
    taken_over = await alice.ask("account", AccountRequest(b"", 1))
    assert AccountAnswer.decode(taken_over.check()).generation == 1
    assert (await ask(alice, sealed(alice, "old", purse))).refusal == Refusal.SUPERSEDED
    assert (await ask(alice, sealed(alice, "new", purse, generation=1))).refusal == ""


async def test_an_unknown_account_and_an_unsigned_letter_are_refused(founded: Town, purse: Purse) -> None:
    stranger = Caller(founded, "stranger", seed("stranger's key"))
    assert (await ask(stranger, sealed(stranger, "whose", purse))).refusal == Refusal.UNKNOWN_ACCOUNT
    nobody = Caller(founded, "nobody")
    assert (await ask(nobody, sealed(nobody, "nobody's", purse))).refusal == Refusal.BAD_SIGNATURE


async def test_a_proof_for_one_account_serves_no_other(founded: Town, alice: Caller, purse: Purse) -> None:
    bob = Caller(founded, "bob", seed("bob's key"))
    await bob.open_account("client", 30)
    await bob.withdraw(16)
    for_alice = redeem_digest(BANK, seed("copied")[:16], alice.key)
    copied = tuple(spend(coin, key, for_alice) for coin, key in zip(purse.coins, purse.seeds, strict=True))
    refusal = await bob.refusal("redeem", RedeemRequest(0, 0, copied), request_id=seed("copied")[:16])
    assert refusal == Refusal.BAD_SPEND_SIGNATURE
    assert (await ask(alice, sealed(alice, "mine", purse))).refusal == ""


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", b"\x93\x00\x00\x90"])
async def test_what_is_no_request_is_malformed(alice: Caller, body: bytes) -> None:
    assert await alice.refusal("redeem", body) == Refusal.MALFORMED


# ---------------------------------------------------------------- a stolen key


async def test_a_thief_of_a_revoked_key_makes_no_good_coins_of_forged_ones(founded: Town) -> None:
    await (await client(founded)).withdraw(8, 8, 8)  # so forged coins of 8 do not stand out by their number
    thief = Caller(founded, "thief", seed("thief's key"))
    await thief.open_account("client", 100)
    stolen = founded.ring.current("USD", founded.clock.now())[8]
    await thief.withdraw(8)
    revoke(founded, stolen)
    refusals = []
    for turn in range(4):
        await thief.withdraw(4, 4)
        forged = forge(founded, stolen, f"forged {turn}")
        refusals.append((await ask(thief, sealed(thief, f"turn {turn}", forged))).refusal)
    assert refusals == ["", *[Refusal.REDEMPTION_CAPPED] * 3], "what it had withdrawn before, and no more"
    assert await balance(thief) == 100 - 5 * (8 + 1) + 8
    assert await founded.faults() == []


async def test_a_thief_of_a_key_takes_no_more_than_was_signed_before_anybody_knows(
    founded: Town, alice: Caller, keeper: Caller, purse: Purse, caplog: pytest.LogCaptureFixture
) -> None:
    stolen = purse.coins[0].denomination
    assert (await keeper.verdict(keeper.paying(8, forge(founded, stolen, "first")))).refusal == ""
    for name in ("second", "third"):
        forged = forge(founded, stolen, name)
        assert (await keeper.verdict(keeper.paying(8, forged))).refusal == Refusal.KEY_OVERDRAWN
        request_id = seed(name)[:16]
        _, _, order = alice.order_coins(4, 4)
        digest = exchange_digest(BANK, request_id, 0, order.coins)
        body = ExchangeRequest(0, tuple(map(spend, forged.coins, forged.seeds, [digest])), order.coins)
        assert await alice.refusal("exchange", body, request_id=request_id) == Refusal.KEY_OVERDRAWN
        redeemed = sealed(alice, f"redeem {name}", forged)
        assert (await ask(alice, redeemed)).refusal == Refusal.KEY_OVERDRAWN
    alarms = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(alarms) == 1
    assert f"ecash bank revoke {stolen.hex()}" in alarms[0]
    assert (await keeper.verdict(keeper.paying(5, part(purse, 1, 2)))).refusal == "", "sound keys are not concerned"
    assert await founded.faults() == []


# ---------------------------------------------------------------- refusals that last


async def test_a_refusal_lasts_and_the_coins_can_be_used_elsewhere(
    founded: Town, alice: Caller, keeper: Caller, purse: Purse
) -> None:
    late = sealed(alice, "late", purse, deadline=founded.clock.now())
    dear = sealed(alice, "dear", purse, commission=1)
    forged = sealed(alice, "forged", Purse(purse.coins[:1], purse.seeds[1:2]))
    sent = [await alice.send(asking) for asking in (late, dear, forged)]
    assert [alice.open(asking, told).refusal for asking, told in zip((late, dear, forged), sent, strict=True)] == [
        Refusal.REQUEST_EXPIRED,
        Refusal.COMMISSION_CHANGED,
        Refusal.BAD_SPEND_SIGNATURE,
    ]
    announce(founded, tariff=charging(founded, "0.01"))  # now "dear" would be right
    assert [await alice.send(asking) for asking in (late, dear, forged)] == sent
    assert (await keeper.verdict(keeper.paying(13, purse))).refusal == ""
    assert await founded.faults() == []
