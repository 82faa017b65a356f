"""Whoever writes to the bank: letters, blinded values and spendings, made with the protocol's functions."""

import itertools
from functools import cache
from typing import NamedTuple

import msgspec

from protocol import coins
from protocol.answer import Answer, open_answer
from protocol.codec import Message
from protocol.coins import SpentCoin
from protocol.derivation import Root
from protocol.envelope import Letter, request_hash, seal, seal_letter
from protocol.exchange import EXCHANGE, REFUND, TICKET, ExchangeRequest, RefundOrder, Ticket, exchange_digest
from protocol.messages import (
    PARCEL,
    BlindedCoin,
    BlindSignature,
    DepositRequest,
    Parcel,
    PaymentInfo,
    WithdrawRequest,
    commit_to_coins,
)
from protocol.payout import PAYOUT, PayoutRequest
from protocol.recovery import REDEEM, RedeemRequest, redeem_digest
from protocol.signatures import public_key
from protocol.wallet.outputs import blind_outputs, unblind_outputs
from tests.world import seed

from .bank import NAME, key_seed, keys
from .plans import Coin, Deposit, Exchange, PayOut, Plan, Redeem, Refund, Spend, Withdraw

ROOT = Root(seed("wallet") * 2)
EVIDENCE_KEY = seed("evidence")


class Request(NamedTuple):
    """A request as it travels, what the model makes of it, and what its answer brings.

    `ticket` is the buyer's letter inside a refund: a request of its own, which the bank answers as well.
    """

    kind: str
    request_id: bytes
    deadline: int
    envelope: bytes
    plan: Plan
    outputs: tuple[Coin, ...] = ()
    ticket: "Request | None" = None

    def open(self, sealed: bytes) -> Answer:
        """Open an answer to this."""
        identity = public_key(keys().keys.identity)
        return open_answer(identity, ROOT.answer_key(self.request_id), request_hash(self.envelope), sealed)


class Terms(NamedTuple):
    """By when a request is to be served, and its id if that is not a new one."""

    deadline: int
    request_id: bytes = b""


