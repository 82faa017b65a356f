"""Requests written by hand, byte for byte: what honest agents never send, too."""

import itertools
from typing import Any, NamedTuple

import msgspec

from agents.invitation import hash_invitation
from broker.port import Incoming
from protocol import topics
from protocol.answer import Answer, open_answer
from protocol.codec import Message
from protocol.coins import Coin, SpentCoin, spend
from protocol.derivation import Root
from protocol.envelope import EnvelopeKey, Letter, request_hash, seal, seal_letter
from protocol.messages import (
    DepositAnswer,
    DepositRequest,
    InquiryRequest,
    Parcel,
    PaymentInfo,
    Signed,
    Verdict,
    WithdrawAnswer,
    WithdrawRequest,
    commit_to_coins,
)
from protocol.signatures import Domain, public_key, sign
from protocol.wallet import withdrawal
from protocol.wallet.outputs import blind_outputs
from tests.simulation.clock import HOUR_MS
from tests.world import seed

from .world import BANK, SHOP, Town

_ids = itertools.count(1)


class Asking(NamedTuple):
    """A request as it travels, and what opens its answer."""

    kind: str
    request_id: bytes
    answer_key: bytes
    envelope: bytes


class Purse(NamedTuple):
    """Coins and the seeds of their keys, in one order."""

    coins: tuple[Coin, ...]
    seeds: tuple[bytes, ...]


_EMPTY = Purse((), ())
EVIDENCE_KEY = seed("evidence")


