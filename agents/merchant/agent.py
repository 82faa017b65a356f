"""The merchant as a process: it offers, forwards payments to its bank, and passes on what the bank decides."""

import asyncio
import heapq
import logging
import sqlite3
from collections import Counter
from functools import partial
from typing import Final

from broker.port import Incoming, Link, LinkError, Outgoing
from protocol import topics
from protocol.answer import open_answer
from protocol.derivation import new_request_id
from protocol.envelope import Letter, open_letter, request_hash, seal_letter
from protocol.errors import PeerError
from protocol.keyset import KeyRing, check_successor, open_keyset, read_keyset
from protocol.machine import Send, backoff
from protocol.merchant import deposit
from protocol.messages import AccountAnswer, AccountRequest, Catalog, Certificate, Item, Signed, Status
from protocol.refusals import Refusal
from protocol.signatures import Domain

from ..address import BankAddress
from ..requester import NobodyAnswers, Requester
from ..trace import point
from ..world import Clock, Entropy
from .home import MerchantKeys, Settings
from .store import MerchantStore
from .till import Alarm, Request, Result, Till, Trust

_log = logging.getLogger("ecash.merchant")
_DAY_MS: Final = 86_400_000


class MerchantAgent:
    """A merchant at work.

    Args:
        settings, keys, catalog: its home's.
        store: its books.
        link: its presence at the broker, entered.
        clock, entropy: the world.
    """

    def __init__(
        self,
        settings: Settings,
        keys: MerchantKeys,
        catalog: dict[str, tuple[Item, str]],
        store: MerchantStore,
        link: Link,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.name = settings.name
        self.dropped: Counter[str] = Counter()
        self.ready = asyncio.Event()
        self._settings = settings
        self._keys = keys
        self._catalog = catalog
        self._store = store
        self._link = link
        self._clock = clock
        self._entropy = entropy
        self._bank = BankAddress.parse(settings.bank)
        self._requester = Requester(link)
        self._till: Till | None = None
        self._alarms: list[Alarm] = []
        self._alarm_set = asyncio.Event()
        self._new_keyset_lock = asyncio.Lock()

    async def run(self, invitation: bytes = b"") -> None:
        """Open the shop and serve until cancelled. An invitation claims the account at the first start.

        Raises:
            NobodyAnswers: if the bank is not there and never was.
            PeerError: if the bank refuses, or its keyset cannot be trusted.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._link.serve(self.handle))
            await self._link.subscribe(topics.replies(self._link.client_id))
            self._till = await self._open_till(invitation)
            await self._requester.follow(topics.keys(self._bank.bank), self._new_keyset)
            await self._resume()
            await self._announce()
            await self._link.subscribe(*topics.merchant_requests(self.name))
            group.create_task(self._keep_time())
            self.ready.set()

    async def _open_till(self, invitation: bytes) -> Till:
        known = await self._store.meta("keyset")  # opens the shop even while the bank is away
        announced = b"" if known else await self._requester.retained(topics.keys(self._bank.bank))
        ring = KeyRing(read_keyset(known)) if known else await self._accept(announced, None)
        keyset = ring.keyset
        signed = await self._store.meta("certificate") or await self._certificate(ring, invitation)
        certificate = Certificate.decode(Signed.decode(signed).check(keyset.identity, Domain.CERTIFICATE))
        if (certificate.merchant, certificate.key) != (self.name, self._keys.public):
            raise PeerError(Refusal.WRONG_MERCHANT, f"the bank certifies {certificate.merchant}, not {self.name}")
        trust = Trust(ring, certificate, signed)
        return Till(self._settings, self._keys, self._catalog, self._store, trust, self._clock, self._entropy)

    async def _certificate(self, ring: KeyRing, invitation: bytes) -> bytes:
        """Ask the bank for the account of this key, claiming it with an invitation if there is one."""
        request_id = new_request_id(self._keys.public[:16], self._entropy.bytes(32))
        answer_key = self._keys.root.answer_key(request_id)
        body = AccountRequest(invitation)
        deadline = self._clock.now() + _DAY_MS
        letter = Letter("account", request_id, deadline, answer_key, self._keys.public, body.encode())
        envelope = seal_letter(ring.keyset.envelope_key, letter, self._keys.identity)
        sealed = await self._requester.ask(
            request_id,
            lambda attempt: self._requester.send(
                Send(ring.keyset.bank, "account", request_id, envelope, attempt), ring.keyset.limits.lanes
            ),
            (backoff(attempt, self._entropy.jitter()) for attempt in range(5)),
        )
        if sealed is None:
            raise NobodyAnswers(f"bank {ring.keyset.bank} does not answer: is it running?")
        answer = open_answer(ring.keyset.identity, answer_key, request_hash(envelope), sealed)
        told = AccountAnswer.decode(answer.check())
        if not told.certificate:
            raise PeerError(Refusal.WRONG_MERCHANT, f"account {told.account} is no merchant's account")
        await self._store.set_meta("certificate", told.certificate)
        return told.certificate

    async def _new_keyset(self, announced: bytes) -> None:
        till = self._opened
        async with self._new_keyset_lock:  # two at once could leave the older one
            if announced == await self._store.meta("keyset"):
                return
            ring = await self._accept(announced, till.trust.ring)
            till.trust = till.trust._replace(ring=ring)
        _log.info("keyset %d of bank %s", ring.keyset.number, ring.keyset.bank)

    async def _accept(self, announced: bytes, known: KeyRing | None) -> KeyRing:
        """Check an announced keyset, against the one that is known if there is one, and keep it."""
        checked = known.ids if known else ()
        keyset = await asyncio.to_thread(open_keyset, self._bank.bank, self._bank.fingerprint, announced, checked)
        if known is not None:
            check_successor(known.keyset, keyset)
        await self._store.set_meta("keyset", announced)
        return KeyRing(keyset)

    async def _announce(self) -> None:
        trust = self._opened.trust
        catalog = Catalog(
            self.name,
            self._keys.public,
            self._clock.now(),
            self._keys.envelope.public,
            (trust.signed,),
            tuple(item for item, _ in self._catalog.values() if item.currency == trust.certificate.currency),
        )
        signed = Signed.make(self._keys.identity, Domain.CATALOG, catalog).encode()
        await self._link.announce(Outgoing(topics.catalog(self.name), signed, retain=True))
        status = Status(open=True, lanes=0).encode()
        await self._link.announce(Outgoing(topics.status(self.name), status, retain=True))

    @property
    def _opened(self) -> Till:
        if self._till is None:
            raise PeerError(Refusal.OVERLOADED, "the shop is not open yet")
        return self._till

    async def handle(self, message: Incoming) -> Outgoing | None:
        """Take a request or the bank's answer in; drop and count what cannot be answered."""
        try:
            topic = topics.parse(message.topic)
            if not isinstance(topic, topics.MerchantRequest):
                return await self._requester.take_in(message)
            if message.retained:
                raise PeerError(Refusal.WRONG_TYPE, "a retained message is no request")
            till = self._opened
            letter = open_letter(self._keys.envelope, message.payload, topic.kind)
            reply_topic = topics.reply_to(topic, self.name)
            request = Request(letter, request_hash(message.payload), reply_topic)
        except PeerError as error:
            self.dropped[error.refusal] += 1
            _log.warning("dropped %d bytes on %s: %s", len(message.payload), message.topic, error)
            return None
        point(f"merchant.{letter.kind}.opened")
        try:
            return await self._let_out(await till.take(request))
        except PeerError as error:
            _log.info("%s refused: %s", letter.kind, error)
            return till.refusal(request, error)

    async def _let_out(self, result: Result) -> Outgoing | None:
        """Set alarms and publish; the first message is returned, to leave before the acknowledgement of its cause."""
        for alarm in result.alarms:
            heapq.heappush(self._alarms, alarm)
            self._alarm_set.set()
        for digest, send in result.deposits:
            self._expect(send.request_id, digest)
        lanes = self._opened.trust.ring.keyset.limits.lanes
        messages = [*result.answers, *(self._requester.addressed(send, lanes) for _, send in result.deposits)]
        for message in messages[1:]:
            await self._publish(message)
        return messages[0] if messages else None

    async def _publish(self, message: Outgoing) -> None:
        """Publish; what does not go out now is repeated by who waits for it, or by the machine that sends it."""
        try:
            await self._link.publish(message)
        except LinkError as error:
            _log.info("not sent now: %s", error)

    def _expect(self, request_id: bytes, digest: bytes) -> None:
        self._requester.expect(request_id, partial(self._bank_answered, request_id, digest))

    async def _bank_answered(self, request_id: bytes, digest: bytes, sealed: bytes) -> Outgoing | None:
        point("merchant.verdict.arrived")
        result = await self._opened.bank_answered(digest, sealed)
        waiting = await self._store.deposit(digest)
        if waiting is not None and not waiting.open:
            self._requester.forget(request_id)
        return await self._let_out(result)

    async def _resume(self) -> None:
        """Take up every open sale and deposit where it was."""
        for row in await self._store.sales(only_open=True):
            heapq.heappush(self._alarms, Alarm(row.wake_at, "sale", row.payment_id))
        for waiting in await self._store.deposits(only_open=True):
            if isinstance(waiting.state, deposit.Requested):
                self._expect(waiting.state.request_id, waiting.digest)
                heapq.heappush(self._alarms, Alarm(0, "deposit", waiting.digest))

    async def _ring_alarm(self, alarm: Alarm) -> None:
        try:
            message = await self._let_out(await self._opened.overdue(alarm, self._entropy.jitter()))
        except (sqlite3.Error, OSError):  # a full disk, a lock: the shop stays open and tries again
            _log.exception("%s %s: again in a minute", alarm.kind, alarm.subject.hex()[:8])
            heapq.heappush(self._alarms, alarm._replace(at=self._clock.now() + 60_000))
            return
        if message is not None:
            await self._publish(message)

    async def _keep_time(self) -> None:
        """Wake each machine when it asked to be woken."""
        while True:
            self._alarm_set.clear()
            now = self._clock.now()
            while self._alarms and self._alarms[0].at <= now:
                await self._ring_alarm(heapq.heappop(self._alarms))
            next_at = self._alarms[0].at if self._alarms else now + _DAY_MS
            new_alarm = asyncio.create_task(self._alarm_set.wait())
            timer = asyncio.create_task(self._clock.sleep_until(next_at))
            try:
                await asyncio.wait({new_alarm, timer}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                new_alarm.cancel()
                timer.cancel()
