import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agents.bank.home import sign_keyset
from agents.client import pay as paying
from agents.client.pay import Quote
from agents.client.store import ExchangeRow
from agents.client.wallet import Wallet, WalletError
from agents.merchant.till import Till
from agents.requester import NobodyAnswers
from broker.port import Outgoing
from protocol import topics
from protocol.errors import PeerError
from protocol.messages import OrderLine, Payreq, Receipt, Signed
from protocol.refusals import Refusal
from protocol.wallet import payment
from tests.agents.world import BANK, SHOP, Town, cash, copy_file, states
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network
from tests.world import alter

DAY_MS = 24 * HOUR_MS
PAY = f"ecash/v1/{SHOP}/pay/+"
INQUIRY = f"ecash/v1/{BANK}/+/verdict/+"


def from_shop(message: Outgoing) -> bool:
    return message.topic.startswith("ecash/v1/reply/") and message.topic.endswith(f"/{SHOP}")


def to_shop(message: Outgoing) -> bool:
    return message.topic.startswith(f"ecash/v1/{SHOP}/pay/")


async def pay_until_late(
    town: Town, network: Network, clock: VirtualClock, wallet: Wallet, loses: Callable[[Outgoing], bool]
) -> ExchangeRow:
    """Order; then lose messages until the payment's deposit-before has passed."""
    async with wallet.presence(town.address.broker) as requester:
        quote = await town.order(wallet, requester)
        network.loses = loses
        task = asyncio.create_task(paying.pay(wallet, quote, requester, patience_ms=DAY_MS))
        await network.wait_for(1, PAY)
        assert await states(wallet) == {"free": 7, "reserved": 13}
        clock.advance(HOUR_MS)
        return await task


# ---------------------------------------------------------------- the payment request


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"keyset": bytes(32)}, Refusal.FOREIGN_KEYSET),
        ({"expires": 1}, Refusal.SALE_EXPIRED),
        ({"account": 77}, Refusal.WRONG_MERCHANT),
        ({"bank": "south"}, Refusal.WRONG_BANK),
        ({"currency": "EUR"}, Refusal.WRONG_CURRENCY),
    ],
)
async def test_a_payment_request_that_is_wrong_is_refused_before_a_coin_is_touched(
    town: Town, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], refusal: Refusal
) -> None:
    monkeypatch.setattr("agents.merchant.till.Payreq", lambda **fields: Payreq(**fields | changes))
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        with pytest.raises(PeerError) as caught:
            await town.order(alice, requester)
        assert caught.value.refusal is refusal


async def test_a_payment_request_under_another_signature_is_refused(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Signed.make

    def swell(seed: bytes, domain: Any, statement: Payreq) -> Signed:
        signed = make(seed, domain, statement)
        return Signed(alter(statement, "amount").encode(), signed.signature)

    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        monkeypatch.setattr("agents.merchant.till.Signed.make", swell)
        with pytest.raises(PeerError) as caught:
            await town.order(alice, requester)
        assert caught.value.refusal is Refusal.BAD_SIGNATURE


async def test_a_wallet_that_sees_another_keyset_than_the_merchant_pays_nothing(town: Town, network: Network) -> None:
    newer = msgspec.structs.replace(town.keyset, number=1, chain=(town.keyset.hash,))
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        network.loses = lambda message: False
        alice_only = sign_keyset(town.mint.keys.identity, newer)
        network._retained[topics.keys(BANK)] = alice_only
        with pytest.raises(PeerError, match="another keyset"):
            await town.order(alice, requester)


async def test_an_unknown_item_is_refused(town: Town) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 0)
        with pytest.raises(PeerError) as caught:
            await town.order(alice, requester, "unicorn")
        assert caught.value.refusal is Refusal.UNKNOWN_ITEM


