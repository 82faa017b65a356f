"""Who meets in the races: a client, a shop and their bank, on the machine's clock."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from agents.bank.store import DestinationRow
from agents.world import SystemClock
from protocol.answer import Answer, open_secret
from protocol.coins import Evidence, spend
from protocol.exchange import ExchangeRequest, exchange_digest
from protocol.messages import DepositAnswer, Exhibits, InquiryAnswer, PaymentInfo, Verdict
from protocol.recovery import RedeemRequest, redeem_digest
from protocol.refusals import Refusal
from protocol.wallet.outputs import blind_outputs
from tests.agents.byhand import EVIDENCE_KEY, Asking, Caller, Purse, client, shopkeeper
from tests.agents.world import BANK, SETTINGS, Town, simulated
from tests.simulation.network import Network

RICH: Final = 10**9
_VALUE: Final = 2


class Told(NamedTuple):
    """What an answer says: a refusal or "", and the evidence for it."""

    refusal: str
    evidence: tuple[Evidence, ...] = ()


class Scene:
    """The parties, and a stock of coins worth 2 each."""

    def __init__(self, town: Town, alice: Caller, keeper: Caller) -> None:
        self.town = town
        self.alice = alice
        self.keeper = keeper
        self.nobody = Caller(town, "nobody")
        self._stock: list[Purse] = []

    async def coins(self, count: int) -> Purse:
        """Take coins that nobody has spent."""
        while len(self._stock) < count:
            purse = await self.alice.withdraw(*[_VALUE] * SETTINGS.max_coins)
            self._stock += [Purse((coin,), (key,)) for coin, key in zip(purse.coins, purse.seeds, strict=True)]
        taken, self._stock = self._stock[:count], self._stock[count:]
        return join(*taken)

    # ------------------------------------------------------------ requests

    def deposit(self, purse: Purse, info: PaymentInfo | None = None) -> Asking:
        paid = info or self.keeper.info(_VALUE * len(purse.coins), purse)
        return self.keeper.seal("deposit", self.keeper.deposit(paid, purse), request_id=fresh())

    def exchange(self, purse: Purse) -> Asking:
        request_id, town = fresh(), self.town
        wanted = [purse.coins[0].denomination] * len(purse.coins)
        outputs = blind_outputs(self.nobody.root, town.ring, request_id, wanted)
        digest = exchange_digest(BANK, request_id, 0, outputs)
        spent = tuple(spend(coin, key, digest) for coin, key in zip(purse.coins, purse.seeds, strict=True))
        return self.nobody.seal("exchange", ExchangeRequest(0, spent, outputs), request_id=request_id)

    def redeem(self, purse: Purse) -> Asking:
        request_id = fresh()
        digest = redeem_digest(BANK, request_id, self.alice.key)
        spent = tuple(spend(coin, key, digest) for coin, key in zip(purse.coins, purse.seeds, strict=True))
        return self.alice.seal("redeem", RedeemRequest(0, 0, spent), request_id=request_id)

    def withdraw(self, caller: Caller, *values: int, request_id: bytes = b"") -> Asking:
        request_id, _, body = caller.order_coins(*values, request_id=request_id or fresh())
        return caller.seal("withdraw", body, request_id=request_id)

    async def customer(self, amount: int, kind: str = "client") -> tuple[Caller, int]:
        """Open an account, and return who holds it and its number."""
        caller = Caller(self.town, secrets.token_hex(8), secrets.token_bytes(32))
        return caller, await caller.open_account(kind, amount)

    async def merchant(self, amount: int) -> tuple[Caller, int]:
        """Open a merchant's account with a destination for payouts."""
        caller, number = await self.customer(amount, "merchant")
        await self.town.books.set_destination(number, DestinationRow("021000021", "1234", "checking", "A Shop"))
        return caller, number

    # ------------------------------------------------------------ answers

    def open(self, asking: Asking, sealed: bytes) -> Answer:
        return self.alice.open(asking, sealed)

    def told(self, asking: Asking, sealed: bytes) -> Told:
        """Open an answer; the evidence in it is verified."""
        answer = self.open(asking, sealed)
        if asking.kind == "deposit" and not answer.refusal:
            verdict = self.keeper.read(DepositAnswer.decode(answer.check()).verdict)
            return Told(verdict.refusal, tuple(self._exhibits(verdict)))
        evidence = Exhibits.decode(answer.body).exhibits if answer.refusal == Refusal.ALREADY_SPENT else ()
        for one in evidence:
            one.check()
        return Told(answer.refusal, evidence)

    def verdict_of(self, sealed: bytes) -> Verdict:
        return self.keeper.read(InquiryAnswer.decode(sealed).verdict)

    def _exhibits(self, verdict: Verdict) -> Iterator[Evidence]:
        if verdict.evidence:
            for one in Exhibits.decode(open_secret(EVIDENCE_KEY, verdict.digest, verdict.evidence)).exhibits:
                one.check()
                yield one


def fresh() -> bytes:
    """A request id that nobody has used."""
    return secrets.token_bytes(16)


def join(*purses: Purse) -> Purse:
    """Return all coins in one purse."""
    return Purse(
        tuple(coin for purse in purses for coin in purse.coins), tuple(key for purse in purses for key in purse.seeds)
    )


def part(purse: Purse, *places: int) -> Purse:
    """Return the coins at these places."""
    return Purse(tuple(purse.coins[i] for i in places), tuple(purse.seeds[i] for i in places))


async def found(folder: Path) -> Scene:
    """A bank whose own agent does not run, and its customers."""
    town = Town(folder, simulated(Network()), SystemClock())
    await town.found()
    keeper = await shopkeeper(town)
    return Scene(town, await client(town, RICH), keeper)
