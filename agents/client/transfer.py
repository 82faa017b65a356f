"""Giving coins to another wallet: as a text, or sealed into the inbox that its owner has named."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from broker.address import BrokerUrl
from broker.port import Incoming, Link, LinkError, Outgoing
from protocol import topics
from protocol.envelope import Letter, seal_letter
from protocol.errors import PeerError
from protocol.keyset import Denomination
from protocol.machine import Overdue, backoff
from protocol.money import Amount, parse_amount
from protocol.refusals import Refusal
from protocol.selection import SelectionError, select_coins
from protocol.token import KIND, QR_COINS, Acknowledgement, Token, TokenRequest, check_memo, open_acknowledgement
from protocol.wallet import exchange
from protocol.wallet import transfer as machine
from protocol.wallet.stock import plan_change

from ..requester import NobodyAnswers
from ..trace import point
from ..world import Clock
from .drive import advance
from .machines import MACHINES
from .plans import Hand, carry_out, hand_of
from .show import describe
from .store import RESERVED, ExchangeRow, HeldCoin, Note
from .verify import newest, spent_among, verify
from .wallet import Bank, Wallet, WalletError

PATIENCE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
DAYS: Final = 7
"""How long a token waits to be claimed, unless its sender says otherwise."""

Taker: TypeAlias = Callable[[Incoming], Awaitable[None]]


class Connect(Protocol):
    """Makes an anonymous presence at a broker; a persistent one gets, later on, what came while it was away."""

    def __call__(self, broker: BrokerUrl, client_id: str, /, *, persistent: bool) -> Link:
        """Return a link that is not entered yet."""
        ...


class Gift(NamedTuple):
    """What is to be given: how much, with which words, for how many days; `request` if somebody asked for it."""

    amount: Amount
    memo: str = ""
    days: int = DAYS
    request: TokenRequest | None = None


def amount_of(bank: Bank, text: str, asked: TokenRequest | None = None) -> Amount:
    """Return the amount that was typed, or asked for; without a currency it is in the only one there is.

    Raises:
        WalletError: if nothing says how much, or less than asked for was typed.
        MoneyError: if the text is no amount.
    """
    if asked and not text:
        text = str(Amount(asked.amount, asked.currency)) if asked.amount else ""
    if not text:
        raise WalletError("how much? Give an amount, such as 5.00")
    currencies = {denomination.currency for _, denomination in bank.ring.items()}
    default = asked.currency if asked else bank.row.currency or (min(currencies) if len(currencies) == 1 else None)
    amount = parse_amount(text, default)
    if asked and (amount.currency != asked.currency or amount.value < asked.amount):
        raise WalletError(f"{Amount(asked.amount, asked.currency)} are asked for")
    return amount


async def give(wallet: Wallet, bank: Bank, gift: Gift) -> ExchangeRow:
    """Set coins apart that make exactly the amount, after an exchange for change if need be.

    Returns:
        The transfer; `token_of` is what to show or `deliver`.

    Raises:
        WalletError: if the coins cannot make the amount.
        PeerError: if the memo is not one (see `check_memo`); or as `exchange`.
        NobodyAnswers, LinkError: if change is needed and the bank cannot be reached.
    """
    now = wallet.clock.now()
    expires = now + gift.days * DAY_MS
    check_memo(gift.memo)
    coins = await _coins_for(wallet, bank, gift.amount, expires)
    transfer = machine.Transfer(
        bank=bank.row.name,
        broker=bank.address.broker.public,
        memo=gift.memo,
        serials=tuple(sorted(held.coin.serial for held in coins)),
        to=gift.request.encode() if gift.request else b"",
        expires=expires,
    )
    note = Note(gift.amount.value, gift.amount.currency, title=gift.memo)
    row = ExchangeRow(wallet.new_id(), machine.TRANSFER, bank.row.name, machine.New(), True, now, now, note)  # noqa: FBT003
    row, _ = await advance(wallet, bank, row, machine.Begin(transfer, now, wallet.entropy.jitter()))
    return row


async def _coins_for(wallet: Wallet, bank: Bank, amount: Amount, expires: int) -> list[HeldCoin]:
    """Return coins that make the amount and can be spent until it expires; few enough for a QR code if possible."""

    def lasting(_: bytes, denomination: Denomination) -> bool:
        return expires <= denomination.spend_until

    if not amount.value:
        raise WalletError("an amount of nothing cannot be given")
    hand = await hand_of(wallet, bank, amount.currency, lasting)
    coins = _exact(hand, amount.value)
    if coins is not None and len(coins) <= QR_COINS:
        return coins
    bank = await newest(wallet, bank)
    limit = bank.keyset.limits.max_coins
    hand = await hand_of(wallet, bank, amount.currency, lasting)
    for most in sorted({min(QR_COINS, limit), limit}):
        plan = plan_change(amount.value, hand.counts, hand.values, bank.keyset.tariff.exchange, most)
        if plan is None:
            continue
        if plan.inputs:
            row = await carry_out(wallet, bank, plan, hand, "change")
            if not isinstance(row.state, exchange.Exchanged):
                raise WalletError(f"there is no change for {amount} yet. {describe(row)}")
            hand = await hand_of(wallet, bank, amount.currency, lasting)
        if chosen := _exact(hand, amount.value):
            return chosen
    raise WalletError(
        f"the coins in hand cannot make {amount}, and last until it expires: withdraw first, or give fewer days"
    )


def _exact(hand: Hand, amount: int) -> list[HeldCoin] | None:
    try:
        return hand.take(select_coins(amount, hand.counts))
    except SelectionError:
        return None


async def token_of(wallet: Wallet, row: ExchangeRow) -> Token:
    """Return the token of a transfer that is under way: the same one each time.

    Raises:
        WalletError: if its coins are spent or came back.
    """
    if not isinstance(row.state, machine.Sent | machine.Closing):
        raise WalletError(describe(row))
    transfer, bank, currency = row.state.transfer, wallet.bank(row.bank), row.note.currency
    reserved = {held.coin.serial: held for held in await wallet.store.coins(row.bank, currency, RESERVED)}
    held = [reserved[serial] for serial in transfer.serials]
    coins = [(one.coin, wallet.root.coin(one.request_id, one.position)) for one in held]
    fingerprint = bytes.fromhex(bank.address.fingerprint)
    return Token.of(row.bank, fingerprint, transfer.broker, currency, transfer.memo, coins)


async def look(wallet: Wallet, row: ExchangeRow) -> ExchangeRow:
    """Ask the bank whether a transfer is claimed; when its time is over, take back what is not.

    Raises:
        NobodyAnswers, LinkError: if the bank cannot be reached.
        PeerError: if it refuses to tell.
    """
    return await _feed(wallet, row, Overdue(wallet.clock.now(), wallet.entropy.jitter()))


async def take_back(wallet: Wallet, row: ExchangeRow) -> ExchangeRow:
    """Take back what is not claimed: the bank is asked, and the coins are exchanged, so that the token is worthless.

    Raises:
        NobodyAnswers, LinkError: if the bank cannot be reached; the next time goes on from there.
        PeerError: if it refuses to tell.
    """
    return await _feed(wallet, row, machine.TakeBack(wallet.clock.now(), wallet.entropy.jitter()))


async def _feed(wallet: Wallet, row: ExchangeRow, event: machine.TransferEvent) -> ExchangeRow:
    """Step the machine, and carry out what it asks for."""
    bank = wallet.bank(row.bank)
    state, effects = MACHINES[row.kind].step(row.state, event)
    point(f"wallet.{row.kind}.saving")
    row = await wallet.store.save(row._replace(state=state), effects, {})
    point(f"wallet.{row.kind}.{type(state).__name__.lower()}")
    for effect in effects:
        if isinstance(effect, machine.AskSpent):
            reserved = await wallet.store.coins(row.bank, row.note.currency, RESERVED)
            coins = [held for held in reserved if held.coin.serial in effect.serials]
            row = await _feed(wallet, row, machine.Found(tuple(await spent_among(wallet, bank, coins))))
    if isinstance(row.state, machine.TakenBack) and row.state.back:
        await verify(wallet, bank)
    return row


async def deliver(
    wallet: Wallet, row: ExchangeRow, connect: Connect, patience_ms: int = PATIENCE_MS
) -> tuple[ExchangeRow, Acknowledgement | None]:
    """Put the token into the inbox that its request names, again and again until it is acknowledged.

    Returns:
        The transfer after the bank was asked whether it is claimed, and what the receiver says; None for nothing.

    Raises:
        LinkError: if the broker cannot be reached.
    """
    token = await token_of(wallet, row)
    said = await _hand_over(wallet, row, token, connect, patience_ms)
    with contextlib.suppress(
        LinkError, NobodyAnswers, PeerError
    ):  # the token is out; whether it is claimed shows later
        row = await look(wallet, row)
    return row, said


async def _hand_over(
    wallet: Wallet, row: ExchangeRow, token: Token, connect: Connect, patience_ms: int
) -> Acknowledgement | None:
    if not isinstance(row.state, machine.Sent | machine.Closing) or not row.state.transfer.to:
        raise WalletError("this transfer answers no request")
    transfer = row.state.transfer
    request, key, client = TokenRequest.decode(transfer.to), wallet.root.answer_key(row.id), wallet.entropy.bytes(16)
    letter = Letter(KIND, row.id, transfer.expires, key, b"", token.encode())
    envelope = seal_letter(request.envelope_key, letter, None)
    heard: asyncio.Future[Acknowledgement] = asyncio.get_running_loop().create_future()

    async def take(message: Incoming) -> None:
        told = open_acknowledgement(key, token.hash, message.payload)
        if not heard.done():
            heard.set_result(told)

    async with serving(connect(broker_of(request.broker), client.hex(), persistent=False), take) as link:
        give_up_at = wallet.clock.now() + patience_ms
        for attempt in count():
            with contextlib.suppress(LinkError):  # it is repeated
                await link.publish(Outgoing(topics.inbox(request.inbox, link.client_id), envelope))
            pause = wallet.clock.now() + backoff(attempt, wallet.entropy.jitter())
            if await in_time(wallet.clock, heard, min(pause, give_up_at)) or wallet.clock.now() >= give_up_at:
                break
    return heard.result() if heard.done() else None


@contextlib.asynccontextmanager
async def serving(link: Link, take: Taker) -> AsyncIterator[Link]:
    """Enter a link and let `take` have what comes into its inbox, one message after the other."""
    async with link:
        await link.subscribe(topics.inboxes(link.client_id))
        task = asyncio.create_task(link.serve(take, concurrency=1))
        try:
            yield link
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def in_time(clock: Clock, awaited: asyncio.Future[Any], until: int) -> bool:
    """Wait for a future, but not longer than until this time; tell whether it is done."""
    timer = asyncio.create_task(clock.sleep_until(until))
    try:
        await asyncio.wait({awaited, timer}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return awaited.done()


def broker_of(text: str) -> BrokerUrl:
    """Return the broker that a token or a request names.

    Raises:
        PeerError: `MALFORMED`, if it is no address, or has a log-in in it.
    """
    try:
        url = BrokerUrl.parse(text)
    except ValueError as error:
        raise PeerError(Refusal.MALFORMED, str(error)) from error
    if url.public != text:
        raise PeerError(Refusal.MALFORMED, "the broker's address is not written as it should be")
    return url
