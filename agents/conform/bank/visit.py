"""A visit to a bank: its keyset, a client's and a merchant's account there, and coins to spend."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, NamedTuple

import msgspec

from protocol import topics
from protocol.coins import Coin, SpentCoin, spend
from protocol.envelope import seal
from protocol.errors import PeerError
from protocol.keyset import KeyRing, open_keyset
from protocol.messages import (
    PARCEL,
    AccountAnswer,
    AccountRequest,
    BlindedCoin,
    DepositAnswer,
    DepositRequest,
    Parcel,
    PaymentInfo,
    Signed,
    Verdict,
    WithdrawAnswer,
    WithdrawRequest,
    commit_to_coins,
    open_verdict,
)
from protocol.signatures import public_key
from protocol.wallet import withdrawal
from protocol.wallet.outputs import blind_outputs

from ...address import BankAddress
from ...world import Clock, Entropy
from ..case import Notes, Skipped
from ..voice import HOUR_MS, Receiver, Voice, speaking

RESERVE: Final = 12
"""How many coins are withdrawn at once for the cases to come."""


class Purse(NamedTuple):
    """Coins and the seeds of their keys, in one order."""

    coins: tuple[Coin, ...]
    seeds: tuple[bytes, ...]

    def spent_on(self, digest: bytes) -> tuple[SpentCoin, ...]:
        """Return the coins, spent on what has this digest, in the order of their serial numbers."""
        pairs = zip(self.coins, self.seeds, strict=True)
        return tuple(sorted((spend(*pair, digest) for pair in pairs), key=lambda one: one.coin.serial))

    def __add__(self, other: "Purse") -> "Purse":  # type: ignore[override]
        return Purse(self.coins + other.coins, self.seeds + other.seeds)


NOTHING: Final = Purse((), ())


class Visit:
    """A bank that is visited.

    Args:
        address: the bank's.
        announcement: its keyset as it is announced, which was checked.
        client, merchant, stranger: who asks; each over a presence of its own.
        invitations: that the client and the merchant claim their accounts with, 16 bytes each.
        notes: of the case that runs.
        clock, entropy: the world.

    Attributes:
        generation: under which the client asks (§8).
        totals: the bank's, as they were announced at the beginning, once they were seen.
        restart: a command that kills the bank and starts it again; "" if there is none.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that a visit brings
        self,
        address: BankAddress,
        announcement: bytes,
        client: Voice,
        merchant: Voice,
        stranger: Voice,
        invitations: tuple[bytes, bytes],
        notes: Notes,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.address = address
        self.announcement = announcement
        self.keyset = open_keyset(address.bank, address.fingerprint, announcement)
        self.ring = KeyRing(self.keyset)
        self._denominations = dict(self.ring.items())
        keyset = self.keyset
        self.receiver = Receiver(keyset.bank, keyset.limits.lanes, keyset.envelope_key, keyset.identity)
        self.client, self.merchant, self.stranger = client, merchant, stranger
        self.client_invitation, self.merchant_invitation = invitations
        self.notes = notes
        self.clock = clock
        self.entropy = entropy
        self.generation = 0
        self.totals = b""
        self.restart = ""
        self._client: AccountAnswer | None = None
        self._merchant: AccountAnswer | None = None
        self._coins = NOTHING

    # ---------------------------------------------------------------- accounts

    async def client_account(self) -> AccountAnswer:
        """Return the client's account; claim it, if that was not done."""
        if self._client is None:
            self._client = await self._claim(self.client, self.client_invitation)
            self.generation = self._client.generation
        return self._client

    async def merchant_account(self) -> AccountAnswer:
        """Return the merchant's account; claim it, if that was not done."""
        if self._merchant is None:
            self._merchant = await self._claim(self.merchant, self.merchant_invitation)
        return self._merchant

    @property
    def merchant_claimed(self) -> bool:
        """Whether the merchant's invitation was used."""
        return self._merchant is not None

    async def _claim(self, voice: Voice, invitation: bytes) -> AccountAnswer:
        asked = AccountRequest(invitation, 0)
        return AccountAnswer.decode(await voice.granted(self.receiver, "account", asked, what="a claim"))

    async def balance(self, voice: Voice) -> int:
        """Return what is in the account of who asks."""
        body = await voice.granted(self.receiver, "account", AccountRequest(b"", 0), what="a look")
        return AccountAnswer.decode(body).balance

    def passer_by(self) -> Voice:
        """Return who has no account, with a key of its own, over the stranger's presence."""
        seed = self.entropy.bytes(32)
        passer = Voice(self.stranger.link, self.notes, self.clock, self.entropy, seed)
        passer.requester, passer.heard = self.stranger.requester, self.stranger.heard
        return passer

    # ---------------------------------------------------------------- denominations

    async def values(self) -> dict[int, bytes]:
        """Return the ids of the denominations of the account's currency that are signed now, by value."""
        account = await self.client_account()
        return self.ring.current(account.currency, self.clock.now())

    async def unit(self) -> int:
        """Return the smallest value of a coin that is worth more than what is charged for it.

        Raises:
            Skipped: if there is none.
        """
        tariff = self.keyset.tariff
        for value in sorted(await self.values()):
            if all(kind.charge(value) < value for kind in (tariff.deposit, tariff.exchange, tariff.redemption)):
                return value
        raise Skipped("every coin of this bank is eaten up by its commissions")

    async def outputs(self, amount: int) -> list[bytes]:
        """Return denominations that are worth so much, the largest first.

        Raises:
            Skipped: if none are.
        """
        ids = await self.values()
        chosen: list[bytes] = []
        for value in sorted(ids, reverse=True):
            count, amount = divmod(amount, value)
            chosen += [ids[value]] * count
        if amount or not chosen or len(chosen) > self.keyset.limits.max_coins:
            raise Skipped("this bank has no coins that are worth the rest after its commission")
        return chosen

    def blind(self, voice: Voice, request_id: bytes, denominations: Sequence[bytes]) -> tuple[BlindedCoin, ...]:
        """Return blinded coins, derived by who asks."""
        return blind_outputs(voice.root, self.ring, request_id, denominations)

    # ---------------------------------------------------------------- withdrawal

    async def ordered(
        self, *values: int, request_id: bytes, generation: int = -1, commission: int = -1
    ) -> WithdrawRequest:
        """Return a withdrawal request for coins of these values, true but for what is given."""
        await self.client_account()
        ids = await self.values()
        outputs = self.blind(self.client, request_id, [ids[value] for value in values])
        charge = self.keyset.tariff.withdrawal.charge(sum(values)) if commission < 0 else commission
        return WithdrawRequest(self.generation if generation < 0 else generation, charge, outputs, ())

    def unblind(self, request_id: bytes, request: WithdrawRequest, answer: WithdrawAnswer) -> Purse:
        """Return the coins of an answer to a withdrawal, each verified."""
        denominations = tuple(coin.denomination for coin in request.coins)
        amount = sum(self.ring.denomination(one).value for one in denominations)
        state = withdrawal.Requested(
            self.keyset.bank, request_id, b"", denominations, amount, request.commission, attempts=1
        )
        event = withdrawal.unblind(self.client.root, self.ring, state, answer, b"")
        if isinstance(event, withdrawal.AnswerWrong):
            self.notes.fail("signatures that verify, and the amounts asked for (§9.3)", event.detail)
        seeds = tuple(self.client.root.coin(request_id, index) for index, _ in event.coins)
        return Purse(tuple(coin for _, coin in event.coins), seeds)

    async def withdraw(self, *values: int) -> Purse:
        """Withdraw coins of these values."""
        request_id = self.client.new_id()
        request = await self.ordered(*values, request_id=request_id)
        what = f"{len(values)} coins worth {sum(values)}"
        body = await self.client.granted(self.receiver, "withdraw", request, request_id=request_id, what=what)
        return self.unblind(request_id, request, WithdrawAnswer.decode(body))

    async def purse(self, count: int = 1) -> Purse:
        """Return so many unspent coins, each worth a `unit`."""
        while len(self._coins.coins) < count:
            unit = await self.unit()
            self._coins += await self.withdraw(*[unit] * min(RESERVE, self.keyset.limits.max_coins))
        coins, seeds = self._coins
        self._coins = Purse(coins[count:], seeds[count:])
        return Purse(coins[:count], seeds[:count])

    def worth(self, purse: Purse) -> int:
        """Return what coins are worth, in minor units; those of keys that the bank does not have, nothing."""
        return sum(d.value for coin in purse.coins if (d := self._denominations.get(coin.denomination)))

    async def forged(self) -> Purse:
        """Return a coin that no bank has signed."""
        seed, ids = self.entropy.bytes(32), await self.values()
        coin = Coin(ids[await self.unit()], public_key(seed), bytes(255) + b"\2")
        return Purse((coin,), (seed,))

    # ---------------------------------------------------------------- payments

    async def info(self, purse: Purse, evidence_key: bytes, **changes: Any) -> PaymentInfo:
        """Return payment information for the merchant, to be paid with these coins, or as `changes` say."""
        account, now = await self.merchant_account(), self.clock.now()
        info = PaymentInfo(
            currency=account.currency,
            amount=self.worth(purse) or 1,
            timestamp=now,
            bank=self.keyset.bank,
            account=account.account,
            order_function="sha-256",
            order_digest=self.entropy.bytes(32),
            payer_function="sha-256",
            payer_digest=self.entropy.bytes(32),
            payment_id=self.entropy.bytes(16),
            parcel=commit_to_coins(evidence_key, purse.coins),
            deposit_before=now + HOUR_MS,
        )
        return msgspec.structs.replace(info, **changes)

    def sealed_parcel(self, digest: bytes, evidence_key: bytes, coins: Iterable[SpentCoin]) -> bytes:
        """Return a parcel, sealed for the bank."""
        return seal(self.receiver.envelope_key, PARCEL, Parcel(digest, evidence_key, tuple(coins)).encode())

    async def payment(self, purse: Purse, **changes: Any) -> "Payment":
        """Return a payment with these coins, true but for the `changes` in its payment information."""
        evidence_key = self.entropy.bytes(32)
        info = await self.info(purse, evidence_key, **changes)
        parcel = self.sealed_parcel(info.digest, evidence_key, purse.spent_on(info.digest))
        return Payment(info, purse, evidence_key, DepositRequest(info.encode(), parcel))

    async def verdict(self, request: DepositRequest, what: str = "") -> tuple[Verdict, bytes]:
        """Deposit for the merchant; return the verdict, checked, and its signed bytes."""
        body = await self.merchant.granted(self.receiver, "deposit", request, what=what)
        signed = DepositAnswer.decode(body).verdict
        return self.read_verdict(signed, PaymentInfo.decode(request.info)), signed

    def read_verdict(self, signed: bytes, info: PaymentInfo) -> Verdict:
        """Return a verdict, checked to be the bank's, and on this payment in each field (§12.3)."""
        verdict = open_verdict(Signed.decode(signed), self.keyset.identity, info.digest)
        named = (verdict.bank, verdict.payment_id, verdict.account, verdict.currency, verdict.amount)
        if named != (info.bank, info.payment_id, info.account, info.currency, info.amount):
            self.notes.fail("a verdict that names bank, payment id, account, currency and amount (§12.3)", str(named))
        return verdict

    async def paid(self, count: int = 1) -> "Payment":
        """Return a payment of so many coins that the bank has accepted."""
        payment = await self.payment(await self.purse(count))
        verdict, signed = await self.verdict(payment.request, "a good payment")
        self.notes.same("the verdict's refusal", "", verdict.refusal)
        return payment._replace(verdict=signed)


