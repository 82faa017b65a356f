"""Receiving coins from another wallet: what comes is exchanged before it counts.

A token is checked, then its coins are exchanged for fresh ones under a counted request id: from then on it is as safe
as a withdrawal, whatever breaks off. One that came as a text is given to `receive`; one that was asked for comes into
an inbox, a persistent presence under a client id that only the request names. It waits there while the wallet is off.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, NamedTuple, TypeAlias

from broker.port import Incoming, LinkError, Outgoing
from protocol import topics
from protocol.envelope import EnvelopePrivateKey, Suite, open_letter
from protocol.errors import PeerError
from protocol.keyset import fingerprint
from protocol.money import Amount, format_minor
from protocol.refusals import Refusal
from protocol.token import KIND, Acknowledgement, Token, TokenRequest, coins_of, new_request, seal_acknowledgement
from protocol.topics import Inbox
from protocol.wallet import exchange as machine

from ..address import BankAddress
from ..home import HomeError
from ..requester import NobodyAnswers
from ..trace import point
from ..world import Clock
from .exchange import Inputs, exchange
from .plans import hand_of, plan_refresh
from .store import ExchangeRow, WalletStore
from .transfer import Connect, broker_of, in_time, serving
from .verify import newest
from .wallet import Bank, Wallet, WalletError

_log = logging.getLogger("ecash.wallet")
PATIENCE_MS: Final = 60_000
RECEIVE: Final = "receive"
"""The purpose of an exchange of given coins, in the wallet's history."""
_GRACE_MS: Final = 5_000  # for a token that waits at the broker, when the request has expired meanwhile

Agree: TypeAlias = Callable[[BankAddress], Awaitable[bool]]
"""Asks the owner whether to trust a bank that the wallet does not know yet."""
OpenWallet: TypeAlias = Callable[[], AbstractAsyncContextManager[Wallet]]
"""Opens the wallet for as long as the context lasts; raises `HomeError` while somebody else has it."""


class Received(NamedTuple):
    """The exchange of a token's coins; `again` if the wallet had the token already."""

    row: ExchangeRow
    again: bool


class Asked(NamedTuple):
    """A request that waits; `token` is the hash of what was taken up for it, or nothing."""

    id: bytes
    request: TokenRequest
    token: bytes


def known_bank(wallet: Wallet, said: Token | TokenRequest) -> Bank | None:
    """Return the bank that a token or a request names, if the wallet knows it.

    Raises:
        WalletError: if the wallet knows another bank of that name.
    """
    for bank in wallet.banks:
        if bank.row.name == said.bank:
            if fingerprint(bank.keyset.identity) != said.fingerprint.hex():
                raise WalletError(f"this is of another bank {said.bank} than the one that this wallet knows")
            return bank
    return None


async def bank_of(wallet: Wallet, said: Token | TokenRequest, agree: Agree) -> Bank:
    """Return the bank that a token or a request names; one that is not known is entered if the owner agrees.

    Raises:
        WalletError: if the wallet knows another bank of that name, or the owner does not agree.
        NobodyAnswers, LinkError, PeerError: if a new bank cannot be reached, or has another identity than it should.
    """
    known = known_bank(wallet, said)
    if known is not None:
        return known
    address = address_of(said)
    if not await agree(address):
        raise WalletError(f"bank {said.bank} is not entered; nothing was done")
    async with wallet.presence(address.broker) as requester:
        return await wallet.refresh(address, requester)


def address_of(said: Token | TokenRequest) -> BankAddress:
    """Return the address of the bank that a token or a request names.

    Raises:
        PeerError: `MALFORMED`, if there is no broker at what it names.
    """
    return BankAddress(said.bank, broker_of(said.broker), said.fingerprint.hex())


