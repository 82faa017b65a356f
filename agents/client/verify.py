"""Verifying coins: what came back from an old copy, from recovery or from a transfer counts once the bank has spoken.

Whether a coin is spent is asked anonymously and in the dark: the bank names all spendings whose serial numbers begin
with a few digits, each sealed under its own serial number. What is unspent is exchanged for fresh coins, so that a
copy of the old ones is worth nothing from then on.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias, TypeVar

from protocol import topics
from protocol.coins import Evidence
from protocol.errors import PeerError
from protocol.machine import State
from protocol.messages import Signed
from protocol.recovery import CHECK, CheckAnswer, CheckRequest, SealedSpending, find_spending
from protocol.refusals import Refusal
from protocol.selection import TARGET, SelectionError, choose_denominations
from protocol.totals import open_totals
from protocol.wallet import exchange as exchanging
from protocol.wallet import redemption as redeeming

from ..requester import NobodyAnswers
from ..trace import point
from .buckets import Search, limit_by
from .exchange import Inputs, exchange
from .show import describe
from .store import ASIDE, FREE, SPENT, UNVERIFIED, ExchangeRow, HeldCoin
from .wallet import Bank, Wallet

Sums: TypeAlias = Counter[str]
"""Minor units by currency."""
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much (0: nobody knows yet)."""
Act: TypeAlias = Callable[[Sequence[HeldCoin]], Awaitable[ExchangeRow | None]]
"""Does something with a batch of coins; None if it cannot be done with these."""
_T = TypeVar("_T")
TOTALS_PATIENCE_S: Final = 3.0
"""How long to wait for totals, which are retained if there are any."""
_SMALLER_WILL_DO: Final = frozenset({Refusal.REDEMPTION_CAPPED, Refusal.KEY_OVERDRAWN})


class Verified(NamedTuple):
    """What became of unverified coins: proven spent, set aside in a dispute, exchanged for fresh ones, still left."""

    spent: Sums
    aside: Sums
    kept: Sums
    left: Sums
    notes: tuple[str, ...]


class Judged(NamedTuple):
    """What the bank says of coins: spent, with evidence; spent, without; what it says nothing of is unspent."""

    spent: dict[bytes, Evidence]
    disputed: frozenset[bytes]


def quiet(what: str, done: int, total: int) -> None:
    """Tell nobody of progress."""


async def spent_among(
    wallet: Wallet, bank: Bank, coins: Iterable[HeldCoin], progress: Progress = quiet
) -> dict[bytes, Evidence]:
    """Return evidence for those coins, free or unverified, that are spent, by serial number.

    A coin that the bank calls spent without valid evidence is set aside; `judge` tells which those are.

    Raises:
        NobodyAnswers: if the bank does not answer.
        PeerError: if it refuses to tell.
    """
    coins = list(coins)
    judged = await judge(wallet, bank, coins, progress)
    await _set_aside(wallet, bank, coins, judged)
    return judged.spent


async def judge(wallet: Wallet, bank: Bank, coins: Iterable[HeldCoin], progress: Progress = quiet) -> Judged:
    """Ask which coins are spent; change nothing.

    Each question goes over a connection of its own, in random order within a level of prefixes. Which buckets are asked
    about depends on the bank's books alone, up to about 256 * `MAX_SPENDINGS` spent coins of a denomination; what
    remains beyond, see `buckets`.

    Raises:
        NobodyAnswers: if the bank does not answer.
        PeerError: if it refuses to tell; `AMOUNT_MISMATCH`, if it has too much to tell where by its own signed totals
            there cannot be so much.
    """
    void = await wallet.store.refused_digests()
    meant: dict[bytes, dict[str, bytes]] = {}
    for one in coins:
        if one.coin.denomination in bank.ring.ids:  # else expired, and not announced any more: nobody asks
            meant.setdefault(one.coin.denomination, {})[one.coin.serial.hex()] = one.coin.serial
    searches = {key: Search(list(serials), partial(wallet.root.decoy, key)) for key, serials in meant.items()}
    spent, disputed, asked = dict[bytes, Evidence](), set[bytes](), 0
    totals: Mapping[bytes, int] | None = None
    while level := [(key, prefix) for key, search in searches.items() for prefix in search.questions]:
        for done, (denomination, prefix) in enumerate(shuffled(wallet, level)):
            progress("checking", asked + done, asked + len(level))
            told = await _bucket(wallet, bank, denomination, prefix)
            searches[denomination].told(prefix, len({one.tag for one in told}) if told is not None else None)
            for digits, serial in meant[denomination].items():
                if told is None or not digits.startswith(prefix):
                    continue
                try:
                    evidence = find_spending(told, denomination, serial)
                except PeerError:
                    disputed.add(serial)
                    continue
                if evidence is not None and evidence.digest in void:
                    disputed.add(serial)
                elif evidence is not None:
                    spent[serial] = evidence
        asked += len(level)
        if totals is None and not all(search.ended for search in searches.values()):
            totals = await _spent_by_totals(wallet, bank)
        for denomination, search in searches.items():
            search.descend(limit_by((totals or {}).get(denomination)))
    progress("checking", asked, asked)
    return Judged(spent, frozenset(disputed))


