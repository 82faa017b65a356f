"""The bank as a process: it takes requests in, steps their machines, commits, and only then answers."""

import asyncio
import logging
from collections import Counter
from typing import Final

from broker.port import Incoming, Link, Outgoing
from protocol import topics
from protocol.answer import refuse
from protocol.envelope import open_letter, recipient_of, request_hash
from protocol.errors import PeerError
from protocol.keyset import KeyRing, Keyset
from protocol.messages import Status
from protocol.refusals import Refusal

from ..trace import point
from ..world import Clock
from .desks import DESKS
from .desks.desk import Desk, Request
from .home import BankKeys
from .signer import Signer
from .store import Books, BooksLost, BooksUnavailable

_log = logging.getLogger("ecash.bank")
_CONCURRENCY: Final = 64


class BankAgent:
    """A bank at work.

    Args:
        keyset: the newest one, `announcement` its signed bytes.
        keys: the private keys for envelopes and statements; coins are signed by `signer`.
        books: where everything is kept.
        signer: holds the denominations' private keys.
        clock: the bank's time decides what is too late.
    """

    def __init__(
        self, keyset: Keyset, announcement: bytes, keys: BankKeys, books: Books, signer: Signer, clock: Clock
    ) -> None:
        self.name = keyset.bank
        self.dropped: Counter[str] = Counter()
        self.ready = asyncio.Event()
        self._desk = Desk(keyset.bank, KeyRing(keyset), keys, books, signer, clock)
        self._announcement = announcement
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, link: Link) -> None:
        """Serve all lanes over an entered link until cancelled.

        Raises:
            BooksLost: the books have stopped for good.
        """
        lanes = self._desk.ring.keyset.limits.lanes
        await link.subscribe(*(topics.bank_requests(self.name, lane) for lane in range(lanes)))
        await self._announce(link)
        self.ready.set()
        try:
            serving = asyncio.create_task(link.serve(self.handle, concurrency=_CONCURRENCY))
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
        lanes = keyset.limits.lanes
        await link.subscribe(*(topics.bank_requests(self.name, lane) for lane in range(lanes)))
        self._desk.keys = keys
        self._desk.ring = KeyRing(keyset)
        self._announcement = announcement
        await self._announce(link)

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
            request = self._open(topic.kind, message.payload)
        except PeerError as error:
            self.dropped[error.refusal] += 1
            _log.warning("dropped %d bytes on %s: %s", len(message.payload), message.topic, error)
            return None
        point(f"bank.{topic.kind}.opened")
        answer = await self._answer(topic.kind, request)
        point(f"bank.{topic.kind}.answering")
        return Outgoing(topics.reply_to(topic, self.name), answer, correlation=request.letter.request_id)

    def _open(self, kind: str, envelope: bytes) -> Request:
        key = self._desk.keys.envelopes.get(recipient_of(envelope))
        if key is None:
            raise PeerError(Refusal.MALFORMED, "sealed for a key that is not ours")
        return Request(open_letter(key, envelope, kind), request_hash(envelope))

    async def _answer(self, kind: str, request: Request) -> bytes:
        desk = self._desk
        try:
            if kind not in topics.QUESTIONS:
                known = await desk.books.stored_answer(request.letter.request_id, request.hashed)
                if known is not None:
                    return desk.said_before(request, known)
            return await self._decide(kind, request)
        except BooksUnavailable as error:
            if isinstance(error, BooksLost) and not self._lost.done():
                self._lost.set_exception(error)
            _log.exception("the books are unavailable")
            return desk.seal(request, refuse(desk.clock.now(), PeerError(Refusal.OVERLOADED, "try again later")))

    async def _decide(self, kind: str, request: Request) -> bytes:
        try:
            return await DESKS[kind](self._desk, request)
        except PeerError as error:
            return await self._desk.refuse(request, error)