async def receive(
    wallet: Wallet, bank: Bank, token: Token, at_least: int = 0, patience_ms: int = PATIENCE_MS
) -> Received:
    """Check a token and exchange its coins for the wallet's own.

    Returns:
        The exchange. It may be open: then it goes on the next time. It may be refused: a coin was spent before, as
        evidence has shown; then the token is not tried again.

    Raises:
        PeerError: if the token is not good, or its coins are not exchanged any more, or `AMOUNT_MISMATCH` if it is
            worth too little; nothing was sent, and no number is used up.
        NobodyAnswers, LinkError: if the bank cannot be reached.
    """
    before = await wallet.store.received(token.hash)
    if before is not None and (before.open or _is_settled(before)):
        return Received(before, again=True)
    bank = await newest(wallet, bank)
    coins = await asyncio.to_thread(coins_of, token, bank.ring)
    values = Counter(bank.ring.denomination(coin.denomination).value for coin, _ in coins)
    for coin, _ in coins:  # else a stranger could use up numbers, under which the bank stores nothing
        bank.ring.exchangeable(coin.denomination, wallet.clock.now())
    worth, limit = sum(values.elements()), bank.keyset.limits.max_coins
    if worth < at_least:
        told = f"{format_minor(at_least, token.currency)} were asked for, not {format_minor(worth, token.currency)}"
        raise PeerError(Refusal.AMOUNT_MISMATCH, told)
    hand = await hand_of(wallet, bank, token.currency, lambda *_: True)
    plan = await asyncio.to_thread(plan_refresh, values, hand.counts, hand.values, bank.keyset.tariff.exchange, limit)
    if plan is None or Counter(plan.inputs) != values:
        raise PeerError(Refusal.AMOUNT_MISMATCH, "the coins are too many, or too few for the commission of an exchange")
    outputs = [hand.minted[value] for value, count in plan.outputs.items() for _ in range(count)]
    inputs = Inputs(given=coins, token=token.hash)
    return Received(await exchange(wallet, bank, inputs, outputs, plan.commission, RECEIVE, patience_ms), again=False)


def _is_settled(row: ExchangeRow) -> bool:
    """Tell whether trying a token once more would change nothing: what is spent stays spent."""
    match row.state:
        case machine.Exchanged() | machine.Disputed() | machine.Refused(refusal=Refusal.ALREADY_SPENT):
            return True
        case _:
            return False


async def ask(wallet: Wallet, bank: Bank, amount: Amount, memo: str, expires: int) -> Asked:
    """Make a request for coins of a bank and remember that it waits; an amount of 0 stands for any.

    Raises:
        PeerError: `MALFORMED`, if the memo is not one.
    """
    request_id = wallet.new_id()
    address = (bank.row.name, bytes.fromhex(bank.address.fingerprint), bank.address.broker.public)
    inbox = (wallet.entropy.bytes(16).hex(), _key_of(wallet, request_id).public)
    request = new_request(address, amount.currency, amount.value, memo, inbox, expires)
    await wallet.store.save_request(request_id, request.encode())
    point("wallet.request.saved")
    return Asked(request_id, request, b"")


def _key_of(wallet: Wallet, request_id: bytes) -> EnvelopePrivateKey:
    """The token is the answer to the request."""
    return EnvelopePrivateKey(Suite.X25519, wallet.root.answer_key(request_id))


async def waiting(wallet: Wallet) -> list[Asked]:
    """Return the requests that wait."""
    return await waiting_in(wallet.store)


async def waiting_in(store: WalletStore) -> list[Asked]:
    """Return the requests that wait, of a wallet's file that is open to be looked at."""
    rows = await store.inbox()
    return [Asked(request_id, TokenRequest.decode(request), token) for request_id, request, token in rows]


async def wait(wallet: Wallet, asked: Asked, connect: Connect) -> ExchangeRow | None:
    """Wait as `watch` does, with a wallet that is open all the time."""
    return await watch(lambda: nullcontext(wallet), asked, connect)


