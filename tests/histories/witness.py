"""Sends requests to the bank, asks the model what must come of them, and holds every answer against that."""

from collections import Counter

from protocol.answer import Answer, open_secret
from protocol.exchange import Issue, RefundOrderAnswer
from protocol.messages import AccountAnswer, DepositAnswer, Exhibits, Signed, Verdict, WithdrawAnswer
from protocol.payout import PayoutAnswer
from protocol.recovery import CheckAnswer, FetchAnswer, RecoverAnswer, RedeemAnswer, find_spending
from protocol.signatures import Domain, public_key

from .bank import Bank, keys
from .customer import EVIDENCE_KEY, Customer, Request, serial_of
from .model import Model, Ruling
from .plans import Coin, Deposit, Enter, Exchange, PayOut, Recover, Redeem, Refund, Withdraw


class Witness:
    """Remembers what was asked and answered in one history."""

    def __init__(self, bank: Bank, model: Model, customer: Customer, tally: Counter[str]) -> None:
        self.bank = bank
        self.model = model
        self.customer = customer
        self.tally = tally
        self.sent: list[Request] = []
        self._answers: dict[bytes, bytes] = {}
        self._envelopes: dict[bytes, bytes] = {}

    def stored(self, request_id: bytes) -> bytes | None:
        """The answer that the bank must give again to this request."""
        return self._answers.get(request_id)

    def submit(self, request: Request, kill_at: str = "") -> Answer | None:
        """Ask the bank, once more or for the first time; return the answer, unless the bank was killed before."""
        if request not in self.sent:
            self.sent.append(request)
        known = self._answers.get(request.request_id)
        before = self._ruling(request)
        payload, killed = self.bank.ask(request.kind, request.envelope, kill_at)
        answer = request.open(payload)
        self.tally[f"{request.kind}: {self._refusal(request, answer) or 'ok'}"] += 1
        self.tally[f"killed at {kill_at}" if killed else "lived"] += 1
        if before is None:
            assert payload == known, "a stored answer has changed"
            self.tally["the same answer again"] += 1
        else:
            self._check(request, before, answer)
            self._settle(request, before, payload, kill_at if killed else "")
        if killed:
            return None
        self._learn(request, answer)
        return answer

    def _ruling(self, request: Request) -> Ruling | None:
        """What must come of a request; None, if its answer is stored."""
        owner = self._envelopes.get(request.request_id)
        if owner is not None:
            return None if owner == request.envelope else Ruling("request_id_reused", stored=False)
        return self.model.rule(request.plan, request.request_id, request.deadline, self.bank.clock.now())

    def _settle(self, request: Request, ruling: Ruling, payload: bytes, killed_at: str) -> None:
        """Commit a ruling to the model, if a process that was killed has left it in the books."""
        if not ruling.stored:
            return
        left = self.bank.stored(request.request_id)
        durable = ("", "answering") if ruling.refusal else ("", "committed", "posted", "answering")
        if killed_at in durable:  # a refusal is committed after what it refuses, so its process may die between them
            assert left is not None, "an answer left that is not in the books"
        if killed_at in ("opened", "posting", "before_commit"):
            assert left is None, "the books were changed before they were committed"
        if left is None:
            return
        assert left == payload
        self.model.commit(request.request_id, ruling)
        self._keep(request, payload)
        if request.ticket and not ruling.refusal:
            issue = self.bank.stored(request.ticket.request_id)
            assert issue is not None
            self._keep(request.ticket, issue)

    def _keep(self, request: Request, answer: bytes) -> None:
        self._answers[request.request_id] = answer
        self._envelopes[request.request_id] = request.envelope

    # ---------------------------------------------------------------- answers

    def _refusal(self, request: Request, answer: Answer) -> str:
        if isinstance(request.plan, Deposit) and not answer.refusal:
            return self._verdict(answer).refusal
        return answer.refusal

    @staticmethod
    def _verdict(answer: Answer) -> Verdict:
        signed = Signed.decode(DepositAnswer.decode(answer.body).verdict)
        return Verdict.decode(signed.check(public_key(keys().keys.identity), Domain.VERDICT))

    def _check(self, request: Request, ruling: Ruling, answer: Answer) -> None:
        """Hold an answer against the ruling, made before the ruling changes the model."""
        told = self._refusal(request, answer)
        assert told == ruling.refusal, f"{request.kind}: {told or 'ok'}, not {ruling.refusal or 'ok'}"
        assert bool(answer.refusal) == bool(ruling.refusal and not ruling.verdict)
        plan = request.plan
        if told == "already_spent":
            assert isinstance(plan, Deposit | Exchange | Redeem)
            self._check_evidence(plan, answer)
        elif not told:
            self._check_sums(plan, answer)

    def _check_evidence(self, plan: Deposit | Exchange | Redeem, answer: Answer) -> None:
        body = answer.body
        if isinstance(plan, Deposit):
            evidence = self._verdict(answer).evidence
            if plan.spend.digest in self.model.verdicts:
                return  # told once more; some of the coins may be spent since then
            body = open_secret(EVIDENCE_KEY, plan.spend.digest, evidence)
        found = Exhibits.decode(body).exhibits
        for one in found:
            one.check()
        spent = self.model.spent
        expected = [(serial_of(coin), spent[coin]) for coin in plan.spend.coins if coin in spent]
        assert [(one.serial, one.digest) for one in found] == expected

    def _check_sums(self, plan: object, answer: Answer) -> None:
        model, body = self.model, answer.body
        match plan:
            case Withdraw():
                told = WithdrawAnswer.decode(body)
                assert (told.amount, told.commission) == (model.worth(plan.outputs), plan.commission)
            case Deposit():
                commission = model.verdicts.get(
                    plan.spend.digest, ("", model.tariff["deposit"].on(model.worth(plan.spend.coins)))
                )[1]
                assert DepositAnswer.decode(body).commission == commission
            case Redeem():
                redeemed = RedeemAnswer.decode(body)
                assert (redeemed.amount, redeemed.commission) == (model.worth(plan.spend.coins), plan.commission)
            case PayOut():
                account = model.account_of(plan.key)
                paid = PayoutAnswer.decode(body)
                assert account is not None
                assert paid.balance == account.balance - (plan.amount + plan.commission if plan.amount else 0)
                if not plan.amount:
                    states = [(one.number, one.amount, one.state) for one in paid.payouts]
                    listed = sorted(model.payouts.items(), reverse=True)
                    assert states == [(number, one.amount, one.state) for number, one in listed]
            case Enter():
                held = model.account_of(plan.key)
                account = held or model.account_of("")
                entered = AccountAnswer.decode(body)
                assert account is not None
                generation = plan.generation or account.generation if held else 1
                assert (entered.account, entered.balance) == (account.number, account.balance)
                assert entered.generation == generation

    def _learn(self, request: Request, answer: Answer) -> None:
        """Take the coins out of an answer."""
        if answer.refusal:
            return
        match request.plan:
            case Withdraw():
                self.customer.learn(request.outputs, WithdrawAnswer.decode(answer.body).coins)
            case Exchange():
                self.customer.learn(request.outputs, Issue.decode(answer.body).coins)
            case Refund() if request.ticket is not None:
                issue = RefundOrderAnswer.decode(answer.body).issue
                assert issue == self._answers[request.ticket.request_id]
                self._learn_issue(request.ticket, issue)

    def _learn_issue(self, ticket: Request, issue: bytes) -> None:
        self.customer.learn(ticket.outputs, Issue.decode(ticket.open(issue).check()).coins)

    # ---------------------------------------------------------------- what was told before

    def check_recovered(self, plan: Recover, told: RecoverAnswer) -> None:
        """The withdrawals of an account, from the first one on."""
        account = self.model.account_of(plan.key)
        assert account is not None
        listed = [(one.request_id, one.answer) for one in told.withdrawals]
        expected = [(request_id, self._answers[request_id]) for request_id in account.withdrawals]
        assert listed == expected[: len(listed)]
        assert told.total == len(expected)
        assert len(listed) == len(expected) or told.next
        for one in told.withdrawals:
            self._relearn(one.request_id, one.answer)

    def check_fetched(self, request: Request, told: FetchAnswer) -> None:
        """The stored answer to a request."""
        known = self._answers.get(request.request_id)
        assert [one.answer for one in told.found] == ([] if known is None else [known])
        if known is not None and self._envelopes[request.request_id] == request.envelope:
            self._learn_again(request, known)

    def _relearn(self, request_id: bytes, answer: bytes) -> None:
        envelope = self._envelopes[request_id]
        self._learn_again(next(one for one in self.sent if one.envelope == envelope), answer)

    def _learn_again(self, request: Request, sealed: bytes) -> None:
        if request.kind == "ticket":
            self._learn_issue(request, sealed)
        else:
            self._learn(request, request.open(sealed))

    def check_spendings(self, denomination: bytes, told: CheckAnswer) -> None:
        """All spendings of a denomination."""
        spent = {coin: digest for coin, digest in self.model.spent.items() if coin.denomination == denomination}
        assert told.complete
        assert len(told.spendings) == len(spent)
        for coin in self.customer.purse:
            if coin.denomination == denomination:
                found = find_spending(told.spendings, denomination, serial_of(coin))
                assert (found and found.digest) == spent.get(coin)

    def missing(self) -> list[Request]:
        """Requests whose coins were signed, and never came."""
        tickets = [request.ticket for request in self.sent if request.ticket]
        return [
            one
            for one in (*self.sent, *tickets)
            if set(one.outputs) & self.model.issued - self.customer.purse.keys()
            and self._envelopes.get(one.request_id) == one.envelope
        ]

    def unspent(self) -> list[Coin]:
        """The coins that somebody holds and could still use, in the order in which they came."""
        return [coin for coin in self.customer.purse if coin not in self.model.spent]
