"""The bank as a process: it takes requests in, steps their machines, commits, and only then answers."""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from broker.port import Incoming, Link, Outgoing
from protocol import topics
from protocol.answer import overloaded
from protocol.envelope import open_letter, recipient_of, request_hash
from protocol.errors import PeerError
from protocol.keyset import KeyRing, Keyset
from protocol.messages import Status
from protocol.refusals import Refusal

from ..admission import UNHURRIED, Bounds, Gate, Told, Verdict, units
from ..trace import point
from ..world import Clock
from .desks import DESKS
from .desks.desk import Desk, Request
from .home import BankKeys
from .signer import Signer
from .store import Books, BooksLost, BooksUnavailable

_log = logging.getLogger("ecash.bank")
_HANDS: Final = 64
"""How many messages are handled beside those that wait or are worked on: they are being turned away."""
_AWAY_MS: Final = 1_000
"""The pause that is asked for while the books are unavailable."""
_UNITS: Final[Mapping[str, int]] = {
    "account": 4,
    "check": 16,
    "fetch": 2,
    "payout": 4,
    "proof": 2,
    "recover": 16,
    "verdict": 2,
}
"""What a request costs beside its size (`units`), where a small one makes more work than others of its size."""
_SIGNING_BYTES: Final[Mapping[str, int]] = {"withdraw": 1_024, "exchange": 1_024, "refund": 1_024}
_OTHER_BYTES: Final = 4_096
"""How many bytes of a request cost a unit: to sign a coin is dearer than to verify one."""
_REMEMBERED: Final = 10_000
"""How many requests are known again when they come once more."""
_JUNK_UNITS: Final = 16
"""What is taken, on top, from who has sent what does not open: no honest agent does, and each is logged."""


