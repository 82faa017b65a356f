"""Answers that the bank has kept: from one of them and the seed come its coins again."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from protocol.answer import open_answer
from protocol.coins import Coin
from protocol.errors import PeerError
from protocol.exchange import Issue
from protocol.messages import BlindSignature
from protocol.recovery import FETCH, FetchAnswer, FetchRequest, StoredAnswer
from protocol.wallet.outputs import unblind_outputs
from protocol.wallet.purse import KeepCoins

from ..trace import point
from .wallet import Bank, Wallet

Coins: TypeAlias = tuple[tuple[int, Coin], ...]
"""Each with its index in the request."""


class Opened(NamedTuple):
    """What a stored answer holds: coins that verified, how many of them were new, and what is wrong, if anything."""

    coins: Coins = ()
    new: int = 0
    wrong: str = ""


async def fetch(wallet: Wallet, bank: Bank, request_id: bytes) -> StoredAnswer | None:
    """Ask the bank, as nobody, for the answer that it has kept under an id.

    Raises:
        NobodyAnswers, LinkError: if the bank does not answer.
        PeerError: if it refuses to tell.
    """
    answer = await wallet.ask_anonymously(bank, FETCH, FetchRequest(request_id))
    found = FetchAnswer.decode(answer.check()).found
    return found[0] if found else None


async def take_in(
    wallet: Wallet, bank: Bank, stored: StoredAnswer, read: Callable[[bytes], Sequence[BlindSignature]]
) -> Opened:
    """Open a stored answer and enter its coins, unverified, if the file does not know them. A refusal has none."""
    request_id = stored.request_id
    key = wallet.root.answer_key(request_id)
    try:
        answer = open_answer(bank.keyset.identity, key, stored.request_hash, stored.answer)
        signatures = () if answer.refusal else read(answer.body)
    except PeerError as error:
        return Opened(wrong=str(error))
    denominations = [one.denomination for one in signatures]
    coins, wrong = await asyncio.to_thread(
        unblind_outputs, wallet.root, bank.ring, request_id, denominations, signatures
    )
    values = {key: (one.currency, one.value) for key, one in bank.ring.items()}
    new = await wallet.store.recovered(bank.row.name, KeepCoins(request_id, coins, unverified=True), values)
    point("wallet.recover.entered")
    return Opened(coins, new, wrong)


def issued(body: bytes) -> tuple[BlindSignature, ...]:
    """Read the answer to an exchange or a ticket."""
    return Issue.decode(body).coins
