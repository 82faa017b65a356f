"""How an agent asks: it sends sealed requests over a link and hands each answer to who waits for it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Final, NamedTuple, TypeAlias, TypeVar

from broker.port import Incoming, Link, LinkError, Outgoing
from protocol import topics
from protocol.answer import Answer, request_id_of
from protocol.errors import PeerError
from protocol.machine import Send, resume_at
from protocol.refusals import Refusal

from .world import Clock, Entropy

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
INBOX: Final = 16
"""How many answers to a request are kept that nobody has read yet."""

Take: TypeAlias = Callable[[bytes], Awaitable[Outgoing | None]]
"""Takes the payload of a message in; may return one to publish (see `broker.port.Handler`)."""


class NobodyAnswers(Exception):
    """What was asked for did not come in time; the text says what was waited for."""


class Later(NamedTuple):
    """Who was asked has too much work now: nothing happened, and the same bytes are welcome again at `at`."""

    at: int


def pause_ms(answer: Answer, entropy: Entropy) -> int | None:
    """Return how long to wait before the same bytes go out again, if the answer is that there is too much work now."""
    return resume_at(0, answer.retry_after, entropy.jitter()) if answer.refusal == Refusal.OVERLOADED else None


def later(answer: Answer, clock: Clock, entropy: Entropy) -> Later | None:
    """Return when to ask again, if a refusal with the advice to retry says so; None if it does not matter."""
    pause = pause_ms(answer, entropy)
    return None if pause is None else Later(clock.now() + pause)


class Requester:
    """What is asked over one link, and who waits for the answers.

    Args:
        link: whoever serves it gives what arrives to `take_in`.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._takers: dict[bytes, Take] = {}
        self._followers: dict[str, Take] = {}
        self._heard: dict[str, bytes] = {}

    async def take_in(self, message: Incoming) -> Outgoing | None:
        """Hand a message to who waits for it; what nobody waits for is dropped.

        Raises:
            PeerError: if the message is neither followed nor an answer.
        """
        follow = self._followers.get(message.topic)
        take = follow or self._takers.get(request_id_of(message.payload))
        return None if take is None else await take(message.payload)

    def expect(self, request_id: bytes, take: Take) -> None:
        """Hand answers to this request to `take`, until `forget`."""
        self._takers[request_id] = take

    def forget(self, request_id: bytes) -> None:
        """Expect no answer to this request any more."""
        self._takers.pop(request_id, None)

    async def follow(self, topic: str, take: Take) -> None:
        """Hand what is retained on a topic to `take`, now and whenever it changes."""
        self._followers[topic] = take
        with contextlib.suppress(LinkError):  # noted for the next connection
            await self._link.subscribe(topic)

    async def retained(self, topic: str, patience_s: float = 10.0) -> bytes:
        """Return what is retained on a topic: what was heard last, if it was asked for over this link before.

        Brokers need not send it again to who subscribes again; whoever wants the newest asks over a new link.

        Raises:
            NobodyAnswers: if nothing is, for so many seconds.
        """
        if topic in self._heard:
            return self._heard[topic]
        arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def take(payload: bytes) -> None:
            self._heard[topic] = payload
            if not arrived.done():
                arrived.set_result(payload)

        await self.follow(topic, take)
        try:
            return await asyncio.wait_for(arrived, patience_s)
        except TimeoutError:
            raise NobodyAnswers(f"nothing is announced on {topic}: is the agent running, at this broker?") from None

    async def ask(
        self,
        request_id: bytes,
        send: Callable[[int], Awaitable[None]],
        waits_ms: Iterable[int],
        pause_of: Callable[[bytes], int | None] = lambda _: None,
    ) -> bytes | None:
        """Send, wait for the answer, send again …; return the sealed answer, or None after the last wait.

        Args:
            request_id: of the request.
            send: sends it for the attempt-th time, from 0.
            waits_ms: how long to wait after each sending.
            pause_of: reads how many milliseconds a sealed answer asks to wait before the next sending (see
                `pause_ms`); None if it is the answer that is waited for. The last one is returned in any case. If it
                raises `PeerError`, what has come is none, and the true one may follow.
        """
        inbox: asyncio.Queue[bytes] = asyncio.Queue(INBOX)
        self.expect(request_id, partial(keep, inbox))
        sealed, pause = None, 0
        try:
            for attempt, wait_ms in enumerate(waits_ms):
                if pause:
                    await asyncio.sleep(pause / 1000)
                    pause = 0
                await send(attempt)
                with contextlib.suppress(TimeoutError):
                    sealed, asked = await asyncio.wait_for(_hear(inbox, sealed, pause_of), wait_ms / 1000)
                    if asked is None:
                        return sealed
                    pause = asked
            return sealed
        finally:
            self.forget(request_id)

    async def send(self, request: Send, lanes: int) -> None:
        """Publish a request to a bank (on one of its `lanes`) or, with `lanes` 0, to a merchant.

        What goes wrong is logged only: the machine that sends will send again until it is answered.
        """
        try:
            await self._link.publish(self.addressed(request, lanes))
        except LinkError as error:
            _log.info("%s to %s was not sent now: %s", request.kind, request.to, error)

    def addressed(self, request: Send, lanes: int) -> Outgoing:
        """Return the message that `send` publishes."""
        client = self._link.client_id
        if lanes:
            lane = topics.lane_of(request.request_id, lanes, request.attempt)
            topic = topics.bank_request(request.to, lane, request.kind, client)
        else:
            topic = topics.merchant_request(request.to, request.kind, client)
        return Outgoing(topic, request.envelope, correlation=request.request_id)


async def keep(inbox: asyncio.Queue[_T], answer: _T) -> None:
    """Put an answer into an inbox unless that is full: of a flood nothing piles up, and the true one is repeated."""
    with contextlib.suppress(asyncio.QueueFull):
        inbox.put_nowait(answer)


async def _hear(
    inbox: asyncio.Queue[bytes], before: bytes | None, pause_of: Callable[[bytes], int | None]
) -> tuple[bytes, int | None]:
    """Return the first answer that can be read and is not the one before once more, and the pause that it asks for."""
    while True:
        sealed = await inbox.get()
        if sealed == before:
            continue
        try:
            return sealed, pause_of(sealed)
        except PeerError as error:
            _log.warning("an answer was dropped: %s", error)  # forged, or garbled


@contextlib.asynccontextmanager
async def asking(link: Link) -> AsyncIterator[Requester]:
    """Enter a link that only asks, and serve it for as long as the context lasts."""
    requester = Requester(link)
    async with link:
        await link.subscribe(topics.replies(link.client_id))
        serving = asyncio.create_task(link.serve(requester.take_in))
        try:
            yield requester
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
