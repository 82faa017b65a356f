from collections.abc import AsyncIterator

import pytest

from agents.client import transfer as giving
from agents.client.exchange import Inputs, exchange
from agents.client.inbox import bank_of, receive
from agents.client.resume import resume
from agents.client.show import describe, outcome_of
from agents.client.store import ExchangeRow
from agents.client.transfer import DAY_MS, Gift, broker_of, give, look, take_back, token_of
from agents.client.wallet import Bank, Wallet, WalletError
from broker.port import Outgoing
from protocol import topics
from protocol.errors import PeerError
from protocol.money import Amount
from protocol.refusals import Refusal
from protocol.token import QR_COINS, Token
from protocol.topics import BankRequest, Reply
from protocol.wallet import exchange as exchanging
from protocol.wallet.transfer import Claimed, Closing, Sent, TakenBack
from tests.agents.world import Town, cash, states
from tests.simulation.clock import VirtualClock
from tests.simulation.network import Network


@pytest.fixture
async def alice(town: Town) -> AsyncIterator[Wallet]:
    async with town.open_wallet("alice") as wallet:
        await town.customer(wallet, "alice", 100)
        await cash(wallet, 40)
        yield wallet


@pytest.fixture
async def bob(town: Town) -> AsyncIterator[Wallet]:
    async with town.open_wallet("bob") as wallet:
        yield wallet


async def trusting(_: object) -> bool:
    return True


async def distrusting(_: object) -> bool:
    return False


def usd(value: int) -> Gift:
    return Gift(Amount(value, "USD"), "for the tea")


async def given(wallet: Wallet, value: int) -> tuple[ExchangeRow, Token]:
    row = await give(wallet, wallet.bank(), usd(value))
    return row, await token_of(wallet, row)


async def claim(wallet: Wallet, token: Token) -> ExchangeRow:
    bank = await bank_of(wallet, token, trusting)
    return (await receive(wallet, bank, token)).row


async def test_a_text_carries_coins_to_a_wallet_that_does_not_even_know_the_bank(
    town: Town, alice: Wallet, bob: Wallet
) -> None:
    row, token = await given(alice, 13)
    assert isinstance(row.state, Sent)
    assert await states(alice) == {"free": 27, "reserved": 13}
    received = await claim(bob, Token.parse(str(token).lower()))
    assert received.state == exchanging.Exchanged(13)
    assert "Received 0.13 USD" in describe(received)
    assert await states(bob) == {"free": 13}
    row = await look(alice, row)
    assert row.state == Claimed()
    assert outcome_of(row)["state"] == "claimed"
    assert await states(alice) == {"free": 27}
    assert await town.faults() == []


async def test_giving_needs_no_network_where_coins_make_the_amount(town: Town, network: Network, alice: Wallet) -> None:
    before = len(network.published)
    await given(alice, 13)
    assert len(network.published) == before


async def test_the_token_is_the_same_each_time_and_stands_in_no_file(town: Town, alice: Wallet) -> None:
    row, token = await given(alice, 13)
    assert token.memo == "for the tea"
    assert str(await token_of(alice, await alice.store.exchange(row.id))) == str(token)
    stored = (town.folder / "alice.db").read_bytes() + (town.folder / "alice.db-wal").read_bytes()
    assert not any(coin.seed in stored for coin in token.coins)
    await take_back(alice, row)
    with pytest.raises(WalletError, match="taken back"):
        await token_of(alice, await alice.store.exchange(row.id))


async def test_too_many_coins_for_a_code_are_changed_first(town: Town, alice: Wallet) -> None:
    bank = await only_pennies(town, alice)
    row = await give(alice, bank, usd(10))
    token = await token_of(alice, row)
    assert len(token.coins) <= QR_COINS
    assert (await states(alice))["reserved"] == 10
    assert await town.faults() == []


async def only_pennies(town: Town, wallet: Wallet) -> Bank:
    """Exchange coins until twelve of the smallest value are free, and nothing else."""
    bank = wallet.bank()
    held = await wallet.store.coins(bank.row.name, "USD")
    inputs, worth = [], 0
    for one in sorted(held, key=lambda one: -one.value):
        if worth + one.value <= 12:
            inputs.append(one)
            worth += one.value
    assert worth == 12
    penny = town.ring.current("USD", town.clock.now())[1]
    row = await exchange(wallet, bank, Inputs(inputs), [penny] * 12, 0, "change")
    assert isinstance(row.state, exchanging.Exchanged)
    rest = [one.coin.serial for one in await wallet.store.coins(bank.row.name, "USD") if one.value > 1]
    await wallet.store.move(rest, "free", "aside")
    return bank


@pytest.mark.parametrize("value", [0, 41, 1000])
async def test_what_the_coins_cannot_make_is_not_given(alice: Wallet, value: int) -> None:
    with pytest.raises(WalletError, match=r"cannot"):
        await given(alice, value)
    assert await states(alice) == {"free": 40}


