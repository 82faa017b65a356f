"""Forgeries: coins that the bank never signed, signatures of others, and what RSA's multiplicativity gives away."""

import math
from collections.abc import Callable
from itertools import combinations, permutations

import msgpack
import pytest
from nacl.bindings import crypto_core_ed25519_is_valid_point

from agents.invitation import hash_invitation
from broker.port import Incoming
from protocol import topics
from protocol.blind_rsa import PublicKey, blind, finalize, verify
from protocol.coins import Coin, check_coin, message_of, spend
from protocol.envelope import Letter, seal
from protocol.errors import PeerError
from protocol.exchange import ExchangeRequest, exchange_digest
from protocol.messages import AccountRequest, BlindedCoin, WithdrawAnswer, WithdrawRequest
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key, sign
from tests.agents.bank.test_exchange import request_of
from tests.agents.byhand import Caller, Purse, client, shopkeeper
from tests.agents.world import BANK, Town
from tests.protocol.test_signatures import SMALL_ORDER
from tests.world import alter, seed

BYTES = 256


class Thief(Caller):
    """Who blinds values of one's own making and has them signed."""

    def blinded(self, value: int, message: bytes, r: int) -> tuple[BlindedCoin, int]:
        blinded, inverse = blind(self.key_of(value), message, salt=bytes(48), r=r)
        return BlindedCoin(self.denomination(value), blinded), inverse

    def denomination(self, value: int) -> bytes:
        return self.town.ring.current("USD", self.town.clock.now())[value]

    def key_of(self, value: int) -> PublicKey:
        return self.town.ring.key(self.denomination(value))

    async def have_signed(self, *coins: BlindedCoin) -> list[bytes]:
        """Withdraw: the blind signatures, in order."""
        worth = sum(self.town.ring.denomination(one.denomination).value for one in coins)
        commission = self.town.keyset.tariff.withdrawal.charge(worth)
        answer = await self.ask("withdraw", WithdrawRequest(0, commission, coins, ()))
        return [one.signature for one in WithdrawAnswer.decode(answer.check()).coins]

    async def mint(self, value: int, key: bytes, r: int = 3) -> Coin:
        """A coin of this value whose key has this seed."""
        message = message_of(self.denomination(value), public_key(key))
        asked, inverse = self.blinded(value, message, r)
        (signature,) = await self.have_signed(asked)
        return Coin(asked.denomination, public_key(key), finalize(self.key_of(value), message, signature, inverse))


@pytest.fixture
async def thief(founded: Town) -> Thief:
    caller = Thief(founded, "thief", seed("the thief's key"))
    await caller.open_account("client", 150)
    return caller


@pytest.fixture
async def keeper(founded: Town, thief: Thief) -> Caller:
    return await shopkeeper(founded)


# ---------------------------------------------------------------- coins


def products(n: int, e: int, s: int, t: int) -> dict[str, int]:
    """What can be computed from two signatures of one key without the private one."""
    return {
        "the product": s * t % n,
        "the quotient": s * pow(t, -1, n) % n,
        "the square": s * s % n,
        "the inverse": pow(s, -1, n),
        "the negative": n - s,
        "times a known root": s * 7 % n,
        "times a known power": s * pow(7, e, n) % n,
        "the e-th power": pow(s, e, n),
        "plus the modulus": s + n,
        "nothing": 0,
        "one": 1,
        "minus one": n - 1,
        "a number": int.from_bytes(seed("a number") * 7),
    }


async def test_of_two_signatures_no_third_coin_is_made(thief: Thief, keeper: Caller) -> None:
    keys = [seed("first coin"), seed("second coin"), seed("third coin")]
    first, second = [await thief.mint(1, key, 3 + number) for number, key in enumerate(keys[:2])]
    rsa = thief.key_of(1)
    numbers = [int.from_bytes(coin.signature) for coin in (first, second)]
    forged = products(rsa.n, rsa.e, *numbers)
    assert len(forged) == 13
    serials = [public_key(key) for key in keys] + [
        bytes(a ^ b for a, b in zip(first.serial, second.serial, strict=True))
    ]
    for name, number in forged.items():
        if number >= 1 << 8 * BYTES:
            continue  # does not even fit where a signature stands
        for serial in serials:
            coin = Coin(first.denomination, serial, number.to_bytes(BYTES))
            with pytest.raises(PeerError) as caught:
                check_coin(rsa, coin)
            assert caught.value.refusal is Refusal.BAD_COIN, name
    coin = Coin(first.denomination, serials[2], forged["the product"].to_bytes(BYTES))
    told = await keeper.verdict(keeper.paying(1, Purse((coin,), (keys[2],))))
    assert told.refusal == Refusal.BAD_COIN
    for coin, key in zip((first, second), keys, strict=False):
        assert (await keeper.verdict(keeper.paying(1, Purse((coin,), (key,))))).refusal == ""