async def _bucket(wallet: Wallet, bank: Bank, denomination: bytes, prefix: str) -> Sequence[SealedSpending] | None:
    """Return the spendings of a bucket; None if the bank has too much to tell."""
    answer = await wallet.ask_anonymously(bank, CHECK, CheckRequest(denomination, prefix))
    told = CheckAnswer.decode(answer.check())
    return told.spendings if told.complete else None


async def _spent_by_totals(wallet: Wallet, bank: Bank) -> Mapping[bytes, int]:
    """Return how many coins of each denomination are spent, as the bank has signed; nothing, if that is of no use.

    Totals that are missing or do not hold must not keep anybody from recovering: then a fixed limit does (`buckets`).
    """
    try:
        async with wallet.presence(bank.address.broker) as requester:
            announced = await requester.retained(topics.totals(bank.row.name), TOTALS_PATIENCE_S)
        totals = open_totals(Signed.decode(announced), bank.keyset)
    except (NobodyAnswers, PeerError):
        return {}
    return {one.denomination: one.spent for one in totals.denominations}


def shuffled(wallet: Wallet, items: Iterable[_T]) -> list[_T]:
    """Return these in random order."""
    return sorted(items, key=lambda _: wallet.entropy.bytes(8))


async def _set_aside(wallet: Wallet, bank: Bank, coins: Sequence[HeldCoin], judged: Judged) -> None:
    for state in (FREE, UNVERIFIED):
        here = {one.coin.serial for held in (await coins_of(wallet, bank, state)).values() for one in held}
        doubtful = [one.coin.serial for one in coins if one.coin.serial in judged.disputed & here]
        await wallet.store.move(doubtful, state, ASIDE)


async def coins_of(wallet: Wallet, bank: Bank, state: str) -> dict[str, list[HeldCoin]]:
    """Return a bank's coins that are in this state, by currency."""
    currencies = sorted({denomination.currency for _, denomination in bank.ring.items()})
    return {currency: await wallet.store.coins(bank.row.name, currency, state) for currency in currencies}


def is_alive(wallet: Wallet, bank: Bank, one: HeldCoin) -> bool:
    """Tell whether a coin is worth anything yet: from redeem-until on it is not."""
    denomination = one.coin.denomination
    return denomination in bank.ring.ids and wallet.clock.now() < bank.ring.denomination(denomination).redeem_until


async def weed_out(
    wallet: Wallet, bank: Bank, progress: Progress = quiet, *, free: bool = False
) -> tuple[Sums, Sums, tuple[str, ...]]:
    """Ask about every unverified coin, and the `free` ones; enter as spent what is proven to be, set aside what is not.

    Returns:
        What was spent, what is set aside, and what its owner should be told.

    Raises:
        NobodyAnswers, PeerError: as `spent_among`.
    """
    states = {state: await coins_of(wallet, bank, state) for state in ((UNVERIFIED, FREE) if free else (UNVERIFIED,))}
    everything = [one for of in states.values() for held in of.values() for one in held]
    judged = await judge(wallet, bank, everything, progress)
    spent, aside = Sums(), Sums()
    for state, of in states.items():
        here = {one.coin.serial for held in of.values() for one in held}
        await wallet.store.move(here & judged.spent.keys(), state, SPENT)
        await wallet.store.move(here & judged.disputed, state, ASIDE)
        for currency, held in of.items():
            spent[currency] += sum(one.value for one in held if one.coin.serial in judged.spent)
            aside[currency] += sum(one.value for one in held if one.coin.serial in judged.disputed)
    point("wallet.verify.weeded")
    notes = list[str]()
    if judged.disputed:
        notes.append(
            f"{bank.row.name} says that {len(judged.disputed)} coins are spent, and shows no valid evidence: "
            "they are set aside"
        )
    expired = sum(not is_alive(wallet, bank, one) for one in everything if one.coin.serial not in judged.spent)
    if expired:
        notes.append(f"{expired} coins have expired: their keys' last day has passed, and they are worth nothing now")
    return +spent, +aside, tuple(notes)


async def verify(wallet: Wallet, bank: Bank, progress: Progress = quiet) -> Verified:
    """Ask about every unverified coin and exchange for fresh ones what is not spent.

    Raises:
        NobodyAnswers: if the bank does not answer.
        PeerError: if it refuses to tell which coins are spent.
    """
    bank = await newest(wallet, bank)
    spent, aside, notes = await weed_out(wallet, bank, progress)
    kept, more = await keep_unspent(wallet, bank, progress)
    return Verified(spent, aside, kept, await worth(wallet, bank, UNVERIFIED), (*notes, *more))