class Customer:
    """All customers of one history, with one wallet between them: the bank cannot tell."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._numbers = itertools.count(1)
        self.purse: dict[Coin, coins.Coin] = {}

    def new_id(self) -> bytes:
        return next(self._ids).to_bytes(16)

    def new_coin(self, denomination: bytes) -> Coin:
        return Coin(next(self._numbers), denomination)

    def learn(self, outputs: tuple[Coin, ...], signatures: tuple[BlindSignature, ...]) -> None:
        """Put the coins of an answer into the purse."""
        assert [one.denomination for one in signatures] == [coin.denomination for coin in outputs]
        for coin, one in zip(outputs, signatures, strict=True):
            self.purse[coin] = _unblind(coin, one.signature)

    # ---------------------------------------------------------------- requests

    def seal(
        self, kind: str, key: str, body: Message, plan: Plan, terms: Terms, outputs: tuple[Coin, ...] = ()
    ) -> Request:
        """Write a letter, signed by this holder, or (`key` "") anonymous."""
        request_id = terms.request_id or self.new_id()
        sender = key_seed(key) if key else None
        signer = public_key(sender) if sender else b""
        letter = Letter(kind, request_id, terms.deadline, ROOT.answer_key(request_id), signer, body.encode())
        envelope = seal_letter(keys().envelope.public, letter, sender)
        return Request(kind, request_id, terms.deadline, envelope, plan, outputs)

    def withdraw(self, plan: Withdraw, terms: Terms, settled: tuple[bytes, ...]) -> Request:
        body = WithdrawRequest(plan.generation, plan.commission, _blinded(plan.outputs), settled)
        return self.seal("withdraw", plan.key, body, plan, terms, outputs=plan.outputs)

    def exchange(self, plan: Exchange, terms: Terms) -> Request:
        request_id = terms.request_id or self.new_id()
        outputs = _blinded(plan.outputs)
        plan = plan._replace(spend=self._on(plan.spend, exchange_digest(NAME, request_id, plan.commission, outputs)))
        body = ExchangeRequest(plan.commission, self._spend(plan.spend), outputs)
        return self.seal(EXCHANGE, "", body, plan, Terms(terms.deadline, request_id), outputs=plan.outputs)

    def redeem(self, plan: Redeem, terms: Terms) -> Request:
        request_id = terms.request_id or self.new_id()
        digest = redeem_digest(NAME, request_id, public_key(key_seed(plan.key)))
        plan = plan._replace(spend=self._on(plan.spend, digest))
        body = RedeemRequest(plan.generation, plan.commission, self._spend(plan.spend))
        return self.seal(REDEEM, plan.key, body, plan, Terms(terms.deadline, request_id))

    def pay_out(self, plan: PayOut, terms: Terms) -> Request:
        return self.seal(PAYOUT, plan.key, PayoutRequest(plan.amount, plan.commission), plan, terms)

    def refund(self, plan: Refund, terms: Terms, ticket: Request | None) -> Request:
        """Order a refund with this ticket; with bytes that are none, if there is none."""
        body = RefundOrder(plan.amount, plan.commission, ticket.envelope if ticket else bytes(40))
        return self.seal(REFUND, plan.key, body, plan, terms)._replace(ticket=ticket)

    def ticket(self, outputs: tuple[Coin, ...], plan: Plan, deadline: int) -> Request:
        return self.seal(TICKET, "", Ticket(_blinded(outputs)), plan, Terms(deadline), outputs=outputs)

    # ---------------------------------------------------------------- payments

    def payment(self, plan: Deposit, now: int) -> tuple[Deposit, DepositRequest]:
        """Pay: what the merchant gets, and the plan with the payment's digest."""
        named = self._coins(plan.spend)[plan.altered :]
        info = PaymentInfo(
            currency="USD",
            amount=plan.amount,
            timestamp=now,
            bank=NAME,
            account=plan.account,
            order_function="sha-256",
            order_digest=seed("order"),
            payer_function="sha-256",
            payer_digest=seed("payer"),
            payment_id=plan.payment_id,
            parcel=commit_to_coins(EVIDENCE_KEY, named),
            deposit_before=plan.deposit_before,
        )
        plan = plan._replace(spend=self._on(plan.spend, info.digest))
        parcel = Parcel(info.digest, EVIDENCE_KEY, self._spend(plan.spend))
        sealed = seal(keys().envelope.public, PARCEL, parcel.encode())
        return plan, DepositRequest(info.encode(), sealed)

    # ---------------------------------------------------------------- coins

    @staticmethod
    def _on(spend: Spend, digest: bytes) -> Spend:
        return spend._replace(digest=digest)

    def _coins(self, spend: Spend) -> list[coins.Coin]:
        shown = [self.purse[coin] for coin in spend.coins]
        if spend.fault == "forged":
            signature = bytes([shown[-1].signature[0] ^ 1]) + shown[-1].signature[1:]
            shown[-1] = msgspec.structs.replace(shown[-1], signature=signature)
        return shown

    def _spend(self, spend: Spend) -> tuple[SpentCoin, ...]:
        digest = seed("elsewhere") if spend.fault == "stolen" else spend.digest
        shown = zip(spend.coins, self._coins(spend), strict=True)
        return tuple(coins.spend(one, secret_of(coin), digest) for coin, one in shown)


@cache
def secret_of(coin: Coin) -> bytes:
    """The seed of a coin's key."""
    return ROOT.coin(coin.number.to_bytes(16), 0)


@cache
def serial_of(coin: Coin) -> bytes:
    """A coin's serial number."""
    return public_key(secret_of(coin))


def _blinded(outputs: tuple[Coin, ...]) -> tuple[BlindedCoin, ...]:
    return tuple(map(_blind, outputs))


@cache
def _blind(coin: Coin) -> BlindedCoin:
    """Blind a coin; histories number theirs alike, so it is seldom done twice."""
    (blinded,) = blind_outputs(ROOT, keys().ring, coin.number.to_bytes(16), [coin.denomination])
    return blinded


@cache
def _unblind(coin: Coin, signature: bytes) -> coins.Coin:
    signed = BlindSignature(coin.denomination, signature)
    found, wrong = unblind_outputs(ROOT, keys().ring, coin.number.to_bytes(16), [coin.denomination], [signed])
    assert not wrong
    return found[0][1]
