"""Somebody who asks: writes requests by hand, so that they can be wrong, sends them, and hears what comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.port import Incoming, Link, NotDelivered, Outgoing
from protocol import topics
from protocol.answer import Answer, open_answer, request_id_of
from protocol.codec import Message
from protocol.derivation import Root
from protocol.envelope import EnvelopeKey, Letter, request_hash, seal_letter
from protocol.errors import PeerError
from protocol.machine import Send
from protocol.refusals import Refusal
from protocol.signatures import public_key

from ..requester import NobodyAnswers, Requester
from ..world import Clock, Entropy
from .case import Notes, shown

HOUR_MS: Final = 3_600_000
QUIET_S: Final = 0.15
"""How long nothing must come, after the answer to a later request, for a message to count as dropped."""
_WAITS_MS: Final = (4_000, 4_000, 6_000, 8_000)
_BUSY_S: Final = 0.5
_REPLIES: Final = f"{topics.ROOT}/{topics.REPLY}/"


class Receiver(NamedTuple):
    """Whom one asks: a bank with `lanes` lanes, or (0) a merchant; what seals for it, and which key answers."""

    name: str
    lanes: int
    envelope_key: EnvelopeKey
    identity: bytes


class Asking(NamedTuple):
    """A request as it travels, and what opens its answer."""

    to: Receiver
    kind: str
    request_id: bytes
    answer_key: bytes
    envelope: bytes

    def open(self, sealed: bytes) -> Answer:
        """Open an answer to it; raise PeerError unless it is one, signed by whom was asked."""
        return open_answer(self.to.identity, self.answer_key, request_hash(self.envelope), sealed)


class Voice:
    """A presence at the broker, under which somebody asks.

    Args:
        link: entered; what comes is heard from `speaking`.
        notes: of the case that runs.
        clock, entropy: the world.
        seed: of the key that signs requests (32 bytes); None for who stays anonymous.
    """

    def __init__(self, link: Link, notes: Notes, clock: Clock, entropy: Entropy, seed: bytes | None) -> None:
        self.link = link
        self.notes = notes
        self.seed = seed
        self.root = Root(entropy.bytes(64))
        self.heard: list[Incoming] = []
        self.requester = Requester(link)
        self._clock = clock
        self._entropy = entropy

    @property
    def key(self) -> bytes:
        """The key that signs, or nothing."""
        return public_key(self.seed) if self.seed else b""

    async def take_in(self, message: Incoming) -> Outgoing | None:
        """Hear a message; answers are kept, whatever else was subscribed to is not."""
        if message.topic.startswith(_REPLIES):
            self.heard.append(message)
        return await self.requester.take_in(message)

    def new_id(self) -> bytes:
        """Return a request id (16 bytes) that was never used."""
        return self._entropy.bytes(16)

    def write(
        self,
        to: Receiver,
        kind: str,
        body: Message | bytes,
        *,
        request_id: bytes = b"",
        deadline: int = 0,
        anonymous: bool = False,
        letter_kind: str = "",
    ) -> Asking:
        """Write and seal a request; its deadline is an hour ahead unless it is given."""
        request_id = request_id or self.new_id()
        answer_key = self.root.answer_key(request_id)
        seed = None if anonymous else self.seed
        sender = self.key if seed else b""
        data = body if isinstance(body, bytes) else body.encode()
        due = deadline or self._clock.now() + HOUR_MS
        letter = Letter(letter_kind or kind, request_id, due, answer_key, sender, data)
        return Asking(to, kind, request_id, answer_key, seal_letter(to.envelope_key, letter, seed))

    async def send(self, asking: Asking, *, attempt: int = 0) -> bytes:
        """Send until an answer comes that is not `overloaded`; return it, sealed.

        Raises:
            NobodyAnswers: if none comes.
            PeerError: if what comes is no answer to it.
        """
        to, known = asking.to, len(self.heard)

        async def publish(number: int) -> None:
            send = Send(to.name, asking.kind, asking.request_id, asking.envelope, attempt + number)
            await self.requester.send(send, to.lanes)

        while True:
            sealed = await self.requester.ask(asking.request_id, publish, _WAITS_MS)
            if sealed is None:
                raise NobodyAnswers(f"no answer to {asking.kind} came, though it was sent {len(_WAITS_MS)} times")
            if asking.open(sealed).refusal != Refusal.OVERLOADED:
                break
            await asyncio.sleep(_BUSY_S)
        self._check_topics(to, known)
        return sealed

    def _check_topics(self, to: Receiver, known: int) -> None:
        reply = str(topics.Reply(self.link.client_id, to.name))
        wrong = [message.topic for message in self.heard[known:] if message.topic != reply]
        if wrong:
            self.notes.fail(f"answers on {reply}", wrong[0])

    async def ask(
        self,
        to: Receiver,
        kind: str,
        body: Message | bytes,
        *,
        what: str = "",
        request_id: bytes = b"",
        deadline: int = 0,
        anonymous: bool = False,
    ) -> Answer:
        """Write, send, and open the answer; `what` tells the report what this request is."""
        self.notes.tell(f"{kind}{': ' if what else ''}{what}")
        asking = self.write(to, kind, body, request_id=request_id, deadline=deadline, anonymous=anonymous)
        return asking.open(await self.send(asking))

    async def refused(
        self,
        code: Refusal,
        to: Receiver,
        kind: str,
        body: Message | bytes,
        *,
        what: str = "",
        request_id: bytes = b"",
        deadline: int = 0,
        anonymous: bool = False,
    ) -> Answer:
        """Ask, and check that the answer is this refusal, without a body unless it may have one."""
        parts = {"request_id": request_id, "deadline": deadline, "anonymous": anonymous}
        answer = await self.ask(to, kind, body, what=what, **parts)  # type: ignore[arg-type]
        self.notes.same("the refusal", code.value, answer.refusal)
        if answer.body and code is not Refusal.ALREADY_SPENT:
            self.notes.fail("an empty body (§7.5)", shown(answer.body))
        return answer

    async def granted(
        self,
        to: Receiver,
        kind: str,
        body: Message | bytes,
        *,
        what: str = "",
        request_id: bytes = b"",
        deadline: int = 0,
        anonymous: bool = False,
    ) -> bytes:
        """Ask, check that it is not refused, and return the body of the answer."""
        parts = {"request_id": request_id, "deadline": deadline, "anonymous": anonymous}
        answer = await self.ask(to, kind, body, what=what, **parts)  # type: ignore[arg-type]
        return self.accepted(kind, answer)

    def accepted(self, kind: str, answer: Answer) -> bytes:
        """Check that an answer is no refusal, and return its body."""
        came = f"{answer.refusal} ({answer.detail})" if answer.refusal else "an answer"
        self.notes.check(f"an answer to {kind}", holds=not answer.refusal, came=came)
        if answer.detail:
            self.notes.fail("no detail in an answer that does not refuse (§16)", answer.detail)
        return answer.body

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish whatever it is; that nobody listens is no error."""
        with contextlib.suppress(NotDelivered):
            await self.link.publish(Outgoing(topic, payload, retain=retain))

    async def dropped(self, what: str, topic: str, payload: bytes, good: Asking) -> None:
        """Publish something, then a good request; check that the second is answered, and the first is not."""
        self.notes.tell(f"{what}, and then a good request")
        known = len(self.heard)
        await self.publish(topic, payload)
        answer = good.open(await self.send(good))
        self.accepted(good.kind, answer)
        await asyncio.sleep(QUIET_S)
        others = [message for message in self.heard[known:] if not _is_answer(message, good)]
        self.notes.check("no answer to the first", holds=not others, came=f"{len(others)} messages")


def _is_answer(message: Incoming, asking: Asking) -> bool:
    try:
        return request_id_of(message.payload) == asking.request_id
    except PeerError:
        return False


@contextlib.asynccontextmanager
async def speaking(
    url: BrokerUrl, notes: Notes, clock: Clock, entropy: Entropy, seed: bytes | None = None
) -> AsyncIterator[Voice]:
    """Enter a fresh presence for as long as the context lasts.

    Raises:
        LinkError: if the broker is not there, or refuses.
    """
    link = MqttLink(url, entropy.bytes(16).hex(), persistent=False)
    voice = Voice(link, notes, clock, entropy, seed)
    async with link:
        await link.subscribe(topics.replies(link.client_id))
        serving = asyncio.create_task(link.serve(voice.take_in))
        try:
            yield voice
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
