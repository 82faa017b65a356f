import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agents.bank.desks import DESKS
from agents.bank.home import sign_keyset
from agents.client import pay as paying
from agents.client.evidence import evidence_of
from agents.client.pay import Quote
from agents.client.resume import resume
from agents.client.show import describe
from agents.client.store import CoinsTaken, ExchangeRow
from agents.client.wallet import Wallet, WalletError
from agents.merchant.till import Till
from agents.requester import NobodyAnswers
from broker.port import Outgoing
from protocol import topics
from protocol.errors import PeerError
from protocol.messages import OrderLine, Payreq, Receipt, Signed
from protocol.refusals import Refusal
from protocol.wallet import exchange, payment, withdrawal
from tests.agents.world import BANK, SHOP, Town, cash, copy_file, states
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network
from tests.world import alter

from .purses import EXCHANGES, answers, cash_as, exchange_requests, nothing

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
    monkeypatch.setattr("agents.merchant.offers.Payreq", lambda **fields: Payreq(**fields | changes))
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


async def test_a_merchant_that_has_not_seen_the_newest_keyset_yet_is_paid(town: Town, network: Network) -> None:
    newer = msgspec.structs.replace(town.keyset, number=1, chain=(town.keyset.hash,))
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        network._retained[topics.keys(BANK)] = sign_keyset(town.mint.keys.identity, newer)
        quote = await town.order(alice, requester)
        assert (quote.bank.keyset, quote.payreq.keyset) == (newer, town.keyset.hash)
        assert isinstance((await paying.pay(alice, quote, requester)).state, payment.Paid)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_merchant_that_has_seen_a_newer_keyset_is_paid_if_the_wallet_can_fetch_it(
    town: Town, network: Network, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    newer = msgspec.structs.replace(town.keyset, number=1, chain=(town.keyset.hash,))

    def ask(**fields: Any) -> Payreq:
        if announced:
            network._retained[topics.keys(BANK)] = sign_keyset(town.mint.keys.identity, newer)
        return Payreq(**fields | {"keyset": newer.hash})

    monkeypatch.setattr("agents.merchant.offers.Payreq", ask)
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        if announced:
            assert (await town.order(alice, requester)).bank.keyset == newer
        else:
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
        for row in await asyncio.gather(town.buy(alice), town.buy(alice, "card")):
            assert isinstance(row.state, payment.Paid)
        assert await states(alice) == {"free": 8}
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


# ---------------------------------------------------------------- coins that do not make the sum


async def test_coins_that_cannot_make_the_sum_are_changed_first_and_it_is_told(
    town: Town, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ExchangeRow] = []
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, 4, 4, 4, 4)
        quote = await town.order(alice, requester)
        step = await paying.next_step(alice, quote)
        assert isinstance(step, paying.Change)
        assert (step.plan.inputs, step.plan.commission, step.purpose) == ({4: 1}, 0, "change")
        row = await paying.pay(alice, quote, requester, tell=told.append)
        assert isinstance(row.state, payment.Paid)
        assert [describe(step) for step in told] == ["Changed 0.04 USD for smaller coins."]
        assert await states(alice) == {"free": 3}
    assert len(network.heard("ecash/v1/north/+/withdraw/+")) == 1
    assert await town.faults() == []


async def test_coins_worth_too_little_are_joined_by_a_withdrawal_of_a_stock(
    town: Town, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ExchangeRow] = []
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, 4, 4)
        quote = await town.order(alice, requester)
        assert isinstance(await paying.next_step(alice, quote), paying.Shortfall)
        assert isinstance((await paying.pay(alice, quote, requester, tell=told.append)).state, payment.Paid)
        assert [(step.kind, step.note.amount) for step in told] == [("withdraw", 32)]
    assert network.heard(EXCHANGES) == []