async def newest(wallet: Wallet, bank: Bank) -> Bank:
    """Return the bank with the keyset that it announces now.

    Raises:
        NobodyAnswers: if no keyset is announced.
        PeerError: if it cannot be trusted.
    """
    async with wallet.presence(bank.address.broker) as requester:
        return await wallet.refresh(bank.address, requester)


async def worth(wallet: Wallet, bank: Bank, state: str) -> Sums:
    """Return what a bank's coins in this state are worth."""
    coins = await coins_of(wallet, bank, state)
    return +Sums({currency: sum(one.value for one in held) for currency, held in coins.items()})


async def keep_unspent(wallet: Wallet, bank: Bank, progress: Progress = quiet) -> tuple[Sums, tuple[str, ...]]:
    """Exchange all unverified coins, which are not known to be spent, for fresh ones.

    Returns:
        What the fresh coins are worth, and what its owner should be told.
    """
    kept, notes = Sums(), list[str]()
    for currency in await coins_of(wallet, bank, UNVERIFIED):

        async def act(batch: Sequence[HeldCoin], currency: str = currency) -> ExchangeRow | None:
            chosen = await _outputs(wallet, bank, batch, currency)
            if chosen is None:
                return None
            return await exchange(wallet, bank, Inputs(batch, unverified=True), *chosen, purpose="verify")

        def usable(one: HeldCoin) -> bool:
            return one.coin.denomination not in bank.ring.revoked and is_alive(wallet, bank, one)

        for state in await in_batches(wallet, bank, (UNVERIFIED, currency), usable, act, notes, progress):
            if isinstance(state, exchanging.Exchanged):
                kept[currency] += state.amount
    return +kept, tuple(notes)


async def _outputs(
    wallet: Wallet, bank: Bank, batch: Sequence[HeldCoin], currency: str
) -> tuple[list[bytes], int] | None:
    """Return what to ask for instead of these coins, and the commission; None if there is no such choice."""
    amount = sum(one.value for one in batch)
    commission = bank.keyset.tariff.exchange.charge(amount)
    minted = bank.ring.current(currency, wallet.clock.now())
    if commission >= amount or not minted:
        return None
    free = Counter(one.value for one in await wallet.store.coins(bank.row.name, currency))
    for stock in (free, dict.fromkeys(minted, TARGET)):  # what the purse lacks, or else as few coins as can be
        try:
            chosen = await asyncio.to_thread(choose_denominations, amount - commission, sorted(minted), stock)
        except SelectionError:
            return None
        if sum(chosen.values()) <= bank.keyset.limits.max_coins:
            return [minted[value] for value, count in chosen.items() for _ in range(count)], commission
    return None


async def in_batches(
    wallet: Wallet,
    bank: Bank,
    kind: tuple[str, str],
    usable: Callable[[HeldCoin], bool],
    act: Act,
    notes: list[str],
    progress: Progress = quiet,
) -> list[State]:
    """Do something with all usable coins of a state and currency (`kind`), as many at once as the bank takes.

    A batch that cannot be done, or is too much for the account, is tried again as a smaller one; what is proven spent
    is left out. What goes wrong is entered in `notes`.

    Returns:
        How each batch has ended.
    """
    state, currency = kind
    ended, size, given_up = list[State](), bank.keyset.limits.max_coins, set[bytes]()

    async def waiting() -> list[HeldCoin]:
        held = await wallet.store.coins(bank.row.name, currency, state)
        return [one for one in held if usable(one) and one.coin.serial not in given_up]

    while coins := await waiting():
        progress("bringing back", len(ended), len(ended) + -(-len(coins) // size))
        batch = coins[-size:] if size > 1 else coins[:1]
        row = await act(batch)
        if row is not None:
            ended.append(row.state)
        match row.state if row is not None else None:
            case exchanging.Exchanged() | redeeming.Redeemed():
                continue
            case (exchanging.Refused() | redeeming.Refused()) as refused if refused.spent:
                continue
            case None if size > 1:
                pass
            case redeeming.Refused(refusal=refusal) if refusal in _SMALLER_WILL_DO and size > 1:
                pass
            case _:
                notes.append(describe(row) if row is not None else _TOO_LITTLE)
                if size > 1 or row is None or not _is_this_coins_own_fault(bank, batch[0], row):
                    break
                given_up.add(batch[0].coin.serial)
                continue
        size = min(size, len(coins)) // 2 or 1
    return ended


def _is_this_coins_own_fault(bank: Bank, one: HeldCoin, row: ExchangeRow) -> bool:
    """Tell whether other coins may still fare better than this one, which was refused alone."""
    if not isinstance(row.state, redeeming.Refused):
        return False
    return row.state.refusal == Refusal.KEY_OVERDRAWN or one.coin.denomination in bank.ring.revoked


_TOO_LITTLE: Final = (
    "What is left is too little: the commission would eat it up, or the bank mints no coins so small. "
    "It can be verified together with more."
)