async def test_of_products_of_blinded_values_signed_come_no_more_coins_than_were_paid_for(thief: Thief) -> None:
    rsa, messages = thief.key_of(1), [message_of(thief.denomination(1), seed(name)) for name in "abc"]
    asked = [thief.blinded(1, message, r) for message, r in zip(messages, (3, 5, 7), strict=True)]
    values = [int.from_bytes(one.blinded) for one, _ in asked]
    combined = [math.prod(pair) % rsa.n for pair in combinations(values, 2)]
    signed = await thief.have_signed(*(BlindedCoin(thief.denomination(1), one.to_bytes(BYTES)) for one in combined))
    found = 0
    for signature in signed:
        for message, (_, inverse) in zip(messages, asked, strict=True):
            for other in (1, *(one for _, one in asked)):
                candidate = int.from_bytes(signature) * inverse * other % rsa.n
                try:
                    verify(rsa, message, candidate.to_bytes(BYTES))
                except PeerError:
                    continue
                found += 1
    assert found == 0
    assert await thief.town.faults() == []


async def test_a_coin_of_one_key_is_none_of_another_whoever_takes_it(thief: Thief, keeper: Caller) -> None:
    values = sorted(thief.town.ring.current("USD", thief.town.clock.now()))
    assert len(values) >= 4
    keys = {value: seed(f"a coin of {value}") for value in values}
    coins = {value: await thief.mint(value, key) for value, key in keys.items()}
    for value, pretended in permutations(values, 2):
        coin = alter(coins[value], "denomination", thief.denomination(pretended))
        purse = Purse((coin,), (keys[value],))
        told = await keeper.verdict(keeper.paying(pretended, purse))
        assert told.refusal == Refusal.BAD_COIN
        request_id, body = request_of(thief, f"exchange {value} {pretended}", purse, pretended)
        assert await thief.refusal("exchange", body, request_id=request_id) == Refusal.BAD_COIN
    assert await thief.town.faults() == []


async def test_one_serial_under_two_denominations_is_two_coins_and_never_two_in_one_payment(
    thief: Thief, keeper: Caller
) -> None:
    key = seed("one key for two coins")
    one, two = await thief.mint(1, key), await thief.mint(2, key)
    assert one.serial == two.serial
    both = await keeper.verdict(keeper.paying(3, Purse((one, two), (key, key))))
    assert both.refusal == Refusal.DUPLICATE_COIN
    crossed = alter(one, "signature", two.signature)
    assert (await keeper.verdict(keeper.paying(1, Purse((crossed,), (key,))))).refusal == Refusal.BAD_COIN
    for coin, value in ((one, 1), (two, 2)):
        assert (await keeper.verdict(keeper.paying(value, Purse((coin,), (key,))))).refusal == ""
        assert (await keeper.verdict(keeper.paying(value, Purse((coin,), (key,))))).refusal == Refusal.ALREADY_SPENT
    assert await thief.town.faults() == []


async def test_a_blinded_value_that_another_account_has_had_signed_is_not_signed_again(
    thief: Thief, founded: Town
) -> None:
    victim = await client(founded)
    request_id, _, body = victim.order_coins(4, 2)
    assert await victim.refusal("withdraw", body, request_id=request_id) == ""
    assert await thief.refusal("withdraw", body) == Refusal.BLINDED_VALUE_REUSED
    assert await thief.refusal("withdraw", body, request_id=request_id) == Refusal.REQUEST_ID_REUSED
    key = seed("a coin for the exchange")
    purse = Purse((await thief.mint(4, key),), (key,))
    mine, exchange = request_of(thief, "with outputs of another", purse, 4)
    stolen = for_outputs(exchange, purse, mine, body.coins[:1])
    assert await thief.refusal("exchange", stolen, request_id=mine) == Refusal.BLINDED_VALUE_REUSED
    assert await founded.faults() == []


def for_outputs(
    request: ExchangeRequest, purse: Purse, request_id: bytes, outputs: tuple[BlindedCoin, ...]
) -> ExchangeRequest:
    """The exchange, for other outputs and rightly signed for them."""
    digest = exchange_digest(BANK, request_id, request.commission, outputs)
    spent = tuple(spend(coin, key, digest) for coin, key in zip(purse.coins, purse.seeds, strict=True))
    return ExchangeRequest(request.commission, spent, outputs)


