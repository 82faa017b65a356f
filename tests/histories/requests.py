"""Requests to choose from: who asks, with which coins, for what, and with which fault."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from hypothesis.stateful import RuleBasedStateMachine

from protocol.messages import DepositRequest
from tests.simulation.clock import HOUR_MS

from .bank import HOLDERS, SHOP, Workshop, keys
from .customer import Customer, Request, Terms
from .model import MAX_COINS
from .plans import Coin, Deposit, Exchange, Redeem, Spend
from .witness import Witness

HALF: Final = HOUR_MS // 2
"""The clock stands at full hours and deadlines are at half ones: the books' clock, which runs ahead after a crash by a
minute, and the desk's agree on which side of a deadline they are."""
SHOP_NUMBER: Final = 1001 + HOLDERS.index(SHOP)


class Requests(RuleBasedStateMachine):
    """One history without its rules. A `slip` is what honest agents never do, or do too late.

    Args:
        workshop: what all histories share.
        tally: counts what was asked and answered.
    """

    def __init__(self, workshop: Workshop, tally: Counter[str]) -> None:
        super().__init__()
        self.workshop = workshop
        self.tally = tally
        self.bank = workshop.open()
        self.model = workshop.model()
        self.customer = Customer()
        self.witness = Witness(self.bank, self.model, self.customer, tally)
        self.payments: list[tuple[Deposit, DepositRequest]] = []
        self.keysets = 1
        self.spares = {value: list(series) for value, series in keys().spares.items()}
        self.epochs = list(keys().epochs[1:])

    # ---------------------------------------------------------------- what rules choose from

    @property
    def now(self) -> int:
        return self.bank.clock.now()

    def terms(self, slip: str) -> Terms:
        """Two hours and a half to serve a request; or a deadline that has passed, or another request's id."""
        stored = [one for one in self.witness.sent if self.witness.stored(one.request_id)]
        request_id = stored[-1].request_id if slip == "same_id" and stored else b""
        return Terms(self.now + (-HALF if slip == "late" else 2 * HOUR_MS + HALF), request_id)

    def holder(self, pick: int, slip: str) -> tuple[str, int]:
        """Who asks, and from which generation of device."""
        name = "eve" if slip == "stranger" else HOLDERS[pick % len(HOLDERS)]
        account = self.model.account_of(name)
        generation = account.generation if account else 0
        return name, abs(generation - 1) if slip == "stale" else generation

    def current(self) -> dict[int, bytes]:
        """What can be minted now, by value."""
        usable = [key for key in keys().kinds if not self.model.usable(key, "mint", self.now)]
        return {keys().kinds[key].value: key for key in usable}

    def order(self, values: Iterable[int], slip: str, pick: int) -> tuple[Coin, ...]:
        """Coins to be signed, worth these values where the bank mints them."""
        current, every = self.current(), list(keys().kinds)
        ids = [current.get(value, every[0]) for value in values]
        if slip == "odd":
            ids[-1] = every[pick % len(every)]
        if slip == "many":
            ids = ids[:1] * (MAX_COINS + 1)
        outputs = [self.customer.new_coin(key) for key in ids]
        signed = [coin for coin in self.customer.purse if coin.denomination in self.current().values()]
        if slip == "reused" and signed:
            outputs[0] = signed[pick % len(signed)]
        return (*outputs, outputs[0]) if slip == "twice" else tuple(outputs)

    def take(self, chosen: list[int], slip: str) -> Spend:
        """Coins from the purse: those that are not spent, if there are any and the customer is honest."""
        purse = list(self.customer.purse) if slip in ("spent", "many") else self.witness.unspent()
        purse = purse or list(self.customer.purse)
        coins = tuple(dict.fromkeys(purse[pick % len(purse)] for pick in chosen))
        if slip == "many":
            coins = tuple(dict.fromkeys((*coins, *purse)))[: MAX_COINS + 1]
        fault = slip if slip in ("forged", "stolen") else ""
        return Spend((*coins, coins[0]) if slip == "twice" else coins, b"", fault)

    def split(self, amount: int) -> list[int]:
        """An amount in the values that are minted now, the largest first; in units, if there are none of one."""
        values = []
        for value in sorted(self.current() or {1: b""}, reverse=True):
            values += [value] * (amount // value)
            amount %= value
        return [*values, *[1] * amount][:MAX_COINS]

    def charge(self, operation: str, amount: int, slip: str = "") -> int:
        return self.model.tariff[operation].on(amount) + (slip == "commission")

    # ---------------------------------------------------------------- what is written

    def paying(self, spend: Spend, payment_id: bytes, slip: str = "") -> tuple[Deposit, DepositRequest]:
        amount = self.model.worth(spend.coins) + (slip == "sum")
        before = self.now + (-HALF if slip == "late" else 4 * HOUR_MS + HALF)
        account = SHOP_NUMBER - (slip == "elsewhere")
        plan = Deposit(SHOP, account, payment_id, amount, before, spend, slip == "altered")
        return self.customer.payment(plan, self.now)

    def exchanging(self, spend: Spend, slip: str = "", pick: int = 0) -> Request:
        total = self.model.worth(spend.coins)
        commission = self.charge("exchange", total, slip)
        values = self.split(max(1, total - commission)) + [1] * (slip == "sum")
        plan = Exchange(commission, spend, self.order(values, "" if slip in ("twice", "many") else slip, pick))
        return self.customer.exchange(plan, self.terms(slip))

    def redeeming(self, name: str, generation: int, spend: Spend, slip: str = "") -> Request:
        commission = self.charge("redemption", self.model.worth(spend.coins), slip)
        return self.customer.redeem(Redeem(name, generation, commission, spend), self.terms(slip))

    def can_exchange(self, spend: Spend) -> bool:
        """Whether these coins may be exchanged, and what is minted now makes up their worth."""
        total = self.model.worth(spend.coins)
        left = total - self.charge("exchange", total)
        sound = not any(self.model.usable(coin.denomination, "exchange", self.now) for coin in spend.coins)
        values = self.split(left)
        return sound and sum(values) == left and set(values) <= self.current().keys()

    def redeeming_somewhere(self, spend: Spend) -> Request | None:
        """A redemption into an account that may redeem so much, if there is one."""
        may = [one for one in self.model.accounts.values() if one.key and self.model.may_redeem(one, spend.coins)]
        return self.redeeming(may[0].key, may[0].generation, spend) if may else None
