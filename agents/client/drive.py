"""How the wallet carries an exchange through: feed events, make effects durable, then let them out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

from protocol import topics
from protocol.errors import PeerError
from protocol.machine import Event, Overdue, Send

from ..requester import INBOX, Later, Requester, keep
from ..trace import point
from .machines import MACHINES
from .store import ExchangeRow
from .wallet import Bank, Wallet

_log = logging.getLogger("ecash.wallet")

Read = Callable[[bytes], Awaitable[Event | Later | None]]
"""Turns a sealed answer into the event that it is, or None for one that changes nothing; `Later` is none for machines.

They wake when they asked to be woken, or when they were asked to come back, if that is later."""


class Correspondence(NamedTuple):
    """How an exchange speaks: over which presence, with which bank, and who reads which answer, by request id."""

    requester: Requester
    bank: Bank
    readers: Mapping[bytes, Read]


async def advance(wallet: Wallet, bank: Bank, row: ExchangeRow, event: Event) -> tuple[ExchangeRow, list[Send]]:
    """Step the exchange's machine, make the step durable, and return what may be sent now.

    Raises:
        CoinsTaken: if a coin to be reserved is not free any more; nothing was changed.
    """
    state, effects = MACHINES[row.kind].step(row.state, event)
    values = {key: (d.currency, d.value) for key, d in bank.ring.items()}
    point(f"wallet.{row.kind}.saving")
    saved = await wallet.store.save(row._replace(state=state), effects, values)
    point(f"wallet.{row.kind}.{type(state).__name__.lower()}")
    _log.debug("%s %s + %s -> %s", row.kind, row.id.hex()[:8], type(event).__name__, type(state).__name__)
    return saved, [effect for effect in effects if isinstance(effect, Send)]


async def drive(
    wallet: Wallet, row: ExchangeRow, sends: list[Send], talk: Correspondence, patience_ms: int
) -> ExchangeRow:
    """Carry an exchange on until it has ended, or rests, or patience is over: then it goes on another time."""
    inbox: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue(INBOX)
    for request_id in talk.readers:
        talk.requester.expect(request_id, partial(_put, inbox, request_id))
    try:
        return await _carry_on(wallet, row, sends, talk, inbox, wallet.clock.now() + patience_ms)
    finally:
        for request_id in talk.readers:
            talk.requester.forget(request_id)


async def _carry_on(
    wallet: Wallet,
    row: ExchangeRow,
    sends: list[Send],
    talk: Correspondence,
    inbox: asyncio.Queue[tuple[bytes, bytes]],
    give_up_at: int,
) -> ExchangeRow:
    asked = frozenset[bytes]()
    while row.open and not isinstance(row.state, MACHINES[row.kind].resting):
        for send in sends:
            await _send(talk, send)
        asked = frozenset(send.request_id for send in sends) or asked
        event = await _next_event(wallet, row, inbox, talk, asked, give_up_at)
        if event is None:
            return row
        row, sends = await advance(wallet, talk.bank, row, event)
    return row


async def _put(inbox: asyncio.Queue[tuple[bytes, bytes]], request_id: bytes, sealed: bytes) -> None:
    await keep(inbox, (request_id, sealed))


async def _send(talk: Correspondence, send: Send) -> None:
    lanes = 0 if send.kind in topics.MERCHANT_KINDS else talk.bank.keyset.limits.lanes
    point(f"wallet.{send.kind}.sending")
    await talk.requester.send(send, lanes)
    point(f"wallet.{send.kind}.sent")


async def _next_event(
    wallet: Wallet,
    row: ExchangeRow,
    inbox: asyncio.Queue[tuple[bytes, bytes]],
    talk: Correspondence,
    asked: Collection[bytes],
    give_up_at: int,
) -> Event | None:
    """Return what happens next: an answer, or the machine's own time; None when patience is over.

    Who is `asked` now can put the machine's time off, once for each sending.
    """
    wake_at, put_off = row.wake_at, False
    while True:
        arrival = asyncio.create_task(inbox.get())
        timer = asyncio.create_task(wallet.clock.sleep_until(min(wake_at, give_up_at)))
        try:
            await asyncio.wait({arrival, timer}, return_when=asyncio.FIRST_COMPLETED)
            if not arrival.done():
                now = wallet.clock.now()
                return None if now >= give_up_at else Overdue(now, wallet.entropy.jitter())
            request_id, sealed = arrival.result()
        finally:
            arrival.cancel()
            timer.cancel()
        try:
            event = await talk.readers[request_id](sealed)
        except PeerError as error:
            _log.warning("an answer was dropped: %s", error)  # forged, or garbled; the true one will come
            continue
        if isinstance(event, Later):
            if request_id in asked and not put_off:
                wake_at, put_off = max(wake_at, event.at), True
        elif event is not None:
            return event