async def watch(open_wallet: OpenWallet, asked: Asked, connect: Connect) -> ExchangeRow | None:
    """Wait in the inbox until a token has come that is good for the request, or the request has expired.

    What came while the wallet was off is taken up first. A token that is refused is acknowledged as such, and waiting
    goes on. The presence at the broker is given up with the request. The wallet is open only while a token is taken in.

    Returns:
        The exchange of the token's coins, which may still be open; None if nothing came in time.

    Raises:
        HomeError: as `open_wallet`, but not while a token is there, which its sender repeats.
        LinkError: if the broker cannot be reached; the request still waits then.
    """
    async with open_wallet() as wallet:
        row, key, clock = await _taken(wallet, asked.id), _key_of(wallet, asked.id), wallet.clock
    if row is None:
        row = await _arrival(open_wallet, asked, key, connect, clock)
    async with open_wallet() as wallet:
        row = row or await _taken(wallet, asked.id)
        if row is not None and row.open:
            return row
        await give_up(wallet.store, asked, connect)
    return row


async def give_up(store: WalletStore, asked: Asked, connect: Connect) -> None:
    """Wait for a request no more, whatever may still be sent to it."""
    point("wallet.request.closing")
    await store.close_request(asked.id)
    with contextlib.suppress(LinkError):  # else the broker forgets it by itself, later
        async with connect(broker_of(asked.request.broker), asked.request.inbox, persistent=False):
            pass


async def _taken(wallet: Wallet, request_id: bytes) -> ExchangeRow | None:
    """Return the exchange of what was taken up for a request, unless it was refused."""
    token = next((asked.token for asked in await waiting(wallet) if asked.id == request_id), b"")
    row = await wallet.store.received(token) if token else None
    return row if row is not None and (row.open or isinstance(row.state, machine.Exchanged)) else None


async def _arrival(
    open_wallet: OpenWallet, asked: Asked, key: EnvelopePrivateKey, connect: Connect, clock: Clock
) -> ExchangeRow | None:
    arrived: asyncio.Future[ExchangeRow] = asyncio.get_running_loop().create_future()
    request = asked.request
    link = connect(broker_of(request.broker), request.inbox, persistent=True)

    async def take(message: Incoming) -> None:
        topic = topics.parse(message.topic)
        if not isinstance(topic, Inbox) or message.retained:
            return
        letter = open_letter(key, message.payload, KIND)
        token = Token.read(letter.body)
        try:
            async with open_wallet() as wallet:
                row, told = await _taken_up(wallet, asked, token)
        except (HomeError, NobodyAnswers) as error:
            _log.warning("a token has come, but %s", error)  # its sender repeats it, or takes it back
            return
        if told is not None:
            sealed = seal_acknowledgement(letter.answer_key, letter.request_id, token.hash, told)
            with contextlib.suppress(LinkError):  # the sender asks the bank, and repeats
                await link.publish(Outgoing(topics.inbox(topic.sender, request.inbox), sealed))
        if row is not None and not arrived.done():
            arrived.set_result(row)

    async with serving(link, take):
        await in_time(clock, arrived, max(request.expires, clock.now() + _GRACE_MS))
    return arrived.result() if arrived.done() else None


async def _taken_up(wallet: Wallet, asked: Asked, token: Token) -> tuple[ExchangeRow | None, Acknowledgement | None]:
    """Receive a token for a request; return the exchange if the request is done by that, and what to tell the sender.

    Raises:
        NobodyAnswers, LinkError: if the bank cannot be reached; the sender repeats.
    """
    request = asked.request
    try:
        if (token.bank, token.fingerprint, token.currency) != (request.bank, request.fingerprint, request.currency):
            raise PeerError(Refusal.WRONG_BANK, "the token is not of the bank and the currency that were asked for")
        await wallet.store.save_request(asked.id, request.encode(), token.hash)
        point("wallet.request.taken")
        row = (await receive(wallet, wallet.bank(token.bank), token, request.amount)).row
    except PeerError as error:
        return None, Acknowledgement(error.refusal.value, error.detail[:500])
    match row.state:
        case machine.Exchanged():
            return row, Acknowledgement("", "")
        case machine.Refused(refusal=refusal, detail=detail):
            return None, Acknowledgement(refusal, detail[:500])
        case _:
            return row, None
