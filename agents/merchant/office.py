"""The merchant's office: account balances and payouts, beside the shop that is open.

It has a presence of its own under a fresh client id and without the shop's log-in: everybody may ask a bank, and the
signature inside says for which account.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from broker.address import BrokerUrl
from broker.port import Link
from protocol import topics
from protocol.errors import PeerError
from protocol.keyset import KeyRing
from protocol.machine import Overdue, Send, WakeAt, backoff
from protocol.merchant import payout as machine
from protocol.messages import AccountAnswer
from protocol.money import format_minor, parse_amount
from protocol.payout import MAX_PAYOUT, PAYOUT, PayoutAnswer, PayoutRequest
from protocol.refusals import TABLE, Advice

from ..home import HomeError
from ..keysets import accept
from ..requester import Later, NobodyAnswers, Requester, asking, later, pause_ms
from ..trace import point
from . import banks
from .desk import Desk
from .store import MerchantStore, PayoutRow

_log = logging.getLogger("ecash.merchant")
_DAY_MS: Final = 86_400_000
PATIENCE_MS: Final = 30_000

LinkMaker = Callable[[BrokerUrl, str], Link]
"""Makes an anonymous presence at a broker under a fresh client id."""


class Office:
    """The merchant's office.

    Args:
        desk: the merchant's; its catalogue is not needed.
        link: makes the presence of one command.
    """

    def __init__(self, desk: Desk, link: LinkMaker) -> None:
        self._desk = desk
        self._link = link
        self._addresses = desk.settings.addresses

    def bank(self, name: str = "") -> str:
        """Return the name of a bank, or of the only one.

        Raises:
            HomeError: if there is none of that name, or several and none was named.
        """
        known = ", ".join(self._addresses)
        if not name and len(self._addresses) > 1:
            raise HomeError(f"name the bank with --bank; this merchant has accounts at {known}")
        if name and name not in self._addresses:
            raise HomeError(f"this merchant has no account at {name}; it has at {known}")
        return name or known

    @asynccontextmanager
    async def _visit(self, bank: str) -> AsyncIterator[tuple[Requester, KeyRing]]:
        own = BrokerUrl.parse(self._desk.settings.broker)
        # Where certificates log in, nobody is anonymous.
        broker = replace(self._addresses[bank].broker, ca=own.ca) if own.cert else own.anonymous
        async with asking(self._link(broker, self._desk.entropy.bytes(16).hex())) as requester:
            announced = await requester.retained(topics.keys(bank), banks.PATIENCE_S)
            known = await banks.known_keyset(self._desk.store, bank)  # to be replaced by the shop alone
            yield requester, await accept(self._addresses[bank], announced, known)

    async def account(self, bank: str) -> AccountAnswer:
        """Look at the account at a bank.

        Raises:
            NobodyAnswers: if the bank does not answer.
            PeerError: its refusal, or a keyset that cannot be trusted.
        """
        async with self._visit(bank) as (requester, ring):
            return await banks.ask_account(self._desk, requester, ring)

    async def payouts(self, bank: str) -> PayoutAnswer:
        """Look at the last payouts from the account at a bank, as the bank tells of them.

        Raises:
            NobodyAnswers, PeerError: as `account`.
        """
        async with self._visit(bank) as (requester, ring):
            deadline = self._desk.clock.now() + _DAY_MS
            request_id, envelope = self._desk.seal(ring, PAYOUT, PayoutRequest(0, 0), deadline)
            sealed = await requester.ask(
                request_id,
                lambda attempt: requester.send(
                    Send(bank, PAYOUT, request_id, envelope, attempt), ring.keyset.limits.lanes
                ),
                (backoff(attempt, self._desk.entropy.jitter()) for attempt in range(5)),
                lambda sealed: pause_ms(self._desk.open(ring, request_id, envelope, sealed), self._desk.entropy),
            )
            if sealed is None:
                raise NobodyAnswers(f"bank {bank} does not answer: is it running?")
            return PayoutAnswer.decode(self._desk.open(ring, request_id, envelope, sealed).check())

    async def pay_out(self, bank: str, amount: str = "", patience_ms: int = PATIENCE_MS) -> PayoutRow:
        """Have an amount, or all there is, paid out from the account at a bank.

        A payout that is still open is carried on first. If it is what is asked for, that is all: a command that is
        repeated after a crash pays out once.

        Args:
            bank: its name.
            amount: as people write it, such as 20.00; empty for as much as the account holds.
            patience_ms: how long to wait for the end.

        Returns:
            The payout, which is still open if the bank did not answer in time.

        Raises:
            NobodyAnswers: if the bank is not there; nothing new was asked then.
            PeerError: if its keyset cannot be trusted, or it knows no account.
            ValueError: if the amount is none, or the account holds nothing to pay out.
        """
        async with self._visit(bank) as (requester, ring):
            carried_on = [row for row in await self._store.payouts(only_open=True) if row.bank == bank]
            for index, row in enumerate(carried_on):
                carried_on[index] = await self._drive(row, self._overdue(), requester, ring, patience_ms)
                if carried_on[index].open:
                    return carried_on[index]
            account = await banks.ask_account(self._desk, requester, ring)
            wanted = self._wanted(account, amount, ring)
            for row in carried_on:
                if isinstance(row.state, machine.Queued) and (row.amount == wanted or not amount):
                    return row
            if wanted == 0:
                held = format_minor(account.balance, account.currency)
                raise ValueError(f"the account at {bank} holds {held}: nothing to pay out")
            return await self._begin(bank, wanted, account.currency, requester, ring, patience_ms)

    @staticmethod
    def _wanted(account: AccountAnswer, amount: str, ring: KeyRing) -> int:
        if not amount:
            return _all_of(account.balance, ring)
        wanted = parse_amount(amount, account.currency).value
        if not 0 < wanted <= MAX_PAYOUT:
            raise ValueError(f"one payout is at most {format_minor(MAX_PAYOUT, account.currency)}, and not nothing")
        return wanted

    async def _begin(
        self, bank: str, amount: int, currency: str, requester: Requester, ring: KeyRing, patience_ms: int
    ) -> PayoutRow:
        desk, commission = self._desk, ring.keyset.tariff.payout.charge(amount)
        now = desk.clock.now()
        # A day to be decided in: a request that was given up long ago must not move money out of the blue.
        request_id, envelope = desk.seal(ring, PAYOUT, PayoutRequest(amount, commission), now + _DAY_MS)
        row = PayoutRow(request_id, bank, amount, commission, currency, now, machine.New())
        begin = machine.Begin(bank, request_id, envelope, now, desk.entropy.jitter())
        return await self._drive(row, begin, requester, ring, patience_ms)

    @property
    def _store(self) -> MerchantStore:
        return self._desk.store

    def _overdue(self) -> Overdue:
        return Overdue(self._desk.clock.now(), self._desk.entropy.jitter())

    async def _drive(
        self, row: PayoutRow, event: machine.PayoutEvent, requester: Requester, ring: KeyRing, patience_ms: int
    ) -> PayoutRow:
        """Carry a payout on until the bank has decided, or patience is over: then it stays open."""
        inbox: asyncio.Queue[bytes] = asyncio.Queue()
        requester.expect(row.request_id, inbox.put)
        give_up_at = self._desk.clock.now() + patience_ms
        while True:
            state, effects = machine.step(row.state, event)
            row = row._replace(state=state)
            point("merchant.payout.saving")
            await self._store.save_payout(row)
            point(f"merchant.payout.{type(state).__name__.lower()}")
            if not isinstance(state, machine.Requested):
                return row
            wake_at = give_up_at
            for effect in effects:
                match effect:
                    case Send():
                        await requester.send(effect, ring.keyset.limits.lanes)
                    case WakeAt(at=at):
                        wake_at = min(at, give_up_at)
            found = await self._next(state, ring, inbox, wake_at)
            if found is None and self._desk.clock.now() >= give_up_at:
                return row
            event = found or self._overdue()

    async def _next(
        self, state: machine.Requested, ring: KeyRing, inbox: "asyncio.Queue[bytes]", wake_at: int
    ) -> machine.PayoutEvent | None:
        """Return what the bank decides, or None when it is time to ask again."""
        asked_to_wait = False
        while True:
            arrival = asyncio.create_task(inbox.get())
            timer = asyncio.create_task(self._desk.clock.sleep_until(wake_at))
            try:
                await asyncio.wait({arrival, timer}, return_when=asyncio.FIRST_COMPLETED)
                if not arrival.done():
                    return None
                event = self._read(state, ring, arrival.result())
            except PeerError as error:
                _log.warning("an answer was dropped: %s", error)
                continue
            finally:
                arrival.cancel()
                timer.cancel()
            if isinstance(event, Later):
                wake_at, asked_to_wait = wake_at if asked_to_wait else max(wake_at, event.at), True
            elif event is not None:
                return event

    def _read(self, state: machine.Requested, ring: KeyRing, sealed: bytes) -> machine.PayoutEvent | Later | None:
        answer = self._desk.open(ring, state.request_id, state.envelope, sealed)
        try:
            return machine.PayoutQueued(PayoutAnswer.decode(answer.check()).balance)
        except PeerError as error:
            if TABLE[error.refusal].advice is Advice.RETRY:
                return later(answer, self._desk.clock, self._desk.entropy)
            return machine.RefusalArrived(error.refusal, error.detail)


def _all_of(balance: int, ring: KeyRing) -> int:
    """Return the most that can be paid out of a balance, its commission included; the commission never falls."""
    charge = ring.keyset.tariff.payout.charge
    least, most = 0, min(balance, MAX_PAYOUT)
    while least < most:
        middle = (least + most + 1) // 2
        if middle + charge(middle) <= balance:
            least = middle
        else:
            most = middle - 1
    return least