async def test_a_merchant_that_is_not_there_is_told(founded: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await founded.start_bank()
    async with founded.open_wallet("alice") as alice, alice.presence(founded.address.broker) as requester:
        await founded.customer(alice, "alice", 0)
        monkeypatch.setattr("agents.requester.Requester.retained.__defaults__", (0.05,))
        with pytest.raises(NobodyAnswers, match=r"bookshop/catalog"):
            await paying.order(alice, alice.bank(), SHOP, [OrderLine("novel", 1)], requester)


# ---------------------------------------------------------------- the coins


async def test_the_amount_is_assembled_exactly_from_the_coins_in_hand(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 31)
        async with alice.presence(town.address.broker) as requester:
            for sku, amount in (("novel", 13), ("card", 5)):
                coins = await paying.assemble(alice, await town.order(alice, requester, sku))
                assert sum(coin.value for coin in coins) == amount
        assert await states(alice) == {"free": 31}
        assert len(await alice.store.exchanges()) == 1


async def test_missing_coins_are_withdrawn_without_being_asked(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        row = await town.buy(alice)
        assert isinstance(row.state, payment.Paid)
        assert {row.kind for row in await alice.store.exchanges()} == {"withdraw", "pay"}
        assert await town.faults() == []


async def test_without_money_nothing_is_paid_and_the_owner_told_why(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 13)
        with pytest.raises(WalletError, match="bring money to the bank first"):
            await town.buy(alice)


async def test_two_payments_at_once_never_share_a_coin(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 26)
        outcomes = await asyncio.gather(town.buy(alice), town.buy(alice, "card"), return_exceptions=True)
        paid = [row for row in outcomes if isinstance(row, ExchangeRow)]
        assert paid
        assert all(isinstance(row.state, payment.Paid) for row in paid)
        assert await town.faults() == []


async def test_a_copied_wallet_that_spends_twice_is_told_kindly_and_keeps_the_rest(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
    copy_file(town.folder / "alice.db", town.folder / "backup.db")
    async with town.open_wallet("alice") as alice:
        assert isinstance((await town.buy(alice, "card")).state, payment.Paid)
    async with town.open_wallet("backup", seed="alice", device="alice") as backup:
        row = await town.buy(backup)
        assert isinstance(row.state, payment.Refused)
        assert (row.state.refusal, row.state.spent > 0) == (Refusal.ALREADY_SPENT, True)
        left = (await states(backup))["free"]
        assert 15 <= left < 20
        while left > 15:  # some coins of the card were not among those of the novel
            row = await town.buy(backup, "card")
            assert not row.open
            left = (await states(backup)).get("free", 0)
    assert await town.faults() == []


# ---------------------------------------------------------------- who is silent, lies, or loses the receipt


async def test_a_paid_exchange_keeps_what_it_takes_to_prove_it(town: Town) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        quote = await town.order(alice, requester)
        row = await paying.pay(alice, quote, requester, code="Bluesky", payer_function="sha3-256")
        assert isinstance(row.state, payment.Paid)
        receipt = Receipt.decode(Signed.decode(row.state.receipt).statement)
        assert receipt.goods == "https://shop.example/novel.epub"
        assert (row.note.merchant, row.note.order) == (SHOP, ("1 × A novel of manners",))
        assert b"Bluesky" not in row.note.code + row.note.info


async def test_when_the_merchant_never_answers_the_coins_are_free_again_after_the_last_moment(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        row = await pay_until_late(town, network, clock, alice, to_shop)
        assert isinstance(row.state, payment.Released)
        assert await states(alice) == {"free": 20}
        assert len(network.heard(INQUIRY)) == 1
        network.loses = lambda _: False
        assert isinstance((await town.buy(alice)).state, payment.Paid)
        assert await town.faults() == []


async def test_before_the_last_moment_coins_come_back_for_nothing(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        quote = await town.order(alice, requester)
        network.loses = to_shop
        task = asyncio.create_task(paying.pay(alice, quote, requester, patience_ms=DAY_MS))
        for sent in range(1, 6):
            await network.wait_for(sent, PAY)
            clock.advance(60_000)
        assert not task.done()
        assert await states(alice) == {"free": 7, "reserved": 13}
        assert network.heard(INQUIRY) == []
        network.loses = lambda _: False
        assert (await network.wait_for(6, PAY))[-1].payload == network.heard(PAY)[0].payload
        assert isinstance((await task).state, payment.Paid)


async def test_when_the_receipt_is_lost_the_bank_tells_that_it_was_paid_and_the_receipt_is_asked_for_again(
    town: Town, network: Network, clock: VirtualClock
) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        quote = await town.order(alice, requester)
        network.loses = from_shop
        task = asyncio.create_task(paying.pay(alice, quote, requester, patience_ms=DAY_MS))
        await network.wait_for(2, f"ecash/v1/reply/+/{SHOP}")
        clock.advance(HOUR_MS)
        await network.wait_for(2, PAY)
        assert len(network.heard(INQUIRY)) == 1
        assert await states(alice) == {"free": 7}
        network.loses = lambda _: False
        clock.advance(HOUR_MS)
        row = await task
        assert isinstance(row.state, payment.Paid)
        assert row.state.receipt
        assert len({message.payload for message in network.heard(PAY)}) == 1


async def test_a_merchant_that_refuses_could_be_lying_so_the_wallet_waits_and_asks(
    town: Town, network: Network, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(till: Till, request: Any, body: Any) -> None:
        raise PeerError(Refusal.UNKNOWN_SALE, "what sale?")

    monkeypatch.setattr(Till, "_pay", refuse)
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        quote = await town.order(alice, requester)
        task = asyncio.create_task(paying.pay(alice, quote, requester, patience_ms=DAY_MS))
        await network.wait_for(2, f"ecash/v1/reply/+/{SHOP}")
        while not any(isinstance(row.state, payment.Waiting) for row in await alice.store.exchanges()):
            pass
        assert await states(alice) == {"free": 7, "reserved": 13}
        clock.advance(HOUR_MS)
        assert isinstance((await task).state, payment.Released)
        assert await states(alice) == {"free": 20}


async def test_patience_ends_and_the_payment_stays_open(town: Town, network: Network, clock: VirtualClock) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        quote: Quote = await town.order(alice, requester)
        network.loses = to_shop
        row = await paying.pay(alice, quote, requester, patience_ms=0)
        assert row.open
        assert isinstance(row.state, payment.Paying)


async def test_a_receipt_that_is_forged_is_dropped_and_the_true_one_counts(
    town: Town, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        quote = await town.order(alice, requester)
        genuine: list[Outgoing] = []

        def keep(message: Outgoing) -> bool:
            if from_shop(message) and not genuine:
                genuine.append(message)
                return True
            return False

        network.loses = keep
        task = asyncio.create_task(paying.pay(alice, quote, requester, patience_ms=DAY_MS))
        (_, message) = await network.wait_for(2, f"ecash/v1/reply/+/{SHOP}")
        assert genuine == [message]
        network.inject(message.topic, message.payload[:-1] + bytes([message.payload[-1] ^ 1]))
        network.inject(message.topic, message.payload)
        assert isinstance((await task).state, payment.Paid)
        assert "an answer was dropped" in caplog.text