class BankAgent:
    """A bank at work.

    Args:
        keyset: the newest one, `announcement` its signed bytes.
        keys: the private keys for envelopes and statements; coins are signed by `signer`.
        books: where everything is kept.
        signer: holds the denominations' private keys.
        clock: the bank's time decides what is too late.
        bounds: how many requests it takes in, of each client id, of each account or other sender, and of all.
    """

    def __init__(
        self,
        keyset: Keyset,
        announcement: bytes,
        keys: BankKeys,
        books: Books,
        signer: Signer,
        clock: Clock,
        bounds: Bounds = UNHURRIED,
    ) -> None:
        self.name = keyset.bank
        self.dropped: Counter[str] = Counter()
        self.ready = asyncio.Event()
        self._desk = Desk(keyset.bank, KeyRing(keyset), keys, books, signer, clock)
        self._announcement = announcement
        self._lanes: Sequence[int] | None = None
        self._bounds = bounds
        # An envelope is opened only past the first; past the second, who signed it is known, and is one party under
        # however many client ids.
        self._door = Gate(bounds, clock, "requests by client id")
        self._counter = Gate(bounds, clock, "requests by sender")
        self._heard: OrderedDict[bytes, None] = OrderedDict()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, link: Link, lanes: Sequence[int] | None = None) -> None:
        """Serve over an entered link until cancelled.

        Args:
            link: the presence.
            lanes: those that this agent serves, if other workers of the bank serve the others; None for all.

        Raises:
            BooksLost: the books have stopped for good.
        """
        self._lanes = lanes
        await self._listen(link)
        await self._announce(link)
        self.ready.set()
        try:
            concurrency = self._bounds.waiting + self._bounds.working + _HANDS
            serving = asyncio.create_task(link.serve(self.handle, concurrency=concurrency))
            try:
                await asyncio.wait({serving, self._lost}, return_when=asyncio.FIRST_COMPLETED)
                await (self._lost if self._lost.done() else serving)
            finally:
                serving.cancel()
        finally:
            self._desk.close()

    async def adopt(self, keyset: Keyset, announcement: bytes, keys: BankKeys, link: Link) -> None:
        """Go on under a newer keyset, and announce it; requests under way finish under the one that they began with.

        The signer must have its keys already. Lanes that there are no more of are still listened to: who knows an older
        keyset writes there.

        Raises:
            LinkError: the keyset is in use here, but could not be announced; adopt it again.
        """
        self._desk.keys = keys
        self._desk.ring = KeyRing(keyset)
        self._announcement = announcement
        await self._listen(link)
        await self._announce(link)

    async def _listen(self, link: Link) -> None:
        lanes = range(self.keyset.limits.lanes) if self._lanes is None else self._lanes
        await link.subscribe(*(topics.bank_requests(self.name, lane) for lane in lanes))

    async def _announce(self, link: Link) -> None:
        status = Status(open=True, lanes=self.keyset.limits.lanes)
        await link.announce(Outgoing(topics.keys(self.name), self._announcement, retain=True))
        await link.announce(Outgoing(topics.status(self.name), status.encode(), retain=True))

    @property
    def keyset(self) -> Keyset:
        """The newest keyset that the agent knows."""
        return self._desk.ring.keyset

    async def handle(self, message: Incoming) -> Outgoing | None:
        """Answer one request; drop and count what cannot be answered: whoever sent it gave no key to answer with."""
        try:
            topic = topics.parse(message.topic)
            if message.retained or not isinstance(topic, topics.BankRequest):
                raise PeerError(Refusal.WRONG_TYPE, "not a request")
        except PeerError as error:
            self._drop(message, error)
            return None
        cost = units(message.payload, _UNITS.get(topic.kind, 1), _SIGNING_BYTES.get(topic.kind, _OTHER_BYTES))
        async with self._door.turn(topic.client, cost) as told:
            if told.verdict is Verdict.DROPPED:
                self.dropped["flood"] += 1
                return None
            try:
                request = self._open(topic.kind, message.payload)
            except PeerError as error:
                self._door.admission.fine(topic.client, _JUNK_UNITS)
                self._drop(message, error)
                return None
            point(f"bank.{topic.kind}.opened")
            answer = await self._admit(topic, request, told, cost)
            if answer is None:
                self.dropped["flood"] += 1
                return None
            point(f"bank.{topic.kind}.answering")
            return Outgoing(topics.reply_to(topic, self.name), answer, correlation=request.letter.request_id)

    def _drop(self, message: Incoming, error: PeerError) -> None:
        self.dropped[error.refusal] += 1
        if self._door.worth_a_line():  # the topic is its sender's, too: 64 KiB of anything
            _log.warning("dropped %d bytes on %.100r: %s", len(message.payload), message.topic, error)

    async def _admit(self, topic: topics.BankRequest, request: Request, told: Told, cost: int) -> bytes | None:
        """Answer a request when its sender's turn has come; None for one that is turned away without an answer."""
        if told.verdict is Verdict.REFUSED:
            return self._busy(request, told)
        try:
            return await self._said_before(topic.kind, request) or await self._take_turn(topic, request, cost)
        except BooksUnavailable as error:
            if isinstance(error, BooksLost) and not self._lost.done():
                self._lost.set_exception(error)
            _log.exception("the books are unavailable")
            return self._busy(request, Told(Verdict.REFUSED, _AWAY_MS))

    async def _said_before(self, kind: str, request: Request) -> bytes | None:
        """Return the stored answer to a request, if it has one."""
        if kind in topics.QUESTIONS:
            return None
        known = await self._desk.books.stored_answer(request.letter.request_id, request.hashed)
        return None if known is None else self._desk.said_before(request, known)

    async def _take_turn(self, topic: topics.BankRequest, request: Request, cost: int) -> bytes | None:
        """Decide on a request when the turn of who signed it has come.

        Who has used up its rate is turned away with each of its client ids before the next is opened.
        """
        async with self._counter.turn(self._party(topic, request), cost) as told:
            match told.verdict:
                case Verdict.ADMITTED:
                    return await self._decide(topic.kind, request)
                case Verdict.REFUSED:
                    return self._busy(request, told)
                case Verdict.DROPPED:
                    self._door.admission.fine(topic.client, _JUNK_UNITS)
                    return None

    def _party(self, topic: topics.BankRequest, request: Request) -> str:
        """Return whose turn a request takes: that of who signed it, but each time only once.

        What was sent before, anybody who heard it may have sent again: that must not use up the signer's rate.
        """
        again = request.hashed in self._heard
        self._heard[request.hashed] = None
        self._heard.move_to_end(request.hashed)
        if len(self._heard) > _REMEMBERED:
            self._heard.popitem(last=False)
        key = request.letter.sender
        return f"key {key.hex()}" if key and not again else topic.client

    def _busy(self, request: Request, told: Told) -> bytes:
        desk = self._desk
        return desk.seal(request, overloaded(desk.clock.now(), told.retry_after))

    def _open(self, kind: str, envelope: bytes) -> Request:
        key = self._desk.keys.envelopes.get(recipient_of(envelope))
        if key is None:
            raise PeerError(Refusal.MALFORMED, "sealed for a key that is not ours")
        return Request(open_letter(key, envelope, kind), request_hash(envelope))

    async def _decide(self, kind: str, request: Request) -> bytes:
        try:
            return await DESKS[kind](self._desk, request)
        except PeerError as error:
            return await self._desk.refuse(request, error)
