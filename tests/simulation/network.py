"""A broker in memory: it delivers at once and in order, unless a test loses, holds or cuts something."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Self

from broker.port import MAX_PAYLOAD, Counters, Handler, Incoming, LinkDown, LinkError, Outgoing, TooLarge
from protocol.errors import PeerError
from protocol.topics import check_client

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Ticket:
    incoming: Incoming
    session: "_Session"
    done: bool = False


@dataclass(eq=False)
class _Session:
    """What the broker keeps of a presence: filters, and messages that were not acknowledged, oldest first."""

    filters: dict[str, None] = field(default_factory=dict)
    pending: list[_Ticket] = field(default_factory=list)
    link: "SimulatedLink | None" = None

    def offer(self, incoming: Incoming) -> None:
        ticket = _Ticket(incoming, self)
        self.pending.append(ticket)
        if self.link is not None:
            self.link.inbox.put_nowait(ticket)

    def deliver_again(self) -> None:
        again = [ticket.incoming for ticket in self.pending]
        self.pending.clear()
        for incoming in again:
            self.offer(incoming)

    def acknowledge(self, ticket: _Ticket) -> None:
        ticket.done = True
        while self.pending and self.pending[0].done:
            self.pending.pop(0)


class Network:
    """The broker.

    Attributes:
        published: every message that was published, in order.
        loses: tells whether a message is lost on the way, although its publisher is told that it was taken.
    """

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.loses: Callable[[Outgoing], bool] = lambda _: False
        self._sessions: dict[str, _Session] = {}
        self._retained: dict[str, bytes] = {}
        self._news = asyncio.Condition()
        self._notices: set[asyncio.Task[None]] = set()

    def link(self, client: str, *, persistent: bool, will: Outgoing | None = None) -> "SimulatedLink":
        """Return a presence that is not entered yet."""
        return SimulatedLink(self, client, persistent=persistent, will=will)

    async def wait_for(self, count: int, topic: str = "") -> list[Outgoing]:
        """Return what was published on topics that match the filter (or all), as soon as it is so many messages."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.heard(topic)) >= count)
        return self.heard(topic)

    def heard(self, topic: str = "") -> list[Outgoing]:
        """Return what was published on topics that match the filter."""
        return [message for message in self.published if not topic or matches(topic, message.topic)]

    def inject(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish as somebody who obeys no rule."""
        self.publish(Outgoing(topic, payload, retain=retain))

    def publish(self, message: Outgoing) -> None:
        if len(message.payload) > MAX_PAYLOAD:
            raise TooLarge(f"{len(message.payload)} bytes")
        self.published.append(message)
        notice = asyncio.get_running_loop().create_task(self._tell())
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)
        if self.loses(message):
            return
        if message.retain:
            self._retained[message.topic] = message.payload
        incoming = Incoming(message.topic, message.payload, correlation=message.correlation)
        for session in list(self._sessions.values()):
            if any(matches(one, message.topic) for one in session.filters):
                session.offer(incoming)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def cut(self, client_id: str) -> None:
        """Let a presence lose its connection; it has the next one at once."""
        link = self._sessions[client_id].link
        assert link is not None
        link.detach()
        link.attach()

    def restart(self) -> None:
        """Forget all sessions and everything retained."""
        links = [session.link for session in self._sessions.values() if session.link]
        self._sessions.clear()
        self._retained.clear()
        for link in links:
            link.attach()

    def attach(self, link: "SimulatedLink", filters: Iterable[str]) -> _Session:
        session = self._sessions.setdefault(link.client_id, _Session()) if link.persistent else _Session()
        self._sessions[link.client_id] = session
        session.link = link
        session.deliver_again()
        self.subscribe(session, filters)
        return session

    def detach(self, link: "SimulatedLink") -> None:
        session = self._sessions.get(link.client_id)
        if session is not None and session.link is link:
            session.link = None
            if not link.persistent:
                del self._sessions[link.client_id]

    def subscribe(self, session: _Session, filters: Iterable[str]) -> None:
        for one in filters:
            session.filters[one] = None
            for topic, payload in self._retained.items():
                if payload and matches(one, topic):
                    session.offer(Incoming(topic, payload, retained=True))


class SimulatedLink:
    """One presence; see `broker.port.Link`."""

    def __init__(self, network: Network, client_id: str, *, persistent: bool, will: Outgoing | None) -> None:
        self.persistent = persistent
        self.inbox: asyncio.Queue[_Ticket] = asyncio.Queue()
        self.counters = Counters()
        self._network = network
        self._client_id = check_client(client_id)
        self._will = will
        self._filters: dict[str, None] = {}
        self._announced: dict[str, Outgoing] = {}
        self._session: _Session | None = None

    @property
    def client_id(self) -> str:
        return self._client_id

    @property
    def connected(self) -> bool:
        return self._session is not None

    async def __aenter__(self) -> Self:
        self.attach()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def attach(self) -> None:
        self._session = self._network.attach(self, self._filters)
        self.counters.connects += 1
        for message in self._announced.values():
            self._network.publish(message)

    def detach(self) -> None:
        if self._session is not None:
            self._session = None
            self._network.detach(self)
            if self._will is not None:
                self._network.publish(self._will)

    async def wait_connected(self) -> None:
        assert self.connected, "a simulated link has its next connection at once"

    async def subscribe(self, *filters: str) -> None:
        self._filters.update(dict.fromkeys(filters))
        if self._session is not None:
            self._network.subscribe(self._session, filters)

    async def publish(self, message: Outgoing) -> None:
        if not self.connected:
            raise LinkDown("not connected")
        self._network.publish(message)

    async def announce(self, message: Outgoing) -> None:
        if not message.retain:
            raise ValueError("an announcement is retained")
        self._announced[message.topic] = message
        if self.connected:
            self._network.publish(message)

    async def serve(self, handler: Handler, *, concurrency: int = 32) -> None:
        slots = asyncio.Semaphore(concurrency)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                ticket = await self._next()
                group.create_task(self._handle(handler, ticket)).add_done_callback(lambda _: slots.release())

    async def _next(self) -> _Ticket:
        while True:
            ticket = await self.inbox.get()
            if ticket in ticket.session.pending and ticket.session is self._session:
                return ticket  # else it was delivered again

    async def _handle(self, handler: Handler, ticket: _Ticket) -> None:
        self.counters.received += 1
        answer = await self._ask(handler, ticket.incoming)
        if answer is not None:
            try:
                await self.publish(answer)
                self.counters.answered += 1
            except LinkError:
                self.counters.failed += 1
        ticket.session.acknowledge(ticket)

    async def _ask(self, handler: Handler, incoming: Incoming) -> Outgoing | None:
        try:
            return await handler(incoming)
        except (PeerError, LinkError):
            self.counters.refused += 1
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.counters.failed += 1
            log.exception("cancelled from within")
        except Exception:
            self.counters.failed += 1
            log.exception("the handler of a message on %s failed", incoming.topic)
        return None


@lru_cache(4_096)
def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a topic is one of a filter's (MQTT 5, 4.7; we use no `#`)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(one in ("+", level) for one, level in zip(wanted, levels, strict=True))
