"""What a bank must do, in plain Python: sums, sets and dates, without keys, files or messages.

Each request is ruled on by `Model.rule`, which changes nothing; what the request does is applied by `Model.commit`,
because a crash may come between the two.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from .accounts import Account, Kind, Payout, Rate
from .plans import (
    Coin,
    Deposit,
    Enter,
    Exchange,
    Look,
    PayOut,
    Plan,
    Recover,
    Redeem,
    Refund,
    Spend,
    Withdraw,
)

MAX_COINS: Final = 8
"""What the bank takes in one request."""


class Ruling(NamedTuple):
    """What the answer must be. `stored`: it stays so; `verdict`: the refusal is a verdict; `effect`: what happens."""

    refusal: str
    stored: bool
    effect: Callable[[], None] | None = None
    verdict: bool = False


class Model:
    """The bank.

    Args:
        kinds: every denomination that will ever be announced.
        announced: the ids of those that are announced now.
        tariff: what is charged for each operation, by the name of its field in `protocol.keyset.Tariff`.
    """

    def __init__(self, kinds: dict[bytes, Kind], announced: Iterable[bytes], tariff: dict[str, Rate]) -> None:
        self.kinds = kinds
        self.announced = set(announced)
        self.revoked: dict[bytes, int] = {}
        self.tariff = tariff
        self.accounts: dict[int, Account] = {}
        self.issued: set[Coin] = set()
        self.spent: dict[Coin, bytes] = {}
        self.verdicts: dict[bytes, tuple[str, int]] = {}
        self.paid: set[tuple[int, bytes]] = set()
        self.payouts: dict[int, Payout] = {}
        self.stored: set[bytes] = set()
        self.references: dict[str, tuple[int, int]] = {}
        self.commission = 0
        self.clearing = 0
        self.cash = 0

    # ---------------------------------------------------------------- what the books must show

    def worth(self, coins: Iterable[Coin]) -> int:
        return sum(self.kinds[coin.denomination].value for coin in coins)

    @property
    def unspent(self) -> set[Coin]:
        return self.issued - self.spent.keys()

    def counts(self) -> dict[bytes, tuple[int, int]]:
        """How many coins were issued and spent, by denomination."""
        issued = Counter(coin.denomination for coin in self.issued)
        spent = Counter(coin.denomination for coin in self.spent)
        return {key: (issued[key], spent[key]) for key in issued}

    def ledgers(self) -> dict[str, int]:
        """Every ledger that is not empty, by name."""
        totals = Counter({f"account/{account.number}": account.balance for account in self.accounts.values()})
        for coin in self.unspent:
            totals[f"coins/{coin.denomination.hex()}"] += self.kinds[coin.denomination].value
        totals.update({"commission/USD": self.commission, "clearing/USD": self.clearing, "cash/USD": -self.cash})
        return {ledger: amount for ledger, amount in totals.items() if amount}

    def account_of(self, key: str) -> Account | None:
        return next((account for account in self.accounts.values() if account.key == key), None)

    # ---------------------------------------------------------------- the operator

    def credit(self, number: int, amount: int, reference: str) -> bool | None:
        """Book money; return False if that was booked before, None if the reference was used for something else."""
        if reference in self.references:
            return False if self.references[reference] == (number, amount) else None
        self.references[reference] = (number, amount)
        self.accounts[number].balance += amount
        self.cash += amount
        return True

    def settle(self, number: int) -> bool | None:
        """A payout has left the bank; return False if that was booked before, None if it is in another state."""
        payout = self.payouts[number]
        if payout.was_settled:
            return False
        if payout.state != "exported":
            return None
        payout.state, payout.was_settled = "settled", True
        self.clearing -= payout.amount
        self.cash -= payout.amount
        return True

    def give_back(self, number: int) -> bool | None:
        """A payout has come back; return as `settle` does."""
        payout = self.payouts[number]
        if payout.state in ("returned", "queued"):
            return False if payout.state == "returned" else None
        if payout.was_settled:
            self.cash += payout.amount
        else:
            self.clearing -= payout.amount
        payout.state = "returned"
        self.accounts[payout.account].balance += payout.amount
        return True

    # ---------------------------------------------------------------- requests

    def commit(self, request_id: bytes, ruling: Ruling) -> None:
        """The ruling is durable."""
        if ruling.stored:
            self.stored.add(request_id)
            if ruling.effect:
                ruling.effect()

    def rule(self, plan: Plan, request_id: bytes, deadline: int, now: int) -> Ruling:
        """Rule on a request that was not answered before."""
        if isinstance(plan, Look):
            return Ruling("", stored=False)
        if isinstance(plan, Exchange):
            return self._exchange(plan, deadline, now)
        account = self.account_of(plan.key)
        if isinstance(plan, Enter):
            return self._enter(plan, account, deadline, now)
        if account is None:
            return Ruling("malformed" if _too_many(plan) else "unknown_account", stored=False)
        match plan:
            case Withdraw():
                return self._withdraw(plan, account, request_id, deadline, now)
            case Deposit():
                return self._deposit(plan, account, now)
            case Redeem():
                return self._redeem(plan, account, deadline, now)
            case Refund():
                return self._refund(plan, account, deadline, now)
            case PayOut():
                return self._pay_out(plan, account, deadline, now)
            case Recover():
                return _told("" if plan.generation == account.generation else "superseded")

    def _enter(self, plan: Enter, account: Account | None, deadline: int, now: int) -> Ruling:
        waiting = self.account_of("") if plan.invited else None
        if account is None and waiting is None:
            return Ruling("invalid_invitation" if plan.invited else "unknown_account", stored=False)
        if account is None:
            late = now >= deadline
            return Ruling("request_expired" if late else "", stored=not late, effect=self._claiming(plan.key))
        if waiting is not None:
            return _final("account_exists")
        if plan.generation not in (0, account.generation + 1):
            return _final("superseded")
        if now >= deadline:
            return _final("request_expired")
        generation = plan.generation or account.generation
        return Ruling("", stored=True, effect=lambda: setattr(account, "generation", generation))

    def _claiming(self, key: str) -> Callable[[], None]:
        def effect() -> None:
            waiting = self.account_of("")
            assert waiting is not None
            waiting.key, waiting.generation = key, 1

        return effect

    def _withdraw(self, plan: Withdraw, account: Account, request_id: bytes, deadline: int, now: int) -> Ruling:
        total, commission = self.worth(plan.outputs), self.tariff["withdrawal"].on(self.worth(plan.outputs))
        refusal = _first(
            (_too_many(plan), "malformed"),
            (plan.generation != account.generation, "superseded"),
            *self._unmintable(plan.outputs, now),
            (plan.commission != commission, "commission_changed"),
            (account.balance < total + commission, "insufficient_funds"),
            (now >= deadline, "request_expired"),
            (bool(self.issued & set(plan.outputs)), "blinded_value_reused"),
        )

        def effect() -> None:
            account.balance -= total + commission
            account.withdrawn += total
            account.withdrawn_at.append((now, total))
            account.withdrawals.append(request_id)
            self._move((), b"", plan.outputs, commission)

        return _final(refusal) if refusal else Ruling("", stored=True, effect=effect)

    def _deposit(self, plan: Deposit, account: Account, now: int) -> Ruling:
        if plan.account != account.number or not account.merchant:
            return _final("wrong_merchant")
        digest = plan.spend.digest
        if digest in self.verdicts:
            return Ruling(self.verdicts[digest][0], stored=False, verdict=True)
        total = self.worth(plan.spend.coins)
        commission = self.tariff["deposit"].on(total)
        refusal = _first(
            (now >= plan.deposit_before, "payment_expired"),
            (len(plan.spend.coins) > MAX_COINS, "bad_parcel"),
            (plan.altered, "payment_altered"),
            *self._unusable(plan.spend, "spend", now),
            (total != plan.amount, "amount_mismatch"),
            *_bad(plan.spend),
            ((account.number, plan.payment_id) in self.paid, "already_paid"),
            (bool(self.spent.keys() & set(plan.spend.coins)), "already_spent"),
        )

        def effect() -> None:
            self.verdicts[digest] = (refusal, 0 if refusal else commission)
            if not refusal:
                self.paid.add((account.number, plan.payment_id))
                account.balance += total - commission
                self._move(plan.spend.coins, digest, (), commission)

        return Ruling(refusal, stored=True, effect=effect, verdict=True)

    def _exchange(self, plan: Exchange, deadline: int, now: int) -> Ruling:
        total = self.worth(plan.spend.coins)
        fault = _first(
            *self._unusable(plan.spend, "exchange", now),
            *_bad(plan.spend),
            (bool(self.spent.keys() & set(plan.spend.coins)), "already_spent"),
        )
        if fault:
            return Ruling(fault, stored=False)
        refusal = _first(
            (_too_many(plan), "malformed"),
            *self._unmintable(plan.outputs, now),
            (total != self.worth(plan.outputs) + plan.commission, "amount_mismatch"),
            (plan.commission != self.tariff["exchange"].on(total), "commission_changed"),
            (now >= deadline, "request_expired"),
            (bool(self.issued & set(plan.outputs)), "blinded_value_reused"),
        )
        if refusal:
            return _final(refusal)
        coins, digest = plan.spend.coins, plan.spend.digest
        return Ruling("", stored=True, effect=lambda: self._move(coins, digest, plan.outputs, plan.commission))

    def _redeem(self, plan: Redeem, account: Account, deadline: int, now: int) -> Ruling:
        total, commission = self.worth(plan.spend.coins), self.tariff["redemption"].on(self.worth(plan.spend.coins))
        refusal = _first(
            (_too_many(plan), "malformed"),
            (plan.generation != account.generation, "superseded"),
            *self._unusable(plan.spend, "redeem", now),
            *_bad(plan.spend),
            (plan.commission != commission, "commission_changed"),
            (now >= deadline, "request_expired"),
            (bool(self.spent.keys() & set(plan.spend.coins)), "already_spent"),
            (not self.may_redeem(account, plan.spend.coins), "redemption_capped"),
        )

        def effect() -> None:
            account.redeemed += total
            account.balance += total - commission
            self._move(plan.spend.coins, plan.spend.digest, (), commission)

        return _final(refusal) if refusal else Ruling("", stored=True, effect=effect)

    def _refund(self, plan: Refund, account: Account, deadline: int, now: int) -> Ruling:
        total, commission = self.worth(plan.outputs), self.tariff["refund"].on(plan.amount)
        refusal = _first(
            (not account.merchant, "wrong_merchant"),
            (not plan.ticket or len(plan.outputs) > MAX_COINS, "bad_ticket"),
            *self._unmintable(plan.outputs, now),
            (total != plan.amount, "amount_mismatch"),
            (plan.commission != commission, "commission_changed"),
            (account.balance < total + commission, "insufficient_funds"),
            (now >= min(deadline, plan.ticket_deadline), "request_expired"),
            (bool(self.issued & set(plan.outputs)), "blinded_value_reused"),
            (plan.ticket in self.stored, "request_id_reused"),
        )

        def effect() -> None:
            account.balance -= total + commission
            self.stored.add(plan.ticket)
            self._move((), b"", plan.outputs, commission)

        return _final(refusal) if refusal else Ruling("", stored=True, effect=effect)

    def _pay_out(self, plan: PayOut, account: Account, deadline: int, now: int) -> Ruling:
        commission = self.tariff["payout"].on(plan.amount)
        refusal = _first(
            (not account.merchant, "wrong_merchant"),
            (plan.commission != commission, "commission_changed"),
            (account.balance < plan.amount + commission, "insufficient_funds"),
        )
        if not plan.amount:
            return _told(refusal)
        refusal = refusal or _first((now >= deadline, "request_expired"), (not account.destination, "no_destination"))

        def effect() -> None:
            account.balance -= plan.amount + commission
            self.commission += commission
            self.clearing += plan.amount
            self.payouts[len(self.payouts) + 1] = Payout(account.number, plan.amount, commission)

        return _final(refusal) if refusal else Ruling("", stored=True, effect=effect)

    # ---------------------------------------------------------------- coins

    def may_redeem(self, account: Account, coins: Iterable[Coin]) -> bool:
        """Whether the account has withdrawn as much, and, before their keys were revoked, what is revoked of it."""
        coins = tuple(coins)
        revoked = [coin for coin in coins if coin.denomination in self.revoked]
        since = min((self.revoked[coin.denomination] for coin in revoked), default=0)
        before = sum(amount for at, amount in account.withdrawn_at if at < since)
        fits = not revoked or account.redeemed + self.worth(revoked) <= before
        return fits and account.redeemed + self.worth(coins) <= account.withdrawn

    def _move(self, taken: tuple[Coin, ...], digest: bytes, outputs: tuple[Coin, ...], commission: int) -> None:
        self.spent.update(dict.fromkeys(taken, digest))
        self.issued |= set(outputs)
        self.commission += commission

    def usable(self, denomination: bytes, use: str, now: int) -> str:
        """Why coins of a denomination may not be minted, spent, exchanged or redeemed now; "" if they may."""
        kind = self.kinds[denomination]
        last = {"mint": kind.mint_until, "spend": kind.spend_until}.get(use, kind.redeem_until)
        return _first(
            (denomination not in self.announced, "unknown_denomination"),
            (denomination in self.revoked and use != "redeem", "key_revoked"),
            (now >= last or (use == "mint" and now < kind.mint_from), "denomination_closed"),
        )

    def _unmintable(self, outputs: tuple[Coin, ...], now: int) -> tuple[tuple[bool, str], ...]:
        faults = [fault for coin in outputs if (fault := self.usable(coin.denomination, "mint", now))]
        return (bool(faults), "".join(faults[:1])), (len(set(outputs)) != len(outputs), "blinded_value_reused")

    def _unusable(self, spend: Spend, use: str, now: int) -> tuple[tuple[bool, str], ...]:
        faults = [fault for coin in spend.coins if (fault := self.usable(coin.denomination, use, now))]
        return (bool(faults), "".join(faults[:1])), (len(set(spend.coins)) != len(spend.coins), "duplicate_coin")


def _too_many(plan: Plan) -> bool:
    """Whether these are more coins than the bank looks at: of a payment and a ticket it says so otherwise."""
    match plan:
        case Withdraw(outputs=outputs):
            return len(outputs) > MAX_COINS
        case Exchange(spend=spend, outputs=outputs):
            return max(len(spend.coins), len(outputs)) > MAX_COINS
        case Redeem(spend=spend):
            return len(spend.coins) > MAX_COINS
        case _:
            return False


def _bad(spend: Spend) -> tuple[tuple[bool, str], ...]:
    return (spend.fault == "forged", "bad_coin"), (spend.fault == "stolen", "bad_spend_signature")


def _first(*rules: tuple[bool, str]) -> str:
    return next((refusal for broken, refusal in rules if broken), "")


def _final(refusal: str) -> Ruling:
    return Ruling(refusal, stored=True)


def _told(refusal: str) -> Ruling:
    """A holder's look: it is stored if it is refused only."""
    return Ruling(refusal, bool(refusal))
