"""What the merchant's till and its refunds share: keys and books, its banks, and the way to answer."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from broker.port import Outgoing
from protocol.answer import Answer, open_answer, overloaded, refuse, seal_answer
from protocol.codec import Message
from protocol.derivation import new_request_id
from protocol.envelope import Letter, request_hash, seal_letter
from protocol.errors import PeerError
from protocol.keyset import KeyRing
from protocol.machine import Effect, Send, WakeAt
from protocol.messages import Certificate
from protocol.refusals import Refusal

from ..world import Clock, Entropy
from .home import MerchantKeys, Settings, Stock
from .store import Asked, MerchantStore

NEVER: Final = 2**53 - 1
MAX_ASKERS: Final = 4
"""How many requests about one thing are answered at once; a buyer has one, and whoever writes more asks again."""


class Request(NamedTuple):
    """A request that was opened, with its hash and the topic to answer on."""

    letter: Letter
    hashed: bytes
    reply_topic: str


class Alarm(NamedTuple):
    """A machine wants to be woken: `subject` is a sale's payment id, a deposit's digest, a refund's request id."""

    at: int
    kind: str
    subject: bytes


class Result(NamedTuple):
    """What may go out, now that the step is durable.

    `sends` are requests to a bank, each with the subject of its machine; `ended` are the ids of those that the bank
    has decided; `put_off` are the subjects that a bank with too much work wants to hear of again at a time, not before.
    """

    answers: Sequence[Outgoing] = ()
    sends: Sequence[tuple[bytes, Send]] = ()
    alarms: Sequence[Alarm] = ()
    ended: Sequence[bytes] = ()
    put_off: Sequence[tuple[bytes, int]] = ()


class Trust(NamedTuple):
    """What the merchant has from a bank: its keys, and the certificate (`Signed`) that makes it a merchant there."""

    ring: KeyRing
    certificate: Certificate
    signed: bytes


class Desk:
    """What all of the merchant's work is done with.

    Args:
        settings, keys, catalog: the home's; the catalogue gives by sku what is sold.
        store: the merchant's books.
        clock, entropy: the world.

    Attributes:
        banks: what the banks have announced and certified, by name; replaced when one announces anew.
        step: held while a step reads, decides and writes; two at once would decide on the same past.
    """

    def __init__(
        self,
        settings: Settings,
        keys: MerchantKeys,
        catalog: Stock,
        store: MerchantStore,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.settings = settings
        self.keys = keys
        self.catalog = catalog
        self.store = store
        self.clock = clock
        self.entropy = entropy
        self.banks: dict[str, Trust] = {}
        self.step = asyncio.Lock()

    def trust(self, bank: str) -> Trust:
        """Return what a bank has announced and certified.

        Raises:
            PeerError: `WRONG_BANK`, if the merchant has no account there, or the bank was never there yet.
        """
        if bank not in self.banks:
            raise PeerError(
                Refusal.WRONG_BANK, f"this merchant takes coins of {', '.join(self.banks) or 'no bank yet'}"
            )
        return self.banks[bank]

    def seal(self, ring: KeyRing, kind: str, body: Message, deadline: int = NEVER) -> tuple[bytes, bytes]:
        """Return a fresh request id and the envelope of a signed request to a bank."""
        request_id = new_request_id(self.keys.public[:16], self.entropy.bytes(32))
        answer_key = self.keys.root.answer_key(request_id)
        letter = Letter(kind, request_id, deadline, answer_key, self.keys.public, body.encode())
        return request_id, seal_letter(ring.keyset.envelope_key, letter, self.keys.identity)

    def open(self, ring: KeyRing, request_id: bytes, envelope: bytes, sealed: bytes) -> Answer:
        """Open a bank's answer to a request; raise PeerError if it is none."""
        answer_key = self.keys.root.answer_key(request_id)
        return open_answer(ring.keyset.identity, answer_key, request_hash(envelope), sealed)

    def asked(self, request: Request, payment_id: bytes = b"", about: bytes = b"") -> Asked:
        """Return the row of a request that has no answer yet."""
        letter = request.letter
        return Asked(letter.request_id, request.hashed, letter.answer_key, request.reply_topic, payment_id, about, None)

    def answered(self, asked: Asked, answer: Answer) -> Asked:
        """Return the row with its sealed answer."""
        sealed = seal_answer(self.keys.identity, asked.answer_key, asked.request_id, asked.request_hash, answer)
        return asked._replace(answer=sealed)

    async def all_answered(self, asked: Sequence[Asked], about: bytes, answer: Answer) -> list[Asked]:
        """Answer these requests, and some that have waited for the same since before."""
        waiting = await self.store.waiting(about)
        earlier = [one for one in waiting[:MAX_ASKERS] if one.request_id not in {new.request_id for new in asked}]
        return [self.answered(one, answer) for one in (*asked, *earlier)]

    async def known(self, request: Request) -> Asked | None:
        """Return the request as it was taken in before, if it was.

        Raises:
            PeerError: `REQUEST_ID_REUSED`; `REQUEST_EXPIRED` for a new one after its deadline.
        """
        known = await self.store.asked(request.letter.request_id)
        if known is not None and known.request_hash != request.hashed:
            raise PeerError(Refusal.REQUEST_ID_REUSED, "another request with this id was taken in")
        if known is None and self.clock.now() >= request.letter.deadline:
            raise PeerError(Refusal.REQUEST_EXPIRED, "the request's deadline has passed")
        return known

    def tell(self, request: Request, body: Message) -> Outgoing:
        """Return an answer that is not stored."""
        answer = Answer(self.clock.now(), "", "", body.encode())
        return outgoing(self.answered(self.asked(request), answer))

    def refusal(self, request: Request, error: PeerError) -> Outgoing:
        """Return a refusal that is not stored."""
        return outgoing(self.answered(self.asked(request), refuse(self.clock.now(), error)))

    def busy(self, request: Request, retry_after: int) -> Outgoing:
        """Return the refusal of who has too much work now, and asks for a pause (in milliseconds)."""
        return outgoing(self.answered(self.asked(request), overloaded(self.clock.now(), retry_after)))


def outgoing(asked: Asked) -> Outgoing:
    """Return an answer as it is published."""
    return Outgoing(asked.topic, asked.answer or b"", correlation=asked.request_id)


def sends(subject: bytes, effects: Sequence[Effect]) -> list[tuple[bytes, Send]]:
    """Return what a machine sends."""
    return [(subject, effect) for effect in effects if isinstance(effect, Send)]


def alarms(kind: str, subject: bytes, effects: Sequence[Effect]) -> list[Alarm]:
    """Return when a machine wants to be woken."""
    return [Alarm(effect.at, kind, subject) for effect in effects if isinstance(effect, WakeAt)]