class Caller:
    """Who speaks to an agent's `handle` without a network. `key_seed` signs; None stays anonymous."""

    def __init__(self, town: Town, name: str, key_seed: bytes | None = None) -> None:
        self.town = town
        self.name = name
        self.seed = key_seed
        self.root = Root(seed(name) * 2)
        self.generation = 0  # as of every account that was opened for a known key

    @property
    def key(self) -> bytes:
        return public_key(self.seed) if self.seed else b""

    def seal(
        self,
        kind: str,
        body: Message | bytes,
        *,
        request_id: bytes = b"",
        deadline: int = 0,
        to: EnvelopeKey | None = None,
    ) -> Asking:
        """Seal a request, for the bank if not told otherwise."""
        request_id = request_id or next(_ids).to_bytes(16)
        answer_key = self.root.answer_key(request_id)
        data = body if isinstance(body, bytes) else body.encode()
        due = deadline or self.town.clock.now() + HOUR_MS
        letter = Letter(kind, request_id, due, answer_key, self.key, data)
        envelope = seal_letter(to or self.town.keyset.envelope_key, letter, self.seed)
        return Asking(kind, request_id, answer_key, envelope)

    async def send(self, asking: Asking) -> bytes:
        """Hand a request to the bank and return the sealed answer."""
        topic = topics.bank_request(BANK, 0, asking.kind, self.name)
        answer = await self.town.bank.handle(Incoming(topic, asking.envelope))
        assert answer is not None
        assert answer.topic == f"ecash/v1/reply/{self.name}/{BANK}"
        return answer.payload

    async def send_to_shop(self, asking: Asking) -> bytes | None:
        """Hand a request to the shop and return the sealed answer, if there is one yet."""
        topic = topics.merchant_request(SHOP, asking.kind, self.name)
        answer = await self.town.shop.handle(Incoming(topic, asking.envelope))
        if answer is None or answer.topic.startswith("ecash/v1/reply/"):
            return answer.payload if answer else None
        await self.town.shop._link.publish(answer)  # the deposit
        return None

    def open(self, asking: Asking, sealed: bytes, by: bytes = b"") -> Answer:
        signer = by or self.town.keyset.identity
        return open_answer(signer, asking.answer_key, request_hash(asking.envelope), sealed)

    async def ask(self, kind: str, body: Message | bytes, **parts: Any) -> Answer:
        asking = self.seal(kind, body, **parts)
        return self.open(asking, await self.send(asking))

    async def refusal(self, kind: str, body: Message | bytes, **parts: Any) -> str:
        """The code that the bank refuses a request with, "" if it does not."""
        return (await self.ask(kind, body, **parts)).refusal

    # ---------------------------------------------------------------- accounts and coins

    async def open_account(self, kind: str = "client", amount: int = 0) -> int:
        """Open an account for this caller's key and fill it."""
        account = await self.town.books.open_account(kind, self.name, self.name.title(), "USD", self.key, b"")
        if amount:
            await self.town.books.credit(account.number, amount, f"cash of {self.name}")
        return account.number

    def order_coins(self, *values: int, request_id: bytes = b"") -> tuple[bytes, list[bytes], WithdrawRequest]:
        """Write a withdrawal request: its id, the denominations, the body."""
        request_id = request_id or next(_ids).to_bytes(16)
        ids = self.town.ring.current("USD", self.town.clock.now())
        denominations = [ids[value] for value in values]
        commission = self.town.keyset.tariff.withdrawal.charge(sum(values))
        outputs = blind_outputs(self.root, self.town.ring, request_id, denominations)
        return request_id, denominations, WithdrawRequest(self.generation, commission, outputs, ())

    async def withdraw(self, *values: int) -> Purse:
        """Withdraw coins of these values."""
        request_id, denominations, request = self.order_coins(*values)
        answer = await self.ask("withdraw", request, request_id=request_id)
        told = WithdrawAnswer.decode(answer.check())
        state = withdrawal.Requested(BANK, request_id, b"", tuple(denominations), told.amount, told.commission, 1)
        event = withdrawal.unblind(self.root, self.town.ring, state, told, b"")
        coins = tuple(coin for _, coin in event.coins)
        return Purse(coins, tuple(self.root.coin(request_id, index) for index in range(len(values))))

    def forged(self, digest: bytes = bytes(32)) -> tuple[SpentCoin, ...]:
        """A coin that no bank has signed, spent on this digest."""
        key = seed("key of a forged coin")
        denomination = self.town.ring.current("USD", self.town.clock.now())[1]
        return (spend(Coin(denomination, public_key(key), bytes(256)), key, digest),)

    # ---------------------------------------------------------------- payments

    def info(self, amount: int, purse: Purse = _EMPTY, **changes: Any) -> PaymentInfo:
        """Payment information for the shop, to be paid with these coins, or as `changes` say."""
        now = self.town.clock.now()
        info = PaymentInfo(
            currency="USD",
            amount=amount,
            timestamp=now,
            bank=BANK,
            account=self.town.shop_number,
            order_function="sha-256",
            order_digest=seed("order"),
            payer_function="sha-256",
            payer_digest=seed("payer"),
            payment_id=next(_ids).to_bytes(16),
            parcel=commit_to_coins(EVIDENCE_KEY, purse.coins),
            deposit_before=now + HOUR_MS,
        )
        return msgspec.structs.replace(info, **changes)

    def parcel(self, info: PaymentInfo, purse: Purse, *, digest: bytes = b"") -> bytes:
        """Spend coins on a payment (or on another digest) and seal them for the bank."""
        on = digest or info.digest
        spent = tuple(spend(coin, key, on) for coin, key in zip(purse.coins, purse.seeds, strict=True))
        return seal(self.town.keyset.envelope_key, "parcel", Parcel(on, EVIDENCE_KEY, spent).encode())

    def deposit(self, info: PaymentInfo, purse: Purse) -> DepositRequest:
        return DepositRequest(info.encode(), self.parcel(info, purse))

    def paying(self, amount: int, purse: Purse) -> DepositRequest:
        """A payment of its own, to be deposited."""
        return self.deposit(self.info(amount, purse), purse)

    async def verdict(self, request: DepositRequest, **parts: Any) -> Verdict:
        """Deposit and return the verdict, checked."""
        body = DepositAnswer.decode((await self.ask("deposit", request, **parts)).check())
        return self.read(body.verdict)

    def read(self, signed: bytes) -> Verdict:
        return Verdict.decode(Signed.decode(signed).check(self.town.keyset.identity, Domain.VERDICT))

    def inquiry(self, info: PaymentInfo, purse: Purse, index: int = 0) -> tuple[bytes, InquiryRequest]:
        """Write an inquiry and its request id."""
        request_id = next(_ids).to_bytes(16)
        coin = purse.coins[index]
        proof = sign(purse.seeds[index], Domain.INQUIRY, info.digest, request_id)
        return request_id, InquiryRequest(info.encode(), coin.denomination, coin.serial, proof)


async def client(town: Town, amount: int = 100) -> Caller:
    """A client with an account."""
    caller = Caller(town, "client", seed("client's key"))
    await caller.open_account("client", amount)
    return caller


async def shopkeeper(town: Town) -> Caller:
    """A merchant with an account; the town's shop, as far as the callers' payments go."""
    caller = Caller(town, "keeper", seed("keeper's key"))
    town.shop_number = await caller.open_account("merchant")
    return caller


async def open_invited(town: Town, name: str, secret: bytes) -> None:
    """Open an account that waits for its holder."""
    await town.books.open_account("client", name, name.title(), "USD", b"", hash_invitation(secret))