class Payment(NamedTuple):
    """A payment: what the bank sees of it, and what only its payer knows; `verdict` is `Signed`, once it was given."""

    info: PaymentInfo
    purse: Purse
    evidence_key: bytes
    request: DepositRequest
    verdict: bytes = b""


@asynccontextmanager
async def visiting(
    address: BankAddress,
    invitations: tuple[bytes, bytes],
    notes: Notes,
    clock: Clock,
    entropy: Entropy,
) -> AsyncIterator[Visit]:
    """Find a bank, and visit it for as long as the context lasts.

    Raises:
        LinkError: if the broker is not there, or refuses.
        NobodyAnswers: if the bank announces no keyset.
        PeerError: if its keyset cannot be trusted.
    """
    async with AsyncExitStack() as stack:
        seeds: Sequence[bytes | None] = (entropy.bytes(32), entropy.bytes(32), None)
        voices = [
            await stack.enter_async_context(speaking(address.broker, notes, clock, entropy, seed)) for seed in seeds
        ]
        client, merchant, stranger = voices
        announcement = await stranger.requester.retained(topics.keys(address.bank))
        yield Visit(address, announcement, client, merchant, stranger, invitations, notes, clock, entropy)


def faulty() -> bytes:
    """Return the id (32 bytes) of a denomination that no bank has."""
    return bytes(range(1, 33))


def code_of(error: PeerError) -> str:
    """Return a refusal with its detail, for the report."""
    return f"{error.refusal}: {error.detail}"