async def test_coins_that_do_not_last_are_not_given(alice: Wallet) -> None:
    with pytest.raises(WalletError, match="fewer days"):
        await give(alice, alice.bank(), Gift(Amount(13, "USD"), days=40_000))


async def test_a_memo_that_moves_the_cursor_is_not_sent(alice: Wallet) -> None:
    with pytest.raises(PeerError):
        await give(alice, alice.bank(), Gift(Amount(13, "USD"), "\x1b[2J"))
    assert await states(alice) == {"free": 40}


class TestTwiceTheSame:
    async def test_who_has_a_token_already_is_told_so(self, alice: Wallet, bob: Wallet, network: Network) -> None:
        _, token = await given(alice, 13)
        first = await claim(bob, token)
        before = len(network.published)
        again = await receive(bob, bob.bank(), token)
        assert again.again
        assert again.row.id == first.id
        assert len(network.published) == before
        assert await states(bob) == {"free": 13}

    async def test_the_second_of_two_receivers_is_shown_evidence(self, town: Town, alice: Wallet, bob: Wallet) -> None:
        _, token = await given(alice, 13)
        await claim(bob, token)
        async with town.open_wallet("carol") as carol:
            row = await claim(carol, token)
            assert isinstance(row.state, exchanging.Refused)
            assert row.state.refusal == Refusal.ALREADY_SPENT
            assert row.state.spent == len(token.coins)
            assert "has given them to somebody else" in describe(row)
            assert await states(carol) == {}
        assert await town.faults() == []

    async def test_a_sender_who_spends_the_coins_first_is_found_out(
        self, town: Town, alice: Wallet, bob: Wallet
    ) -> None:
        _, token = await given(alice, 13)
        async with town.open_wallet("copy", seed="alice", device="copy") as copy:
            await claim(copy, token)
        row = await claim(bob, token)
        assert isinstance(row.state, exchanging.Refused)
        assert await states(bob) == {}
        assert await town.faults() == []


