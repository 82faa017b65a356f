"""The merchant as a process: it offers, forwards payments and tickets to its banks, and passes on what they decide."""

import asyncio
import heapq
import logging
import sqlite3
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Final

from broker.port import Incoming, Link, LinkError, Outgoing
from protocol import topics
from protocol.envelope import open_letter, request_hash
from protocol.errors import PeerError
from protocol.exchange import REFUND
from protocol.machine import Send
from protocol.merchant import deposit, refund
from protocol.messages import Catalog, Signed, Status
from protocol.refusals import Refusal
from protocol.signatures import Domain

from ..admission import UNHURRIED, Bounds, Gate, Told, Verdict, units
from ..requester import NobodyAnswers, Requester
from ..trace import point
from ..world import Clock, Entropy
from .banks import Banks
from .desk import Alarm, Desk, Request, Result
from .home import MerchantKeys, Settings, Stock
from .journal import Journal
from .orders import Orders
from .refunds import Refunds
from .store import MerchantStore
from .till import Till

_log = logging.getLogger("ecash.merchant")
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_TIDY: Final = "tidy"
_HANDS: Final = 64
"""How many messages are handled beside requests that wait or are worked on: banks' answers, and what is turned away."""
_JUNK_UNITS: Final = 16
"""What is taken, on top, from who has sent what does not open: no honest buyer does, and each is logged."""
GRACE_S: Final = 3.0
"""How long a shop that can open waits for its other banks at the first start."""


