"""How an agent asks: it sends sealed requests over a link and hands each answer to who waits for it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeAlias

from broker.port import Incoming, Link, LinkError, Outgoing
from protocol import topics
from protocol.answer import request_id_of
from protocol.machine import Send

_log = logging.getLogger(__name__)

Take: TypeAlias = Callable[[bytes], Awaitable[Outgoing | None]]
"""Takes the payload of a message in; may return one to publish (see `broker.port.Handler`)."""


class NobodyAnswers(Exception):
    """What was asked for did not come in time; the text says what was waited for."""


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
        self, request_id: bytes, send: Callable[[int], Awaitable[None]], waits_ms: Iterable[int]
    ) -> bytes | None:
        """Send, wait for the answer, send again …; return the sealed answer, or None after the last wait.

        Args:
            request_id: of the request.
            send: sends it for the attempt-th time, from 0.
            waits_ms: how long to wait after each sending.
        """
        inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.expect(request_id, inbox.put)
        try:
            for attempt, wait_ms in enumerate(waits_ms):
                await send(attempt)
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(inbox.get(), wait_ms / 1000)
            return None
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
