"""Recovering: whatever has happened to a wallet, its owner gets the money back.

The bank has kept its answers, and from the seed and an answer come its coins. Under the account it gives those to
withdrawals; anonymously, to whoever knows the id, those to exchanges and tickets, whose ids are counted. Coins that
this file does not know enter it unverified, at once, so that an interrupted recovery goes on where it was. Then it is
asked which are spent, and the others are redeemed into the account, or exchanged for fresh ones.

The bank sees that somebody asks for several exchanges soon after each other: that they are one wallet's is what
recovery gives away. Nothing in the questions says whose; their time may, for the account is asked about soon after, and
if few recover at that hour, the bank can guess that it is the same person's. So what is anonymous comes first, and in
random order. What is kept as fresh coins, and spent some time later, is connected with nothing.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from protocol.errors import PeerError
from protocol.messages import AccountAnswer, BlindSignature, WithdrawAnswer
from protocol.money import Amount
from protocol.recovery import RECOVER, RecoverAnswer, RecoverRequest
from protocol.refusals import Refusal
from protocol.selection import SelectionError, select_coins
from protocol.wallet import exchange as exchanging
from protocol.wallet import redemption as redeeming

from ..address import BankAddress
from .redeem import redeem
from .resume import resume
from .store import FREE, UNVERIFIED, ExchangeRow, HeldCoin
from .stored import Opened, fetch, issued, take_in
from .verify import (
    Progress,
    Sums,
    coins_of,
    in_batches,
    is_alive,
    keep_unspent,
    newest,
    quiet,
    shuffled,
    weed_out,
    worth,
)
from .wallet import IN_USE, Bank, InUse, Wallet, WalletError

GAP: Final = 20
"""So many exchange ids in a row, and as many as were found so far, must be unknown before no more are asked for."""


class Found(NamedTuple):
    """What one source gave: stored answers, the coins in them, how many of those were known, and bad answers."""

    answers: int = 0
    coins: int = 0
    known: int = 0
    bad: int = 0

    def __add__(self, other: object) -> "Found":
        """Return the sum of both."""
        if not isinstance(other, Found):
            return NotImplemented
        return Found(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Report(NamedTuple):
    """What a recovery has come to.

    `spent` was found and is proven spent, `aside` is disputed; `credited` to the account (after commission), `kept` as
    fresh coins, `left` unverified. `notes` are for the owner.
    """

    bank: str
    withdrawals: Found
    exchanges: Found
    spent: Sums
    aside: Sums
    credited: Sums
    kept: Sums
    left: Sums
    notes: tuple[str, ...]


async def recover(
    wallet: Wallet, bank: Bank, *, keep: bool = False, gap: int = GAP, progress: Progress = quiet
) -> Report:
    """Find all coins of this wallet's seed at a bank and bring their value back; may be run again at any time.

    Args:
        wallet: what was left open in its file should have been resumed before.
        bank: where; without an account there only what is anonymous is found, and it is kept.
        keep: exchange what is unspent for fresh coins; else it is redeemed into the account.
        gap: how many exchange ids in a row, at the least, must be unknown before no more are asked for: it grows to
            as many as were found, so that holes among the used ones hide nothing.
        progress: is told how far it is.

    Raises:
        InUse: if another device has taken the account over.
        NobodyAnswers: if the bank does not answer.
        PeerError: if it refuses to tell, or its keyset cannot be trusted.
    """
    bank = await newest(wallet, bank)
    notes = list[str]()
    exchanges = await _find_exchanges(wallet, bank, gap, progress)
    withdrawals = await _find_withdrawals(wallet, bank, progress)
    if bad := withdrawals.bad + exchanges.bad:
        notes.append(f"{bad} of the answers that {bank.row.name} has kept are not what was asked for, or incomplete")
    spent, aside, more = await weed_out(wallet, bank, progress, free=True)
    notes += more
    credited = Sums()
    if bank.row.account is None:
        notes.append(f"without an account at {bank.row.name}, coins are found only where it does not know whose")
    else:
        wanted = _is_revoked(bank) if keep else _anything
        credited += await _redeem_all(wallet, bank, UNVERIFIED, wanted, notes, progress)
        credited += await _redeem_all(wallet, bank, FREE, _is_revoked(bank), notes, progress)
    kept, more = await keep_unspent(wallet, bank, progress)
    left = await worth(wallet, bank, UNVERIFIED)
    return Report(
        bank.row.name,
        withdrawals,
        exchanges,
        spent,
        aside,
        +credited,
        kept,
        left,
        tuple(dict.fromkeys((*notes, *more))),
    )


async def redeem_revoked(wallet: Wallet, bank: Bank, progress: Progress = quiet) -> tuple[Sums, tuple[str, ...]]:
    """Redeem all coins whose key is revoked: they are good for nothing else.

    Returns:
        What the account was credited with, and what the owner should be told.
    """
    notes, credited, revoked = list[str](), Sums(), _is_revoked(bank)
    for state in (UNVERIFIED, FREE):
        if bank.row.account is not None:
            credited += await _redeem_all(wallet, bank, state, revoked, notes, progress)
        elif any(revoked(one) for held in (await coins_of(wallet, bank, state)).values() for one in held):
            notes.append(f"coins of a revoked key can only be redeemed, which takes an account at {bank.row.name}")
    return +credited, tuple(dict.fromkeys(notes))


async def put_back(
    wallet: Wallet, bank: Bank, amount: Amount | None, progress: Progress = quiet
) -> tuple[Sums, tuple[str, ...]]:
    """Redeem free coins worth exactly `amount`, or all of them, into the account.

    Returns:
        What the account was credited with, and what the owner should be told.

    Raises:
        WalletError: if there is no account, or the coins do not make the amount.
    """
    if bank.row.account is None or bank.row.currency is None:
        raise WalletError(f"this wallet has no account at {bank.row.name} to put coins into")
    held = await wallet.store.coins(bank.row.name, bank.row.currency)
    if amount is not None:
        try:
            chosen = select_coins(amount.value, Counter(one.value for one in held))
        except SelectionError as error:
            raise WalletError(f"the coins in hand cannot make {amount}: choose another sum, or --all") from error
        by_value = sorted(held, key=lambda one: one.value)
        held = [one for v, count in chosen.items() for one in [c for c in by_value if c.value == v][:count]]
    serials, notes = {one.coin.serial for one in held}, list[str]()
    return (
        await _redeem_all(wallet, bank, FREE, lambda one: one.coin.serial in serials, notes, progress),
        tuple(notes),
    )


async def restore(
    wallet: Wallet, bank: Bank, *, keep: bool = False, gap: int = GAP, progress: Progress = quiet
) -> Report:
    """Carry on what a restored file holds open, then `recover`, whose arguments these are."""
    await resume(wallet)
    return await recover(wallet, bank, keep=keep, gap=gap, progress=progress)


Confirm: TypeAlias = Callable[[str], Awaitable[bool]]
"""Asks the owner a question, to be answered with yes or no."""


async def settle_in(wallet: Wallet, address: BankAddress, confirm: Confirm) -> AccountAnswer | None:
    """Make this device the one that the bank serves; take the account over from another one if the owner agrees.

    Returns:
        The account; None if the bank knows none for this wallet's key.

    Raises:
        InUse: if the owner does not agree.
        NobodyAnswers: if the bank does not answer.
        PeerError: if the bank refuses, or its keyset cannot be trusted.
    """
    try:
        return await wallet.register(address, b"")
    except InUse as error:
        if not await confirm(str(error)):
            raise
        return await wallet.register(address, b"", take_over=True)
    except PeerError as error:
        if error.refusal is not Refusal.UNKNOWN_ACCOUNT:
            raise
        return None


def _is_revoked(bank: Bank) -> Callable[[HeldCoin], bool]:
    return lambda one: one.coin.denomination in bank.ring.revoked


def _anything(one: HeldCoin) -> bool:
    return True


async def _redeem_all(
    wallet: Wallet,
    bank: Bank,
    state: str,
    wanted: Callable[[HeldCoin], bool],
    notes: list[str],
    progress: Progress,
) -> Sums:
    """Redeem the wanted coins of this state and return what the account was credited with."""
    currency = bank.row.currency or ""

    def usable(one: HeldCoin) -> bool:
        return wanted(one) and is_alive(wallet, bank, one)

    async def act(batch: Sequence[HeldCoin]) -> ExchangeRow | None:
        amount = sum(one.value for one in batch)
        if bank.keyset.tariff.redemption.charge(amount) >= amount:
            return None
        return await redeem(wallet, bank, batch, unverified=state == UNVERIFIED)

    credited = Sums()
    for ended in await in_batches(wallet, bank, (state, currency), usable, act, notes, progress):
        if isinstance(ended, redeeming.Redeemed):
            credited[currency] += ended.amount - ended.commission
    return credited


async def _find_withdrawals(wallet: Wallet, bank: Bank, progress: Progress) -> Found:
    """Take in what the bank has answered to withdrawals. One that is open in this file is left to its machine."""
    if bank.row.account is None:
        return Found()
    under_way = {row.id for row in await wallet.store.exchanges(only_open=True)}
    found, start, seen = Found(), 0, 0
    async with wallet.presence(bank.address.broker) as requester:
        while True:
            request = RecoverRequest(bank.row.generation, start)
            answer = await wallet.ask_bank(bank, requester, RECOVER, request)
            if answer.refusal == Refusal.SUPERSEDED:
                raise InUse(IN_USE.format(account=bank.row.account, bank=bank.row.name))
            page = RecoverAnswer.decode(answer.check())
            for stored in page.withdrawals:
                seen += 1
                progress("withdrawals", seen, max(seen, page.total))
                if stored.request_id not in under_way:
                    found += _found(await take_in(wallet, bank, stored, _withdrawn))
            if page.next <= start:  # 0 at the end; a bank that goes round in circles is left, too
                return found
            start = page.next


async def _find_exchanges(wallet: Wallet, bank: Bank, gap: int, progress: Progress) -> Found:
    """Take in what the bank has answered to exchanges and tickets of every device that ever had this seed.

    In random order, those of all devices mixed: their order would tell which are one device's, and which came first.
    """
    done = {row.id for row in await wallet.store.exchanges() if row.open or isinstance(row.state, exchanging.Exchanged)}
    found, ours = Found(), bank.row.generation
    spans = [Span() for _ in range(ours + 1)]
    asked = 0
    while due := [(number, counter) for number, span in enumerate(spans) for counter in span.due(gap)]:
        for generation, counter in shuffled(wallet, due):
            progress("exchanges", asked, max(asked, len(due)))
            request_id = wallet.root.exchange_id(bank.keyset.identity, generation, counter)
            stored = None if request_id in done else await fetch(wallet, bank, request_id)
            if stored is not None and stored.request_id == request_id:
                found += _found(await take_in(wallet, bank, stored, issued))
            spans[generation].enter(counter, used=request_id in done or stored is not None)
            asked += 1
    await wallet.store.save_bank(bank.row._replace(counter=spans[ours].following))
    return found


class Span:
    """The exchange ids of one generation of device that are known to be used.

    Attributes:
        following: the first counter after the last one that was used.
    """

    def __init__(self) -> None:
        self.following = 0
        self._used = 0
        self._asked = 0

    def due(self, gap: int) -> range:
        """Return the counters to ask about next, each of them once: up to a gap after the last one that was used."""
        start, self._asked = self._asked, max(self._asked, self.following + max(gap, self._used))
        return range(start, self._asked)

    def enter(self, counter: int, *, used: bool) -> None:
        """Enter whether an id was used."""
        self._used += used
        self.following = max(self.following, counter + 1) if used else self.following


def _withdrawn(body: bytes) -> tuple[BlindSignature, ...]:
    return WithdrawAnswer.decode(body).coins


def _found(opened: Opened) -> Found:
    if not opened.coins and opened.wrong:
        return Found(bad=1)
    return Found(answers=1, coins=len(opened.coins), known=len(opened.coins) - opened.new, bad=bool(opened.wrong))