class MerchantAgent:
    """A merchant at work.

    Args:
        settings, keys, catalog: its home's.
        store: its books.
        link: its presence at the broker, entered.
        clock, entropy: the world.
        invitations: by bank; they claim accounts at the first start.
        bounds: how many requests it takes in, of each client id and of all.

    Attributes:
        orders: the sales of the shop's web pages, once it is open (`ready`).
        outbox: the webhooks.

    Raises:
        HomeError: if the settings name no banks, or impossible ones.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that a merchant works with
        self,
        settings: Settings,
        keys: MerchantKeys,
        catalog: Stock,
        store: MerchantStore,
        link: Link,
        clock: Clock,
        entropy: Entropy,
        invitations: Mapping[str, bytes] | None = None,
        bounds: Bounds = UNHURRIED,
    ) -> None:
        self.name = settings.name
        self.dropped: Counter[str] = Counter()
        self.ready = asyncio.Event()
        self.desk = Desk(settings, keys, catalog, store, clock, entropy)
        self._link = link
        self._requester = Requester(link)
        self._banks = Banks(self.desk, self._requester, invitations or {})
        journal = Journal(self.desk)
        self._till = Till(self.desk, journal)
        self._refunds = Refunds(self.desk, journal)
        self.outbox = journal.outbox
        self.orders = Orders(self.desk, journal, self._let_out)
        self._alarms: list[Alarm] = []
        self._alarm_set = asyncio.Event()
        self._put_off: dict[bytes, int] = {}
        self._bounds = bounds
        self._door = Gate(bounds, clock, "requests by client id")

    async def run(self) -> None:
        """Open the shop and serve until cancelled.

        It opens as soon as it has agreed with one bank; others that are away join when they come.

        Raises:
            NobodyAnswers: if no bank is there, and none ever was.
            PeerError: if no bank can be agreed with, and one refuses or its keyset cannot be trusted.
        """
        async with asyncio.TaskGroup() as group:
            concurrency = self._bounds.waiting + self._bounds.working + _HANDS
            group.create_task(self._link.serve(self.handle, concurrency=concurrency))
            await self._link.subscribe(topics.replies(self._link.client_id))
            await self._banks.load()
            await self._join(group)
            for bank in self._banks.addresses:
                await self._requester.follow(topics.keys(bank), partial(self._bank_announced, group, bank))
            await self._resume()
            await self._announce()
            await self._link.subscribe(*topics.merchant_requests(self.name))
            group.create_task(self._keep_time())
            self.ready.set()

    async def _join(self, group: asyncio.TaskGroup) -> None:
        """Agree with banks until the shop can open; who comes later is heard by `_bank_announced`."""
        if self.desk.banks:
            return
        joining = [asyncio.create_task(self._banks.join(bank)) for bank in self._banks.addresses]
        try:
            await asyncio.wait(joining, timeout=GRACE_S)
            if not self.desk.banks:
                await asyncio.wait(joining)
        finally:
            for task in joining:
                task.cancel()
            failures = [one for one in await asyncio.gather(*joining, return_exceptions=True) if one is not None]
        for failure in failures:
            if not self.desk.banks or not isinstance(failure, NobodyAnswers | PeerError | asyncio.CancelledError):
                raise failure
            _log.warning("the shop opens without a bank: %s", failure)

    async def _bank_announced(self, group: asyncio.TaskGroup, bank: str, announced: bytes) -> None:
        """Follow a bank's keys; one that the shop has not agreed with yet is asked beside what else is served."""
        if bank in self.desk.banks:
            await self._banks.hear(bank, announced)
        else:
            group.create_task(self._late(bank, announced))

    async def _late(self, bank: str, announced: bytes) -> None:
        try:
            if await self._banks.hear(bank, announced):
                await self._announce()
        except (NobodyAnswers, PeerError) as error:
            _log.warning("the shop is open without bank %s: %s", bank, error)

    async def _announce(self) -> None:
        trusts = self.desk.banks.values()
        currencies = {trust.certificate.currency for trust in trusts}
        catalog = Catalog(
            self.name,
            self.desk.keys.public,
            self.desk.clock.now(),
            self.desk.keys.envelope.public,
            tuple(trust.signed for trust in trusts),
            tuple(item for item, *_ in self.desk.catalog.values() if item.currency in currencies),
        )
        signed = Signed.make(self.desk.keys.identity, Domain.CATALOG, catalog).encode()
        await self._link.announce(Outgoing(topics.catalog(self.name), signed, retain=True))
        status = Status(open=True, lanes=0).encode()
        await self._link.announce(Outgoing(topics.status(self.name), status, retain=True))

    async def handle(self, message: Incoming) -> Outgoing | None:
        """Take a request or a bank's answer in; drop and count what cannot be answered."""
        try:
            topic = topics.parse(message.topic)
            if not isinstance(topic, topics.MerchantRequest):
                return await self._requester.take_in(message)
            if message.retained:
                raise PeerError(Refusal.WRONG_TYPE, "a retained message is no request")
            if not self.desk.banks:
                raise PeerError(Refusal.OVERLOADED, "the shop is not open yet")
        except PeerError as error:
            self._drop(message, error)
            return None
        async with self._door.turn(topic.client, units(message.payload)) as told:
            return await self._serve(topic, message, told)

    def _drop(self, message: Incoming, error: PeerError) -> None:
        self.dropped[error.refusal] += 1
        if self._door.worth_a_line():  # the topic is its sender's, too: 64 KiB of anything
            _log.warning("dropped %d bytes on %.100r: %s", len(message.payload), message.topic, error)

    async def _serve(self, topic: topics.MerchantRequest, message: Incoming, told: Told) -> Outgoing | None:
        """Serve a request whose turn it is, or turn it away."""
        if told.verdict is Verdict.DROPPED:
            self.dropped["flood"] += 1
            return None
        try:
            letter = open_letter(self.desk.keys.envelope, message.payload, topic.kind)
        except PeerError as error:
            self._door.admission.fine(topic.client, _JUNK_UNITS)
            self._drop(message, error)
            return None
        request = Request(letter, request_hash(message.payload), topics.reply_to(topic, self.name))
        if told.verdict is Verdict.REFUSED:
            return self.desk.busy(request, told.retry_after)
        point(f"merchant.{letter.kind}.opened")
        try:
            return await self._let_out(await self._clerk(letter.kind).take(request))
        except PeerError as error:
            _log.info("%s refused: %s", letter.kind, error)
            return self.desk.refusal(request, error)

    def _clerk(self, kind: str) -> Till | Refunds:
        return self._refunds if kind == REFUND else self._till

    async def _let_out(self, result: Result) -> Outgoing | None:
        """Set alarms and publish; the first message is returned, to leave before the acknowledgement of its cause."""
        for alarm in result.alarms:
            heapq.heappush(self._alarms, alarm)
            self._alarm_set.set()
        for request_id in result.ended:
            self._requester.forget(request_id)
        for subject, at in result.put_off:
            self._put_off.setdefault(subject, at)  # the first word counts, until the next sending
        messages = list(result.answers)
        for subject, send in result.sends:
            self._expect(send.kind, send.request_id, subject)
            messages += self._addressed(send)
        for message in messages[1:]:
            await self._publish(message)
        return messages[0] if messages else None

    def _addressed(self, send: Send) -> list[Outgoing]:
        trust = self.desk.banks.get(send.to)
        if trust is None:
            _log.error("%s for bank %s waits: the settings do not name it any more", send.kind, send.to)
            return []
        return [self._requester.addressed(send, trust.ring.keyset.limits.lanes)]

    async def _publish(self, message: Outgoing) -> None:
        """Publish; what does not go out now is repeated by who waits for it, or by the machine that sends it."""
        try:
            await self._link.publish(message)
        except LinkError as error:
            _log.info("not sent now: %s", error)

    def _expect(self, kind: str, request_id: bytes, subject: bytes) -> None:
        self._requester.expect(request_id, partial(self._bank_answered, kind, subject))

    async def _bank_answered(self, kind: str, subject: bytes, sealed: bytes) -> Outgoing | None:
        point("merchant.verdict.arrived" if kind == deposit.KIND else f"merchant.{kind}.decided")
        return await self._let_out(await self._clerk(kind).bank_answered(subject, sealed))

    async def _resume(self) -> None:
        """Take up every open sale, deposit and refund where it was."""
        store = self.desk.store
        for row in await store.sales(only_open=True):
            heapq.heappush(self._alarms, Alarm(row.wake_at, "sale", row.payment_id))
        for waiting in await store.deposits(only_open=True):
            if isinstance(waiting.state, deposit.Requested):
                self._expect(deposit.KIND, waiting.state.request_id, waiting.digest)
                heapq.heappush(self._alarms, Alarm(0, deposit.KIND, waiting.digest))
        for order in await store.refunds(only_open=True):
            if isinstance(order.state, refund.Requested):
                self._expect(REFUND, order.request_id, order.request_id)
                heapq.heappush(self._alarms, Alarm(0, REFUND, order.request_id))
        heapq.heappush(self._alarms, Alarm(0, _TIDY, b""))

    async def _ring_alarm(self, alarm: Alarm) -> None:
        put_off = self._put_off.get(alarm.subject, 0)
        if put_off > self.desk.clock.now():
            heapq.heappush(self._alarms, alarm._replace(at=put_off))
            return
        self._put_off.pop(alarm.subject, None)
        try:
            if alarm.kind == _TIDY:
                await self._tidy()
                return
            result = await self._clerk(alarm.kind).overdue(alarm, self.desk.entropy.jitter())
            message = await self._let_out(result)
        except (sqlite3.Error, OSError):  # a full disk, a lock: the shop stays open and tries again
            _log.exception("%s %s: again in a minute", alarm.kind, alarm.subject.hex()[:8])
            heapq.heappush(self._alarms, alarm._replace(at=self.desk.clock.now() + 60_000))
            return
        if message is not None:
            await self._publish(message)

    async def _tidy(self) -> None:
        """Delete sales that lapsed long ago, and do so again in an hour."""
        now = self.desk.clock.now()
        while deleted := await self.desk.store.forget_lapsed(now - self.desk.settings.forget_lapsed_days * _DAY_MS):
            _log.info("forgot %d sales that lapsed long ago", deleted)
        heapq.heappush(self._alarms, Alarm(now + _HOUR_MS, _TIDY, b""))

    async def _keep_time(self) -> None:
        """Wake each machine when it asked to be woken."""
        clock = self.desk.clock
        while True:
            self._alarm_set.clear()
            now = clock.now()
            while self._alarms and self._alarms[0].at <= now:
                await self._ring_alarm(heapq.heappop(self._alarms))
            next_at = self._alarms[0].at if self._alarms else now + _DAY_MS
            new_alarm = asyncio.create_task(self._alarm_set.wait())
            timer = asyncio.create_task(clock.sleep_until(next_at))
            try:
                await asyncio.wait({new_alarm, timer}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                new_alarm.cancel()
                timer.cancel()