async def test_who_has_a_coin_without_its_key_spends_it_nowhere(thief: Thief, keeper: Caller) -> None:
    """A thief of a wallet's file has coins and no keys: they derive from the seed, which the passphrase seals."""
    stolen = await thief.mint(4, seed("the owner's key"))
    for wrong in (seed("another key"), bytes(32)):
        purse = Purse((stolen,), (wrong,))
        assert (await keeper.verdict(keeper.paying(4, purse))).refusal == Refusal.BAD_SPEND_SIGNATURE
        request_id, body = request_of(thief, f"with {wrong.hex()}", purse, 4)
        assert await thief.refusal("exchange", body, request_id=request_id) == Refusal.BAD_SPEND_SIGNATURE
    owner = Purse((stolen,), (seed("the owner's key"),))
    assert (await keeper.verdict(keeper.paying(4, owner))).refusal == ""


# ---------------------------------------------------------------- letters


def letter_of(caller: Caller, body: bytes, sender: bytes) -> Letter:
    return Letter("account", seed("a request")[:16], caller.town.clock.now() + 1000, seed("answer"), sender, body)


LOOK = AccountRequest(b"", 0).encode()
SIGNERS: dict[str, Callable[[Caller, bytes, bytes], bytes]] = {
    "nobody": lambda _, letter, to: b"",
    "another user": lambda _, letter, to: sign(seed("keeper's key"), Domain.REQUEST, to, letter),
    "under another domain": lambda me, letter, to: sign(me.seed or b"", Domain.INQUIRY, to, letter),
    "for another recipient": lambda me, letter, to: sign(me.seed or b"", Domain.REQUEST, bytes(16), letter),
    "another text": lambda me, letter, to: sign(me.seed or b"", Domain.REQUEST, to, letter + b"\0"),
    "cut": lambda me, letter, to: sign(me.seed or b"", Domain.REQUEST, to, letter)[:-1],
}


async def deliver(town: Town, letter: bytes, signature: bytes) -> bool:
    """Seal a letter with this signature, and tell whether the bank answers."""
    envelope = seal(town.keyset.envelope_key, "account", msgpack.packb([letter, signature]))
    return await town.bank.handle(Incoming(topics.bank_request(BANK, 0, "account", "x"), envelope)) is not None


@pytest.mark.parametrize("name", SIGNERS)
async def test_a_letter_that_its_sender_has_not_signed_as_it_is_is_dropped(
    founded: Town, thief: Thief, keeper: Caller, name: str
) -> None:
    letter = letter_of(thief, LOOK, thief.key).encode()
    to = founded.keyset.envelope_key.key_id
    assert not await deliver(founded, letter, SIGNERS[name](thief, letter, to))
    assert founded.bank.dropped == {Refusal.BAD_SIGNATURE: 1}
    assert await deliver(founded, letter, sign(thief.seed or b"", Domain.REQUEST, to, letter))


async def test_a_letter_in_other_bytes_of_the_same_meaning_is_dropped_though_they_are_signed(
    founded: Town, thief: Thief
) -> None:
    letter = letter_of(thief, LOOK, thief.key).encode()
    to, kind = founded.keyset.envelope_key.key_id, b"\xa7account"
    assert kind in letter
    longer = {
        "text of another form": letter.replace(kind, b"\xd9\x07account", 1),
        "array of another form": b"\xdc\x00" + bytes([letter[0] & 15]) + letter[1:],
        "bytes behind": letter + b"\xc0",
    }
    for other in longer.values():
        assert not await deliver(founded, other, sign(thief.seed or b"", Domain.REQUEST, to, other))
    assert founded.bank.dropped == {Refusal.MALFORMED: len(longer)}


@pytest.mark.parametrize("key", SMALL_ORDER, ids=bytes.hex)
async def test_a_key_under_which_anybody_signs_is_never_registered(founded: Town, key: bytes) -> None:
    secret = seed("an invitation")[:16]
    await founded.books.open_account("client", "weak", "Weak", "USD", b"", hash_invitation(secret))
    letter = letter_of(Caller(founded, "weak"), AccountRequest(secret, 1).encode(), key).encode()
    assert not crypto_core_ed25519_is_valid_point(key)
    assert not await deliver(founded, letter, SMALL_ORDER[0] + bytes(32))
    assert await founded.books.account_by_key(key) is None
