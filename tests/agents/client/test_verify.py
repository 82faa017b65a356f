import hashlib
from collections.abc import Callable
from typing import Any, Final

import pytest

from agents.client import verify as verifying
from agents.client.redeem import redeem
from agents.client.store import ASIDE, FREE, SPENT, UNVERIFIED, HeldCoin
from agents.client.verify import spent_among, verify, worth
from agents.client.wallet import Wallet
from broker.port import Outgoing
from protocol import topics
from protocol.commission import Commission
from protocol.errors import PeerError
from protocol.keyset import KeyRing
from protocol.messages import Signed
from protocol.recovery import CHECK, CheckAnswer, CheckRequest, SealedSpending, find_spending
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.totals import DenominationTotal, Totals
from tests.agents.world import BANK, Town, cash, states
from tests.simulation.network import Network

DIGITS: Final = "0123456789abcdef"


async def held(wallet: Wallet, state: str = FREE) -> list[HeldCoin]:
    return await wallet.store.coins("north", "USD", state)


async def doubt(wallet: Wallet, *states_: str) -> None:
    """Let coins be as if from an old copy."""
    for state in states_ or (FREE,):
        await wallet.store.move([one.coin.serial for one in await held(wallet, state)], state, UNVERIFIED)


async def funded(town: Town, wallet: Wallet) -> Any:
    bank = await town.customer(wallet, "alice", 100)
    await cash(wallet, 20)
    return bank


