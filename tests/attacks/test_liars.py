"""Banks, merchants and customers that lie about money."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from agents.client import pay as paying
from agents.client.prove import prove
from agents.client.resume import resume
from agents.proof import check_proof
from broker.port import Outgoing
from protocol.answer import refuse, seal_answer
from protocol.bank.deposit import examine
from protocol.envelope import open_letter, request_hash
from protocol.errors import PeerError
from protocol.messages import PaymentInfo, PayRequest, WithdrawAnswer
from protocol.refusals import Refusal
from protocol.wallet import payment, withdrawal
from tests.agents.byhand import Caller, client
from tests.agents.world import SHOP, Town, cash, states
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network
from tests.world import NOW, seed, world

DAY_MS = 24 * HOUR_MS
WITHDRAWALS = "ecash/v1/north/+/withdraw/+"


def to_wallets(message: Outgoing) -> bool:
    return message.topic.startswith("ecash/v1/reply/") and "/bookshop-presence/" not in message.topic


def from_shop(message: Outgoing) -> bool:
    return to_wallets(message) and message.topic.endswith(f"/{SHOP}")


# ---------------------------------------------------------------- the bank


async def test_a_bank_that_debits_and_stays_silent_for_a_month_owes_the_coins_still(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        network.loses = to_wallets
        network.published.clear()
        task = asyncio.create_task(cash(alice, 40))
        await network.wait_for(1, "ecash/v1/reply/+/north")
        clock.advance(DAY_MS)
        row = await task
        assert row.open
        for _ in range(29):
            clock.advance(DAY_MS)
            (row,) = await resume(alice, patience_ms=0)
            assert isinstance(row.state, withdrawal.Requested)
        assert await town.books.balance(1002) == 56, "debited, once"
        network.loses = lambda _: False
        (row,) = await resume(alice)
        assert row.state == withdrawal.Issued(40, 4)
        assert await states(alice) == {"free": 40}
    assert len({message.payload for message in network.heard(WITHDRAWALS)}) == 1
    assert await town.faults() == []


LIES: dict[str, Callable[[WithdrawAnswer], WithdrawAnswer]] = {
    "nothing": lambda told: msgspec.structs.replace(told, coins=()),
    "one too few": lambda told: msgspec.structs.replace(told, coins=told.coins[:-1]),
    "one too many": lambda told: msgspec.structs.replace(told, coins=(*told.coins, told.coins[0])),
    "permuted": lambda told: msgspec.structs.replace(told, coins=told.coins[::-1]),
    "all the same": lambda told: msgspec.structs.replace(told, coins=(told.coins[0],) * len(told.coins)),
    "zeros": lambda told: each(told, lambda _: bytes(256)),
    "ones": lambda told: each(told, lambda _: bytes(255) + b"\1"),
    "all bits": lambda told: each(told, lambda _: b"\xff" * 256),
    "one bit": lambda told: each(told, lambda signature: signature[:-1] + bytes([signature[-1] ^ 1])),
    "the other end": lambda told: each(told, lambda signature: signature[::-1]),
    "another sum": lambda told: msgspec.structs.replace(told, amount=told.amount + 1),
    "another commission": lambda told: msgspec.structs.replace(told, commission=told.commission + 1),
}


def each(told: WithdrawAnswer, change: Callable[[bytes], bytes]) -> WithdrawAnswer:
    coins = tuple(msgspec.structs.replace(one, signature=change(one.signature)) for one in told.coins)
    return msgspec.structs.replace(told, coins=coins)


USELESS = {"nothing", "zeros", "ones", "all bits", "one bit", "the other end"}
GOOD_ALL_THE_SAME = {"one too many", "another sum", "another commission"}


async def test_whatever_a_bank_answers_only_what_verifies_counts_and_its_answer_is_kept(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = WithdrawAnswer.encode
    assert len(LIES) == 12
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 200)
        for what, lie in LIES.items():
            before = (await states(alice)).get("free", 0)
            with monkeypatch.context() as patch:
                patch.setattr(WithdrawAnswer, "encode", lambda self, lie=lie: true(lie(self)))
                row = await cash(alice, 7)
            assert isinstance(row.state, withdrawal.Disputed), what
            assert row.state.envelope, what
            assert row.state.answer, what
            counted = (await states(alice)).get("free", 0) - before
            assert 0 <= counted <= 7, what
            assert counted == 0 or what not in USELESS, what
            assert counted == 7 or what not in GOOD_ALL_THE_SAME, what
    assert await town.faults() == []


# ---------------------------------------------------------------- the merchant


async def test_a_merchant_that_deposits_and_says_that_it_did_not_is_found_out_by_the_banks_verdict(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    keys = town.shop.desk.keys
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        quote = await town.order(alice, requester)
        network.loses = from_shop
        task = asyncio.create_task(paying.pay(alice, quote, requester, patience_ms=DAY_MS))
        (asked,) = await network.wait_for(1, f"ecash/v1/{SHOP}/pay/+")
        letter = open_letter(keys.envelope, asked.payload, "pay")
        no = refuse(clock.now(), PeerError(Refusal.UNKNOWN_SALE, "what sale?"))
        lie = seal_answer(keys.identity, letter.answer_key, letter.request_id, request_hash(asked.payload), no)
        network.loses = lambda _: False
        network.inject(f"ecash/v1/reply/{asked.topic.split('/')[-1]}/{SHOP}", lie)
        network.loses = from_shop
        while not any(isinstance(row.state, payment.Waiting) for row in await alice.store.exchanges()):
            pass  # to read the file takes a moment
        assert await states(alice) == {"free": 7, "reserved": 13}, "no coin comes back on a merchant's word"
        while not (await town.books.snapshot()).payments:
            pass
        clock.advance(HOUR_MS)
        while not any(isinstance(row.state, payment.Unreceipted) for row in await alice.store.exchanges()):
            pass
        assert await states(alice) == {"free": 7}
        clock.advance(2 * DAY_MS)
        row = await task
        assert not isinstance(row.state, payment.Refused | payment.Released)
        proof = check_proof(await prove(alice, row, {0}), town.address)
        assert (proof.info.amount, proof.pinned) == (13, True), "the bank says so itself, and anybody can check it"
    assert await town.faults() == []


def test_a_merchant_that_alters_any_bit_of_a_payment_gets_nothing() -> None:
    town = world()
    data, parcel = town.info.encode(), town.parcel()
    unread = refused = 0
    for place in range(len(data)):
        for bit in range(8):
            forged = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            try:
                info = PaymentInfo.decode(forged)
            except PeerError:
                unread += 1
                continue
            with pytest.raises(PeerError) as caught:
                examine(info, parcel.encode, town.ring, NOW)
            assert caught.value.refusal in {Refusal.PAYMENT_ALTERED, Refusal.PAYMENT_EXPIRED}
            refused += 1
    assert unread + refused == 8 * len(data)
    assert refused > 1000


# ---------------------------------------------------------------- customers


async def test_a_customer_cannot_claim_the_goods_with_the_payment_of_another(town: Town, network: Network) -> None:
    """Who has overheard a whole payment, even opened, does not know the salt that fetches receipt and goods."""
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        row = await town.buy(alice)
        assert isinstance(row.state, payment.Paid)
        info = row.note.info
    mallory = Caller(town, "mallory")
    for salt in (bytes(16), seed("a guess")[:16], PaymentInfo.decode(info).payment_id):
        asking = mallory.seal("pay", PayRequest(info, b"", salt), to=town.shop.desk.keys.envelope.public)
        sealed = await mallory.send_to_shop(asking)
        assert sealed is not None
        assert mallory.open(asking, sealed, town.shop.desk.keys.public).refusal == Refusal.UNKNOWN_SALE


async def test_two_merchants_who_share_a_customers_coins_are_credited_once(founded: Town) -> None:
    alice = await client(founded)
    purse = await alice.withdraw(8)
    shops = []
    for name in ("first", "second"):
        shop = Caller(founded, name, seed(f"{name} shop's key"))
        number = await shop.open_account("merchant")
        shops.append((shop, number))
    requests = [(shop, shop.deposit(shop.info(8, purse, account=number), purse)) for shop, number in shops]
    told = await asyncio.gather(*(shop.verdict(request) for shop, request in requests))
    assert sorted(one.refusal for one in told) == ["", Refusal.ALREADY_SPENT]
    assert sum([await founded.books.balance(number) for _, number in shops]) == 8 - 1
    for (shop, _), (_, request) in zip(shops, requests[::-1], strict=True):
        assert (await shop.ask("deposit", request)).refusal == Refusal.WRONG_MERCHANT, "nobody deposits for another"
    assert await founded.faults() == []