async def test_what_the_account_holds_is_enough_together_with_what_is_in_hand(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 and a commission of 10 % fetch 4 coins of 4; 10 are left: 9 and a commission."""
    told: list[ExchangeRow] = []
    async with town.open_wallet("alice") as alice, alice.presence(town.address.broker) as requester:
        await town.customer(alice, "alice", 19)
        await cash_as(monkeypatch, alice, 4, 4)
        quote = await town.order(alice, requester)
        assert isinstance((await paying.pay(alice, quote, requester, tell=told.append)).state, payment.Paid)
        states_of = [type(step.state) for step in told]
        assert states_of == [withdrawal.Issued]
        assert await states(alice) == {}
    assert await town.faults() == []


@pytest.mark.parametrize("loses", [exchange_requests, answers])
async def test_a_change_whose_answer_is_lost_goes_on_over_a_restart_and_nothing_is_lost(
    town: Town,
    network: Network,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    loses: Callable[[Outgoing], bool],
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, 4, 4, 4, 4)
        async with alice.presence(town.address.broker) as requester:
            quote = await town.order(alice, requester)
            network.loses = loses
            task = asyncio.create_task(paying.pay(alice, quote, requester))
            await network.wait_for(1, EXCHANGES)
            clock.advance(60_000)
            with pytest.raises(WalletError, match="has not ended yet"):
                await task
        assert await states(alice) == {"free": 12, "reserved": 4}
    network.loses = nothing
    async with town.open_wallet("alice") as alice:
        (row,) = await resume(alice)
        assert row.state == exchange.Exchanged(4)
        assert await states(alice) == {"free": 16}
        assert isinstance((await town.buy(alice)).state, payment.Paid)
        assert await states(alice) == {"free": 3}
    assert len({message.payload for message in network.heard(EXCHANGES)}) == 1
    assert await town.faults() == []


async def test_an_old_copy_of_the_wallet_pays_with_what_is_really_left(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ExchangeRow] = []
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, *[4] * 8)
    copy_file(town.folder / "alice.db", town.folder / "backup.db")
    async with town.open_wallet("alice") as alice:
        assert isinstance((await town.buy(alice, "card")).state, payment.Paid)
    async with town.open_wallet("backup", seed="alice", device="alice") as backup:
        async with backup.presence(town.address.broker) as requester:
            quote = await town.order(backup, requester)
            row = await paying.pay(backup, quote, requester, tell=told.append)
        *refused, changed = [step.state for step in told]
        assert isinstance(changed, exchange.Exchanged)
        assert refused
        assert all(isinstance(state, exchange.Refused) and state.spent == 1 for state in refused)
        assert isinstance(row.state, payment.Paid | payment.Refused)
        while isinstance(row.state, payment.Refused):
            row = await town.buy(backup)
        assert isinstance(row.state, payment.Paid)
    assert await town.faults() == []


async def test_coins_that_are_always_taken_by_others_end_in_an_error(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(*_: object) -> ExchangeRow:
        raise CoinsTaken("a coin is not free")

    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, 4, 4, 4, 4)
        monkeypatch.setattr(paying, "carry_out", taken)
        with pytest.raises(WalletError, match="cannot make"):
            await town.buy(alice)
        monkeypatch.undo()
        monkeypatch.setattr(paying, "advance", taken)
        with pytest.raises(CoinsTaken):
            await town.buy(alice)
        assert await states(alice) == {"free": 16}


@pytest.mark.parametrize(
    ("refusal", "error"),
    [(Refusal.COMMISSION_CHANGED, "the bank refuses"), (Refusal.DENOMINATION_CLOSED, "the bank refuses")],
)
async def test_a_change_that_the_bank_refuses_ends_the_payment_with_its_reason(
    town: Town, monkeypatch: pytest.MonkeyPatch, refusal: Refusal, error: str
) -> None:
    async def refuse(*_: object) -> bytes:
        raise PeerError(refusal, "not today")

    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, 4, 4, 4, 4)
        monkeypatch.setitem(DESKS, "exchange", refuse)
        with pytest.raises(WalletError, match=f"{error}: not today"):
            await town.buy(alice)
        assert await states(alice) == {"free": 16}


async def test_nobody_can_join_account_exchange_and_payment_by_their_client_ids(
    town: Town, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash_as(monkeypatch, alice, 4, 4, 4, 4, 4)
        await town.buy(alice)
        await cash_as(monkeypatch, alice, 4, 4, 4, 4)
        await town.buy(alice)
    kinds: dict[str, set[str]] = {}
    for message in network.published:
        kind, client = message.topic.split("/")[-2:]
        if kind in ("account", "withdraw", "exchange", "order", "pay") and "presence" not in client:
            kinds.setdefault(client, set()).add(kind)
    presences = sorted(sorted(one) for one in kinds.values())
    assert presences.count(["exchange"]) == len(network.heard(EXCHANGES)) > 0
    assert [one for one in presences if one != ["exchange"]] == [["account"]] + [["order", "pay"]] * 2 + [
        ["withdraw"]
    ] * 2


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


async def test_a_bank_that_refuses_its_verdict_for_good_is_in_dispute_and_its_answer_is_kept(
    town: Town, network: Network, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> bytes:
        raise PeerError(Refusal.BAD_SPEND_SIGNATURE, "the coin was not spent on this payment")

    monkeypatch.setitem(DESKS, "verdict", refuse)
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        await cash(alice, 20)
        row = await pay_until_late(town, network, clock, alice, to_shop)
        assert isinstance(row.state, payment.Disputed)
        assert not row.open
        assert await states(alice) == {"free": 7, "aside": 13}
        assert f"ecash wallet show {row.id.hex()[:8]}" in describe(row)
        kept = evidence_of(row.state)
        assert (kept["inquiry"], kept["verdict"]) == (row.state.payment.inquiry, b"")
        answer = alice.open_from_bank(alice.bank(), row.state.payment.inquiry_id, kept["inquiry"], kept["answer"])
        assert answer.refusal == Refusal.BAD_SPEND_SIGNATURE


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