async def test_coins_that_are_spent_are_told_from_those_that_are_not(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await funded(town, alice)
        coins = await held(alice)
        await redeem(alice, bank, coins[:3], unverified=False)
        evidence = await spent_among(alice, bank, coins)
        assert set(evidence) == {one.coin.serial for one in coins[:3]}
        for one in evidence.values():
            one.check()


async def test_unspent_coins_become_fresh_ones_and_spent_ones_are_entered(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await funded(town, alice)
        old = await held(alice)
        gone = sum(one.value for one in old[:2])
        await redeem(alice, bank, old[:2], unverified=False)
        await doubt(alice, FREE, SPENT)
        told = await verify(alice, bank)
        assert (told.spent, told.kept, told.left, told.notes) == ({"USD": gone}, {"USD": 20 - gone}, {}, ())
        assert await states(alice) == {"free": 20 - gone}
        assert {one.coin.serial for one in await held(alice)}.isdisjoint(one.coin.serial for one in old)
        assert await verify(alice, bank) == ({}, {}, {}, {}, ()), "there is nothing left to do"
        assert await town.faults() == []


async def test_more_coins_than_the_bank_takes_at_once_go_in_several_requests(town: Town, network: Network) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await funded(town, alice)
        await cash(alice, 40)
        await cash(alice, 24)
        assert len(await held(alice)) > bank.keyset.limits.max_coins
        await doubt(alice)
        seen = list[tuple[str, int, int]]()
        told = await verify(alice, bank, lambda *args: seen.append(args))
        assert told.kept == {"USD": 84}
        assert len(network.heard("ecash/v1/north/+/exchange/+")) >= 2
        assert {what for what, _, _ in seen} == {"checking", "bringing back"}


async def test_each_question_comes_from_a_client_of_its_own_and_names_no_account(
    town: Town, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[Any]()
    handle = town.bank._decide

    async def decide(kind: str, request: Any) -> bytes:
        asked.append((kind, request.letter))
        return await handle(kind, request)

    async with town.open_wallet("alice") as alice:
        bank = await funded(town, alice)
        monkeypatch.setattr(town.bank, "_decide", decide)
        coins = await held(alice)
        await spent_among(alice, bank, coins)
    letters = [letter for kind, letter in asked if kind == "check"]
    clients = [message.topic.split("/")[-1] for message in network.heard("ecash/v1/north/+/check/+")]
    assert len(letters) == len({one.coin.denomination for one in coins}) == len(set(clients)) == len(clients)
    assert all(letter.sender == b"" for letter in letters)
    assert all(CheckRequest.decode(letter.body).prefix == "" for letter in letters)
    others = {message.topic.split("/")[-1] for message in network.published if "/check/" not in message.topic}
    assert not others & set(clients) - {"north"}


def retell(monkeypatch: pytest.MonkeyPatch, tell: Callable[[str, CheckAnswer], CheckAnswer]) -> list[CheckRequest]:
    """Let the bank say something else to questions; return them."""
    asked = list[CheckRequest]()
    ask = Wallet.ask_anonymously

    async def asking(self: Wallet, bank: Any, kind: str, body: Any) -> Any:
        answer = await ask(self, bank, kind, body)
        if kind != CHECK:
            return answer
        asked.append(body)
        return type(answer)(answer.at, "", "", tell(body.prefix, CheckAnswer.decode(answer.body)).encode())

    monkeypatch.setattr(Wallet, "ask_anonymously", asking)
    monkeypatch.setattr(verifying, "TOTALS_PATIENCE_S", 0.05)
    return asked


def crowded(prefix: str, answer: CheckAnswer) -> CheckAnswer:
    """A bank with much more spent: nothing is told to less than two digits."""
    strangers = [SealedSpending(hashlib.sha256(f"{prefix} {i}".encode()).digest()[:16], b"") for i in range(5)]
    return CheckAnswer((*answer.spendings, *strangers), complete=True) if len(prefix) >= 2 else silent(prefix, answer)


def silent(prefix: str, answer: CheckAnswer) -> CheckAnswer:
    return CheckAnswer((), complete=False)


async def announce(town: Town, spent: int | None, forged: bool = False) -> None:
    """Let the bank announce how many coins of each denomination are spent; nothing, if None."""
    if spent is not None:
        rows = tuple(DenominationTotal(one.id, spent + forged, spent + 2 * forged) for one in town.keyset.denominations)
        totals = Totals(BANK, town.keyset.hash, 1, town.clock.now(), rows)
        signed = Signed.make(town.mint.keys.identity, Domain.TOTALS, totals)
        async with town.connect("beside-the-bank", persistent=False) as link:
            await link.publish(Outgoing(topics.totals(BANK), signed.encode(), retain=True))


@pytest.mark.parametrize("spent", [None, 10_000])
async def test_where_there_is_too_much_to_tell_whole_levels_are_asked_in_random_order(
    town: Town, monkeypatch: pytest.MonkeyPatch, spent: int | None
) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await funded(town, alice)
        await announce(town, spent)
        coins = await held(alice)
        coins = [one for one in coins if one.coin.denomination == coins[0].coin.denomination]
        await redeem(alice, bank, coins[:1], unverified=False)
        asked = retell(monkeypatch, crowded)
        assert set(await spent_among(alice, bank, coins)) == {coins[0].coin.serial}
        prefixes = [one.prefix for one in asked]
        assert sorted(prefixes) == sorted(["", *DIGITS, *(a + b for a in DIGITS for b in DIGITS)])
        assert prefixes != sorted(prefixes, key=lambda prefix: (len(prefix), prefix))


@pytest.mark.parametrize(
    ("spent", "forged", "digits"), [(50, False, 1), (50, True, 4), (None, False, 4)], ids=["told", "forged", "not told"]
)
async def test_a_bank_that_never_tells_is_left_before_it_knows_the_coins(
    town: Town, monkeypatch: pytest.MonkeyPatch, spent: int | None, forged: bool, digits: int
) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await funded(town, alice)
        await announce(town, spent, forged)
        asked = retell(monkeypatch, silent)
        with pytest.raises(PeerError, match="contradicts itself") as caught:
            await spent_among(alice, bank, (await held(alice))[:1])
        assert caught.value.refusal is Refusal.AMOUNT_MISMATCH
        assert max(len(one.prefix) for one in asked) == digits


class TestForgedEvidence:
    @pytest.fixture(params=[FREE, UNVERIFIED])
    def state(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    async def test_a_spending_without_a_valid_signature_sets_the_coin_aside(
        self, town: Town, monkeypatch: pytest.MonkeyPatch, state: str
    ) -> None:
        async with town.open_wallet("alice") as alice:
            bank = await funded(town, alice)
            victim, *others = await held(alice)
            await alice.store.move([victim.coin.serial], FREE, state)

            def forged(spendings: tuple[SealedSpending, ...], denomination: bytes, serial: bytes) -> Any:
                if serial == victim.coin.serial:
                    raise PeerError("bad_signature", "forged")  # type: ignore[arg-type]
                return find_spending(spendings, denomination, serial)

            monkeypatch.setattr("agents.client.verify.find_spending", forged)
            assert await spent_among(alice, bank, [victim, *others]) == {}
            assert await held(alice, ASIDE) == [victim]
            assert await held(alice) == others

    async def test_what_the_bank_has_refused_itself_proves_nothing_and_the_owner_is_told(self, town: Town) -> None:
        async with town.open_wallet("alice") as alice:
            bank = await funded(town, alice)
            victim, *others = await held(alice)
            await redeem(alice, bank, [victim], unverified=False)
            evidence = (await spent_among(alice, bank, [victim]))[victim.coin.serial]
            await alice.store.write(lambda db: db.execute("INSERT INTO void VALUES (?)", (evidence.digest,)))
            await doubt(alice, FREE, SPENT)
            told = await verify(alice, bank)
            assert told.aside == {"USD": victim.value}
            assert told.kept == {"USD": sum(one.value for one in others)}
            assert "set aside" in told.notes[0]


async def test_what_the_commission_would_eat_up_is_left_and_said(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    async with town.open_wallet("alice") as alice:
        bank = await funded(town, alice)
        await doubt(alice)
        parts = {k: getattr(town.keyset.tariff, k) for k in town.keyset.tariff.__struct_fields__}
        tariff = type(town.keyset.tariff)(**(parts | {"exchange": Commission(100, 0, 0, 0)}))
        fields = {k: getattr(town.keyset, k) for k in town.keyset.__struct_fields__}
        dear = bank._replace(ring=KeyRing(type(town.keyset)(**(fields | {"tariff": tariff}))))

        async def newest(*_: Any) -> Any:
            return dear

        monkeypatch.setattr("agents.client.verify.newest", newest)
        told = await verify(alice, bank)
        assert (told.kept, told.left) == ({}, {"USD": 20})
        assert "too little" in told.notes[0]
        assert await worth(alice, bank, UNVERIFIED) == {"USD": 20}
