"""Random histories: whatever customers, merchants, operators and killers of processes do, books and model agree."""

import sys
from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from agents.bank.store import BooksError
from protocol.keyset import Denomination
from protocol.messages import AccountRequest
from protocol.recovery import (
    CHECK,
    FETCH,
    RECOVER,
    CheckAnswer,
    CheckRequest,
    FetchAnswer,
    FetchRequest,
    RecoverAnswer,
    RecoverRequest,
)
from tests.simulation.clock import HOUR_MS

from .bank import DESTINATION, HOLDERS, INVITATION, SHOP, TARIFFS, keys
from .customer import Request
from .plans import Enter, Look, PayOut, Recover, Refund, Spend, Withdraw
from .requests import HALF, SHOP_NUMBER, Requests
from .slips import (
    entries,
    exchanges,
    hours,
    kills,
    orders,
    payments,
    payouts,
    picks,
    redemptions,
    refunds,
    several,
)


class Histories(Requests):
    """One history. A `slip` is what honest agents never do, or do too late.

    Args:
        workshop: what all histories share.
        tally: counts what was asked and answered.
    """

    # ---------------------------------------------------------------- accounts

    @initialize(values=st.lists(picks, min_size=2, max_size=4), destination=st.booleans())
    def begin(self, values: list[int], destination: bool) -> None:
        """Alice has coins, and the bank may know where the shop's money goes."""
        self.withdraw(0, values, "", "")
        if destination:
            self.set_destination()

    @rule(pick=picks, slip=entries, kill=kills)
    def enter(self, pick: int, slip: str, kill: str) -> None:
        """Look at an account, claim carol's, or take one over."""
        name, generation = self.holder(pick, slip)
        account = self.model.account_of(name)
        invited = slip == "claim" or (account is None and name != "eve")
        number = {"take over": generation + 1, "wrong": generation + 2}.get(slip, 0)
        waits = self.model.account_of("") is not None
        plan = Enter(name, invited and waits, number)
        body = AccountRequest(INVITATION if invited else b"", number)
        if not (invited and not waits and account is None):
            self.witness.submit(self.customer.seal("account", name, body, plan, self.terms(slip)), kill)

    @rule(pick=picks, values=several, slip=orders, kill=kills)
    def withdraw(self, pick: int, values: list[int], slip: str, kill: str) -> None:
        name, generation = self.holder(pick, slip)
        outputs = self.order([1 << value % 4 for value in values], slip, pick)
        account = self.model.account_of(name)
        settled = account.withdrawals[: pick % 3] if account else []
        plan = Withdraw(name, generation, self.charge("withdrawal", self.model.worth(outputs), slip), outputs)
        self.witness.submit(self.customer.withdraw(plan, self.terms(slip), tuple(settled)), kill)

    # ---------------------------------------------------------------- coins

    @precondition(lambda self: self.customer.purse)
    @rule(chosen=several, slip=payments, kill=kills, wait=st.booleans())
    def pay(self, chosen: list[int], slip: str, kill: str, wait: bool) -> None:
        """Pay the shop, which deposits at once, or later."""
        paid = [plan.payment_id for plan, _ in self.payments]
        payment_id = paid[chosen[0] % len(paid)] if slip == "paid" and paid else self.customer.new_id()
        self.payments.append(self.paying(self.take(chosen, slip), payment_id, slip))
        if not wait or slip:
            self.deposit(-1, slip, kill)

    @precondition(lambda self: self.payments)
    @rule(pick=picks, slip=st.sampled_from(("",) * 6 + ("thief", "stranger", "same_id")), kill=kills)
    def deposit(self, pick: int, slip: str, kill: str) -> None:
        """Deposit a payment, for the first time or again; `thief` is a client, who may not."""
        plan, body = self.payments[pick % len(self.payments)]
        plan = plan._replace(key={"thief": "alice", "stranger": "eve"}.get(slip, SHOP))
        request = self.customer.seal("deposit", plan.key, body, plan, self.terms("" if slip == "late" else slip))
        self.witness.submit(request, kill)

    @precondition(lambda self: self.customer.purse)
    @rule(chosen=several, slip=exchanges, kill=kills)
    def exchange(self, chosen: list[int], slip: str, kill: str) -> None:
        """Change, refresh, or receive coins: the bank cannot tell whose they were."""
        self.witness.submit(self.exchanging(self.take(chosen, slip), slip, chosen[0]), kill)

    @precondition(lambda self: self.customer.purse)
    @rule(pick=picks, chosen=several, slip=redemptions, kill=kills)
    def redeem(self, pick: int, chosen: list[int], slip: str, kill: str) -> None:
        name, generation = self.holder(pick, slip)
        self.witness.submit(self.redeeming(name, generation, self.take(chosen, slip), slip), kill)

    @precondition(lambda self: self.model.spent)
    @rule(pick=picks, chosen=several, way=st.sampled_from((0, 1, 2)), kill=kills)
    def spend_again(self, pick: int, chosen: list[int], way: int, kill: str) -> None:
        """Use a coin that is spent, among others that may be not."""
        spent = list(self.model.spent)
        coins = (spent[pick % len(spent)], *(self.take(chosen, "").coins[1:]))
        spend = Spend(tuple(dict.fromkeys(coins)), b"", "")
        if way == 0:
            self.witness.submit(self.exchanging(spend), kill)
        elif way == 1:
            self.witness.submit(self.redeeming(*self.holder(pick, ""), spend), kill)
        else:
            self.payments.append(self.paying(spend, self.customer.new_id()))
            self.deposit(-1, "", kill)

    @rule(pick=picks, slip=refunds, kill=kills)
    def refund(self, pick: int, slip: str, kill: str) -> None:
        """The shop pays for a buyer's ticket; `again` one that was shown before, `thief` is a client."""
        outputs = self.order(self.split(1 + pick % 12), slip, pick)
        due = self.now + (-HALF if slip == "late_ticket" else 3 * HOUR_MS + HALF)
        ticket = self.customer.ticket(outputs, Look(), due)
        shown = [one.ticket for one in self.witness.sent if one.ticket]
        if slip == "again" and shown:
            ticket = shown[pick % len(shown)]
        amount = self.model.worth(ticket.outputs) + (slip == "sum")
        commission = self.charge("refund", amount, slip)
        name = "alice" if slip == "thief" else SHOP
        garbled = slip == "garbled"
        ticket_id = b"" if garbled else ticket.request_id
        plan = Refund(name, amount, commission, ticket_id, ticket.deadline, ticket.outputs)
        self.witness.submit(self.customer.refund(plan, self.terms(slip), None if garbled else ticket), kill)

    # ---------------------------------------------------------------- what was lost

    @precondition(lambda self: self.witness.sent)
    @rule(kill=kills)
    def repeat(self, kill: str) -> None:
        """The last request once more."""
        self.witness.submit(self.witness.sent[-1], kill)

    @precondition(lambda self: self.witness.sent)
    @rule(pick=picks, kill=kills)
    def repeat_any(self, pick: int, kill: str) -> None:
        """Any request once more, however old it is."""
        self.witness.submit(self.witness.sent[pick % len(self.witness.sent)], kill)

    @rule(pick=picks, slip=st.sampled_from(("", "", "", "stale", "stranger")))
    def recover(self, pick: int, slip: str) -> None:
        """The withdrawals of an account, in pages."""
        name, generation = self.holder(pick, slip)
        plan = Recover(name, generation)
        body = RecoverRequest(generation, 0)
        answer = self.witness.submit(self.customer.seal(RECOVER, name, body, plan, self.terms("")))
        if answer and not answer.refusal:
            self.witness.check_recovered(plan, RecoverAnswer.decode(answer.body))

    @precondition(lambda self: self.witness.sent)
    @rule(pick=picks)
    def fetch(self, pick: int) -> None:
        """The answer to any request."""
        asked = self.witness.sent[pick % len(self.witness.sent)]
        self.fetching(asked.ticket or asked)

    def fetching(self, asked: Request) -> None:
        request = self.customer.seal(FETCH, "", FetchRequest(asked.request_id), Look(), self.terms(""))
        answer = self.witness.submit(request)
        assert answer is not None
        self.witness.check_fetched(asked, FetchAnswer.decode(answer.body))

    @rule(pick=picks)
    def check(self, pick: int) -> None:
        """All spendings of a denomination that is announced."""
        announced = [key for key in keys().kinds if key in self.model.announced]
        denomination = announced[pick % len(announced)]
        request = self.customer.seal(CHECK, "", CheckRequest(denomination, ""), Look(), self.terms(""))
        answer = self.witness.submit(request)
        assert answer is not None
        self.witness.check_spendings(denomination, CheckAnswer.decode(answer.body))

    # ---------------------------------------------------------------- the operator

    @rule(pick=picks, amount=st.integers(1, 30), again=st.booleans())
    def credit(self, pick: int, amount: int, again: bool) -> None:
        """Book money, or what was booked before, as it was or with another amount."""
        number = 1001 + pick % len(HOLDERS)
        reference = list(self.model.references)[pick % len(self.model.references)] if again else str(self.now + pick)
        if again and pick % 2:
            number, amount = self.model.references[reference]
        expected = self.model.credit(number, amount, reference)
        self.operate("credit", self.bank.books.credit(number, amount, reference), expected)

    @rule(amount=st.integers(0, 12), slip=payouts, kill=kills)
    def pay_out(self, amount: int, slip: str, kill: str) -> None:
        """The shop takes its money."""
        amount = 0 if slip == "look" else amount
        plan = PayOut("alice" if slip == "thief" else SHOP, amount, self.charge("payout", amount, slip))
        self.witness.submit(self.customer.pay_out(plan, self.terms(slip)), kill)

    @rule()
    def set_destination(self) -> None:
        self.workshop.loop.run_until_complete(self.bank.books.set_destination(SHOP_NUMBER, DESTINATION))
        self.model.accounts[SHOP_NUMBER].destination = True

    @precondition(lambda self: self.model.payouts)
    @rule()
    def export(self) -> None:
        """Put all that is queued in a file."""
        queued = [number for number, payout in self.model.payouts.items() if payout.state == "queued"]
        export = self.bank.books.export_payouts(lambda file, now, rows: bytes(row.number for row in rows))
        found = self.workshop.loop.run_until_complete(export)
        assert (found[1] if found else b"") == bytes(queued)
        for number in queued:
            self.model.payouts[number].state = "exported"

    @precondition(lambda self: self.model.payouts)
    @rule(pick=picks)
    def settle(self, pick: int) -> None:
        number = 1 + pick % len(self.model.payouts)
        amount = self.model.payouts[number].amount
        self.operate("settle", self.bank.books.settle_payout(number, amount), self.model.settle(number))

    @precondition(lambda self: self.model.payouts)
    @rule(pick=picks)
    def give_back(self, pick: int) -> None:
        number = 1 + pick % len(self.model.payouts)
        amount = self.model.payouts[number].amount
        returning = self.bank.books.return_payout(number, amount, "R03")
        self.operate("return", returning, self.model.give_back(number))

    def operate(self, what: str, booking: Coroutine[Any, Any, bool], expected: bool | None) -> None:
        """Book something; None is what the model says where the books raise an error."""
        told: bool | None
        try:
            told = self.workshop.loop.run_until_complete(booking)
        except BooksError:
            told = None
        assert told == expected
        self.tally[f"{what}: {told}"] += 1

    # ---------------------------------------------------------------- time, keys and processes

    @rule(hours=hours)
    def let_time_pass(self, hours: int) -> None:
        self.bank.clock.advance(hours * HOUR_MS)

    @precondition(lambda self: self.epochs)
    @rule()
    def rotate(self) -> None:
        """Announce a new epoch."""
        self.announce([series.denomination for series in self.epochs.pop(0)], [])

    @rule(value=st.sampled_from((1, 2, 4, 8)))
    def revoke(self, value: int) -> None:
        """Revoke what is minted of a value, if there is a key to take its place."""
        revoked = self.current().get(value)
        if revoked and self.spares[value]:
            self.announce([self.spares[value].pop().denomination], [revoked])

    def announce(self, denominations: list[Denomination], revoked: list[bytes]) -> None:
        self.bank.announce(denominations, revoked)
        gone = {key for key in self.model.announced if keys().kinds[key].redeem_until <= self.now}
        self.model.announced = self.model.announced - gone | {one.id for one in denominations}
        self.model.revoked |= dict.fromkeys(revoked, self.now)
        self.model.tariff = TARIFFS[self.keysets % 2]
        self.keysets += 1

    @rule(kill=st.booleans())
    def restart(self, kill: bool) -> None:
        """Another process takes over, after a kill or a clean end."""
        if kill:
            self.bank.kill()
        else:
            self.bank.restart()

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def books_and_model_agree(self) -> None:
        self.bank.compare(self.model)
        self.tally["steps"] += 1

    def teardown(self) -> None:
        """At the end every unspent coin can be used, and the audit finds nothing."""
        try:
            if sys.exc_info()[0] is None:  # or else it is over already, and this would hide why
                self.use_up()
                self.workshop.loop.run_until_complete(self.bank.compare_as_told(self.model))
                assert self.workshop.loop.run_until_complete(self.bank.faults()) == []
                self.tally["histories"] += 1
        finally:
            self.bank.close()

    def use_up(self) -> None:
        """Fetch what never came, and exchange or redeem whatever the model calls unspent and alive."""
        for request in self.witness.missing():
            self.fetching(request)
        unspent = self.witness.unspent()
        assert set(unspent) == self.model.unspent
        alive = [coin for coin in unspent if not self.model.usable(coin.denomination, "redeem", self.now)]
        for start in range(0, len(alive), 4):
            spend = Spend(tuple(alive[start : start + 4]), b"", "")
            using = self.exchanging(spend) if self.can_exchange(spend) else self.redeeming_somewhere(spend)
            if using:
                answer = self.witness.submit(using)
                assert answer is not None
                assert not answer.refusal, f"an unspent coin was refused: {answer.refusal}"
                self.tally["coins used up"] += len(spend.coins)
        self.bank.compare(self.model)