class TestTakingBack:
    async def test_what_was_not_claimed_comes_back_as_fresh_coins_and_the_token_is_void(
        self, town: Town, alice: Wallet, bob: Wallet
    ) -> None:
        row, token = await given(alice, 13)
        row = await take_back(alice, row)
        assert row.state == TakenBack(len(token.coins), 0)
        assert await states(alice) == {"free": 40}
        refused = await claim(bob, token)
        assert isinstance(refused.state, exchanging.Refused)
        assert await town.faults() == []

    async def test_what_is_claimed_cannot_be_taken_back(self, alice: Wallet, bob: Wallet) -> None:
        row, token = await given(alice, 13)
        await claim(bob, token)
        row = await take_back(alice, row)
        assert row.state == Claimed()
        assert await take_back(alice, row) == row
        assert await states(alice) == {"free": 27}

    async def test_what_is_claimed_in_part_comes_back_in_part(self, town: Town, alice: Wallet, bob: Wallet) -> None:
        row, token = await given(alice, 13)
        part = Token(*(*(getattr(token, name) for name in token.__struct_fields__[:-1]), token.coins[:1]))
        first = await claim(bob, part)
        assert isinstance(first.state, exchanging.Exchanged)
        assert isinstance((await look(alice, row)).state, Sent), "there is time for the rest"
        row = await take_back(alice, row)
        assert row.state == TakenBack(len(token.coins) - 1, 1)
        assert "1 coins were claimed" in describe(row)
        assert await states(alice) == {"free": 40 - first.state.amount}
        assert await town.faults() == []

    async def test_a_token_comes_back_by_itself_when_its_time_is_over(
        self, town: Town, clock: VirtualClock, alice: Wallet
    ) -> None:
        row, _ = await given(alice, 13)
        assert await resume(alice) == [], "it was looked at a moment ago"
        clock.advance(2 * DAY_MS)
        (row,) = await resume(alice)
        assert isinstance(row.state, Sent)
        clock.advance(5 * DAY_MS)
        (row,) = await resume(alice)
        assert isinstance(row.state, TakenBack)
        assert await states(alice) == {"free": 40}
        assert await resume(alice) == []

    async def test_while_the_bank_is_away_the_coins_stay_reserved_and_the_next_time_goes_on(
        self, town: Town, network: Network, clock: VirtualClock, alice: Wallet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row, _ = await given(alice, 13)

        async def crash(*_: object) -> None:
            raise ConnectionAbortedError

        with monkeypatch.context() as patch:
            patch.setattr(giving, "spent_among", crash)
            with pytest.raises(ConnectionAbortedError):
                await take_back(alice, row)
        assert await states(alice) == {"free": 27, "reserved": 13}
        clock.advance(DAY_MS)
        (row,) = await resume(alice)
        assert isinstance(row.state, TakenBack)
        assert await states(alice) == {"free": 40}

    async def test_who_crashes_before_the_coins_are_fresh_has_them_unverified(
        self, alice: Wallet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row, _ = await given(alice, 13)

        async def crash(*_: object) -> None:
            raise ConnectionAbortedError

        with monkeypatch.context() as patch:
            patch.setattr(giving, "verify", crash)
            with pytest.raises(ConnectionAbortedError):
                await take_back(alice, row)
        assert await states(alice) == {"free": 27, "unverified": 13}
        row = await take_back(alice, await alice.store.exchange(row.id))
        assert isinstance(row.state, TakenBack)
        assert await states(alice) == {"free": 40}


class TestReceiving:
    async def test_a_receiver_whose_answer_is_lost_gets_it_the_next_time(
        self, town: Town, network: Network, alice: Wallet
    ) -> None:
        _, token = await given(alice, 13)
        async with town.open_wallet("bob") as bob:
            bank = await bank_of(bob, token, trusting)
            network.loses = lambda message: message.topic.startswith("ecash/v1/reply/")
            row = (await receive(bob, bank, token, patience_ms=0)).row
            assert isinstance(row.state, exchanging.Requested)
            assert await states(bob) == {}
            assert (await receive(bob, bank, token)).again
        network.loses = nothing
        async with town.open_wallet("bob") as bob:
            (row,) = await resume(bob)
            assert row.state == exchanging.Exchanged(13)
            assert await states(bob) == {"free": 13}
            assert (await receive(bob, bob.bank(), token)).again
        assert await town.faults() == []

    async def test_a_token_that_is_worth_too_little_is_not_touched(self, alice: Wallet, bob: Wallet) -> None:
        row, token = await given(alice, 13)
        bank = await bank_of(bob, token, trusting)
        with pytest.raises(PeerError) as caught:
            await receive(bob, bank, token, at_least=14)
        assert caught.value.refusal == Refusal.AMOUNT_MISMATCH
        assert isinstance((await look(alice, row)).state, Sent)

    async def test_a_token_of_more_coins_than_the_bank_takes_is_not_touched(
        self, town: Town, alice: Wallet, bob: Wallet
    ) -> None:
        await cash(alice, 15)
        held = await alice.store.coins(town.address.bank, "USD")
        pairs = [(one.coin, alice.root.coin(one.request_id, one.position)) for one in held]
        assert len(pairs) > town.keyset.limits.max_coins
        token = Token.of(town.address.bank, bytes.fromhex(town.address.fingerprint), "mqtt://h:1", "USD", "", pairs)
        await given(alice, 1)
        bank = await bank_of(bob, (await given(alice, 2))[1], trusting)
        with pytest.raises(PeerError) as caught:
            await receive(bob, bank, token)
        assert caught.value.refusal == Refusal.AMOUNT_MISMATCH

    async def test_a_bank_is_entered_only_if_the_owner_agrees(self, alice: Wallet, bob: Wallet) -> None:
        _, token = await given(alice, 13)
        with pytest.raises(WalletError, match="not entered"):
            await bank_of(bob, token, distrusting)
        assert bob.banks == []

    async def test_another_bank_of_a_known_name_is_refused(self, alice: Wallet) -> None:
        _, token = await given(alice, 13)
        foreign = Token.of(token.bank, bytes(32), token.broker, "USD", "", [])
        with pytest.raises(WalletError, match="another bank"):
            await bank_of(alice, foreign, trusting)

    async def test_a_new_bank_must_have_the_pinned_identity(self, town: Town, bob: Wallet) -> None:
        foreign = Token.of(town.address.bank, bytes(32), str(town.address.broker), "USD", "", [])
        with pytest.raises(PeerError) as caught:
            await bank_of(bob, foreign, trusting)
        assert caught.value.refusal == Refusal.WRONG_BANK
        assert bob.banks == []


@pytest.mark.parametrize("text", ["", "http://host", "mqtt://user:secret@host:1883", "mqtt://host"])
def test_a_broker_is_named_in_one_way_only(text: str) -> None:
    with pytest.raises(PeerError):
        broker_of(text)


async def test_the_bank_sees_no_id_twice(town: Town, network: Network, alice: Wallet, bob: Wallet) -> None:
    """Nor anything of the token: each question and each exchange comes from a client id of its own."""
    before = len(network.published)
    row, token = await given(alice, 13)
    await claim(bob, token)
    await look(alice, row)
    clients = [seen.client for message in network.published[before:] if (seen := request_in(message))]
    assert len(clients) >= 2
    assert len(set(clients)) == len(clients)
    for message in network.published[before:]:
        assert token.hash not in message.payload
        assert not any(coin.seed in message.payload or coin.signature in message.payload for coin in token.coins)


def request_in(message: Outgoing) -> BankRequest | None:
    topic = topics.parse(message.topic)
    assert isinstance(topic, BankRequest | Reply)
    return topic if isinstance(topic, BankRequest) else None


def nothing(_: Outgoing) -> bool:
    return False


async def test_a_transfer_that_is_closing_still_has_its_token(alice: Wallet) -> None:
    row, token = await given(alice, 13)
    assert isinstance(row.state, Sent)
    closing = row._replace(state=Closing(row.state.transfer, 1))
    assert await token_of(alice, closing) == token
