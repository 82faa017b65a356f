"""Deposits: payments to a merchant, written and sealed beforehand; measured from publishing to the bank's verdict.

The coins are withdrawn from the bank before, so that its books hold.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from protocol.bank.desk import Account
from protocol.coins import spend
from protocol.derivation import Root
from protocol.envelope import Letter, seal, seal_letter
from protocol.merchant import deposit
from protocol.messages import (
    PARCEL,
    DepositAnswer,
    DepositRequest,
    Parcel,
    PaymentInfo,
    Signed,
    commit_to_coins,
    open_verdict,
)
from protocol.signatures import public_key
from protocol.wallet.paying import ORDER_FUNCTION

from ..bank.home import DAY_MS
from ..requester import Requester
from .failure import BenchFailed
from .load import Tick
from .rig import BANK, CURRENCY, SHOP, Rig
from .withdraw import Sealed, Set, Withdrawals, ask

_FUNCTION: Final = ORDER_FUNCTION


class Deposits:
    """Deposits of payments with as many coins as a withdrawal of `source` gives, to one account."""

    def __init__(
        self, rig: Rig, source: Withdrawals, root: Root, requester: Requester, account: Account, seed: bytes, worth: int
    ) -> None:
        self._rig = rig
        self._source = source
        self._root = root
        self._requester = requester
        self._account = account
        self._seed = seed
        self._worth = worth
        self._digests: dict[bytes, bytes] = {}

    async def prepare(self, count: int, tick: Tick) -> list[Sealed]:
        """Withdraw the coins, then write so many deposits."""
        sets = await self._source.mint(count, tick)
        return [await asyncio.to_thread(self._write, one) for one in sets]

    def _write(self, paid: Set) -> Sealed:
        rig = self._rig
        now, random = rig.clock.now(), rig.entropy.bytes
        evidence_key = random(32)
        info = PaymentInfo(
            CURRENCY,
            self._worth,
            now,
            BANK,
            self._account.number,
            _FUNCTION,
            random(32),
            _FUNCTION,
            random(32),
            random(16),
            commit_to_coins(evidence_key, (coin for _, coin in paid.coins)),
            now + DAY_MS,
        )
        digest, key = info.digest, rig.keyset.envelope_key
        spent = [spend(coin, self._root.coin(paid.request_id, i), digest) for i, coin in paid.coins]
        parcel = seal(key, PARCEL, Parcel(digest, evidence_key, tuple(spent)).encode())
        request_id, answer_key = random(16), random(32)
        body = DepositRequest(info.encode(), parcel).encode()
        letter = Letter(deposit.KIND, request_id, now + DAY_MS, answer_key, self._account.key, body)
        self._digests[request_id] = digest
        return Sealed(deposit.KIND, request_id, seal_letter(key, letter, self._seed), answer_key)

    async def carry_out(self, job: Sealed) -> float:
        """Ask, and check the verdict."""
        begun = time.perf_counter()
        body = await ask(self._requester, self._rig.keyset, job, self._rig.entropy.jitter)
        elapsed = time.perf_counter() - begun
        signed = Signed.decode(DepositAnswer.decode(body).verdict)
        verdict = open_verdict(signed, self._rig.keyset.identity, self._digests[job.request_id])
        if verdict.refusal:
            raise BenchFailed(f"the bank has refused a deposit: {verdict.refusal}")
        return elapsed

    def figures(self, since: int) -> dict[str, float]:
        """There is nothing else to tell."""
        return {}


@asynccontextmanager
async def deposits(rig: Rig, coins: int) -> AsyncIterator[Deposits]:
    """Open a wallet that withdraws, a merchant's account, and one presence for both."""
    denominations = rig.denominations(coins)
    seed = rig.entropy.bytes(32)
    account = await rig.open_account("merchant", SHOP, public_key(seed))
    async with rig.customer("customer") as wallet, wallet.presence(rig.address.broker) as requester:
        source = Withdrawals(rig, wallet, requester, denominations)
        yield Deposits(rig, source, wallet.root, requester, account, seed, rig.worth(denominations))
