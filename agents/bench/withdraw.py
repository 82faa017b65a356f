"""Withdrawals: requests are blinded and sealed beforehand; measured from publishing one to its opened answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from protocol.answer import open_answer
from protocol.coins import Coin
from protocol.envelope import request_hash
from protocol.keyset import Keyset
from protocol.machine import Send, backoff
from protocol.messages import WithdrawAnswer, WithdrawRequest
from protocol.wallet import withdrawal
from protocol.wallet.outputs import blind_outputs

from ..client.wallet import Wallet
from ..requester import Requester
from .failure import BenchFailed
from .load import Tick, closed_loop
from .rig import BANK, Rig

_PREPARING: Final = 4
"""Withdrawals in flight while coins are made: the bank signs some while others are unblinded."""


class Sealed(NamedTuple):
    """A request, ready to be published."""

    kind: str
    request_id: bytes
    envelope: bytes
    answer_key: bytes


class Set(NamedTuple):
    """The coins of one withdrawal, each with the index that its key derives with."""

    request_id: bytes
    coins: tuple[tuple[int, Coin], ...]


async def ask(requester: Requester, keyset: Keyset, sealed: Sealed, jitter: Callable[[], int]) -> bytes:
    """Send a request to the bank, again if need be, and return the body of its opened answer.

    Raises:
        BenchFailed: if the bank does not answer.
        PeerError: if it refuses.
    """
    answer = await requester.ask(
        sealed.request_id,
        lambda attempt: requester.send(
            Send(BANK, sealed.kind, sealed.request_id, sealed.envelope, attempt), keyset.limits.lanes
        ),
        (backoff(attempt, jitter()) for attempt in range(5)),
    )
    if answer is None:
        raise BenchFailed("the bank does not answer")
    return open_answer(keyset.identity, sealed.answer_key, request_hash(sealed.envelope), answer).check()


class Withdrawals:
    """Withdrawals of coins of these denominations, over one presence."""

    def __init__(self, rig: Rig, wallet: Wallet, requester: Requester, denominations: list[bytes]) -> None:
        self._rig = rig
        self._wallet = wallet
        self._requester = requester
        self._denominations = denominations
        self._amount = rig.worth(denominations)
        self._commission = rig.keyset.tariff.withdrawal.charge(self._amount)

    def _write(self) -> Sealed:
        wallet, request_id = self._wallet, self._wallet.new_id()
        outputs = blind_outputs(wallet.root, self._rig.ring, request_id, self._denominations)
        request = WithdrawRequest(wallet.bank().row.generation, self._commission, outputs, ())
        envelope = wallet.seal_for_bank(wallet.bank(), withdrawal.KIND, request_id, request)
        return Sealed(withdrawal.KIND, request_id, envelope, wallet.root.answer_key(request_id))

    async def _ask(self, sealed: Sealed) -> bytes:
        return await ask(self._requester, self._rig.keyset, sealed, self._wallet.entropy.jitter)

    async def prepare(self, count: int, tick: Tick) -> list[Sealed]:
        """Return so many requests."""
        requests = []
        for _ in range(count):
            requests.append(await asyncio.to_thread(self._write))
            tick()
        return requests

    async def carry_out(self, job: Sealed) -> float:
        """Ask; the answer is opened, and its coins are left as they are."""
        begun = time.perf_counter()
        body = await self._ask(job)
        elapsed = time.perf_counter() - begun
        if len(WithdrawAnswer.decode(body).coins) != len(self._denominations):
            raise BenchFailed("the bank has not signed all coins")
        return elapsed

    def figures(self, since: int) -> dict[str, float]:
        """There is nothing else to tell."""
        return {}

    async def mint(self, count: int, tick: Tick) -> Sequence[Set]:
        """Withdraw so many sets of coins to the end: unblinded and verified."""
        sets: list[Set] = []

        async def withdraw(_: int) -> float:
            sealed = await asyncio.to_thread(self._write)
            answer = WithdrawAnswer.decode(await self._ask(sealed))
            asked = withdrawal.Requested(
                BANK, sealed.request_id, b"", tuple(self._denominations), self._amount, self._commission, 1
            )
            root, ring = self._wallet.root, self._rig.ring
            event = await asyncio.to_thread(withdrawal.unblind, root, ring, asked, answer, b"")
            if isinstance(event, withdrawal.AnswerWrong):
                raise BenchFailed(event.detail)
            sets.append(Set(sealed.request_id, event.coins))
            return 0.0

        await closed_loop(range(count), withdraw, _PREPARING, float("inf"), tick)
        return sets


@asynccontextmanager
async def withdrawals(rig: Rig, coins: int) -> AsyncIterator[Withdrawals]:
    """Open a wallet and its presence, to withdraw so many coins at a time."""
    async with rig.customer("customer") as wallet, wallet.presence(rig.address.broker) as requester:
        yield Withdrawals(rig, wallet, requester, rig.denominations(coins))
