"""A broker as bad as brokers are: it loses, doubles, delays, garbles and repeats messages, restarts and forgets."""

import asyncio
import itertools
import logging
import sqlite3
from collections.abc import Callable, Iterable
from random import Random
from typing import Final, Self

from broker.port import MAX_PAYLOAD, Incoming, LinkDown, LinkError, Outgoing, TooLarge
from protocol.errors import PeerError

from .loop import NOBODY
from .network import Network, SimulatedLink, _Session, matches
from .process import LIFE, Life

_log = logging.getLogger(__name__)
_LATENCY_S: Final = 0.004
_PATIENCE_S: Final = 10.0
_RECORDED: Final = 400


class Weather:
    """What the network does to messages at the moment; all chances are 0 … 1."""

    def __init__(self) -> None:
        self.loss = 0.0
        self.duplication = 0.0
        self.reordering = 0.0
        self.slowest_s = 0.0
        self.garbling = 0.0
        self.days_late = 0.0


class FaultyNetwork(Network):
    """The broker and the ways to it.

    Args:
        random: draws what happens to each message.
        note: is told of each fault, by kind, with a detail.
        heard: is told of each message that is published, whatever becomes of it.
    """

    def __init__(self, random: Random, note: Callable[[str, str], None], heard: Callable[[Outgoing], None]) -> None:
        super().__init__()
        self.weather = Weather()
        self.recorded: list[Outgoing] = []
        self.failures: list[str] = []
        self.up = True
        self.cut_off: set[str] = set()
        self.deaf: set[str] = set()
        self.mute: set[str] = set()
        self._random = random
        self._note = note
        self._heard = heard
        self._links: list[FaultyLink] = []

    def link(
        self,
        client: str,
        *,
        persistent: bool,
        will: Outgoing | None = None,
        admits: Callable[[str], bool] | None = None,
    ) -> "FaultyLink":
        """Return a presence of the process that asks; it subscribes only to what `admits` says."""
        return FaultyLink(self, client, persistent=persistent, will=will, admits=admits or (lambda _: True))

    def reachable(self, life: Life | None) -> bool:
        return self.up and (life is None or (not life.dead and life.name not in self.cut_off))

    def publish(self, message: Outgoing) -> None:
        if len(message.payload) > MAX_PAYLOAD:
            raise TooLarge(f"{len(message.payload)} bytes")
        self._heard(message)
        if not message.retain and len(self.recorded) < _RECORDED:
            self.recorded.append(message)
        life = LIFE.get()
        if life is not None and life.name in self.mute:
            self._note("one direction lost", message.topic)
            return
        if self._loses(message):
            return
        if message.retain:
            self._retained[message.topic] = message.payload
        self.route(message)

    def _loses(self, message: Outgoing) -> bool:
        # What is retained is published once for each connection: lost as often as the rest, nobody would ever hear it.
        lost = self._random.random() < self.weather.loss / (8 if message.retain else 1)
        if lost:
            self._note("loss", message.topic)
        return lost

    def route(self, message: Outgoing) -> None:
        """Bring a message to all who subscribe to its topic."""
        for session in list(self._sessions.values()):
            filters, topic = session.filters, message.topic
            if topic in filters or any(matches(one, topic) for one in filters):
                copies = 1
                while copies < 4 and self._random.random() < self.weather.duplication:
                    copies += 1
                    self._note("duplication", message.topic)
                for _ in range(copies):
                    self._carry(session, message)

    def _carry(self, session: _Session, message: Outgoing) -> None:
        payload, delay = message.payload, _LATENCY_S * (0.5 + self._random.random())
        if self._random.random() < self.weather.reordering:
            delay += self._random.random() * self.weather.slowest_s
            self._note("delay", message.topic)
        if self._random.random() < self.weather.days_late:
            delay += self._random.choice([3_600, 90_000, 700_000])
            self._note("days late", message.topic)
        if self._random.random() < self.weather.garbling and payload:
            place, bit = self._random.randrange(len(payload)), 1 << self._random.randrange(8)
            payload = payload[:place] + bytes([payload[place] ^ bit]) + payload[place + 1 :]
            self._note("bit flip", message.topic)
        incoming = Incoming(message.topic, payload, correlation=message.correlation)
        asyncio.get_running_loop().call_later(delay, self._arrive, session, incoming, context=NOBODY)

    def _arrive(self, session: _Session, incoming: Incoming) -> None:
        link = session.link
        if isinstance(link, FaultyLink) and link.life is not None and link.life.name in self.deaf:
            self._note("one direction lost", incoming.topic)
        elif session in self._sessions.values():
            session.offer(incoming)

    def replay(self, message: Outgoing) -> None:
        """Publish once more what somebody has recorded."""
        self._note("replay", message.topic)
        self.route(message)

    def cut_from(self, life: str) -> None:
        """Let a process lose its connections, and have no others until `heal`."""
        self.cut_off.add(life)
        for link in self._attached():
            if link.life is not None and link.life.name == life:
                link.lose()

    def heal(self) -> None:
        """End all that lasts."""
        self.weather = Weather()
        self.cut_off.clear()
        self.deaf.clear()
        self.mute.clear()

    def stop(self, *, forget_sessions: bool, forget_retained: bool) -> None:
        """Go down, and lose what is not persisted."""
        self.up = False
        for link in self._attached():
            link.lose()
        if forget_sessions:
            self._sessions.clear()
        if forget_retained:
            self._retained.clear()

    def _attached(self) -> "list[FaultyLink]":
        self._links = [link for link in self._links if link.connected]
        return list(self._links)

    def attached(self, link: "FaultyLink") -> None:
        self._links.append(link)


class FaultyLink(SimulatedLink):
    """One presence; see `broker.port.Link`."""

    def __init__(
        self,
        network: FaultyNetwork,
        client_id: str,
        *,
        persistent: bool,
        will: Outgoing | None,
        admits: Callable[[str], bool],
    ) -> None:
        super().__init__(network, client_id, persistent=persistent, will=will)
        self.life = LIFE.get()
        self._broker = network
        self._admits = admits
        self._reconnecting: asyncio.Task[None] | None = None
        self._entered = False
        if self.life is not None:
            self.life.links.append(self)

    async def __aenter__(self) -> Self:
        self._entered = True
        waited = 0.0
        while not self._broker.reachable(self.life):
            if waited >= _PATIENCE_S and not self.persistent:
                raise LinkDown("no connection")
            pause = min(0.5 + waited / 4, 60.0)
            waited += pause
            await asyncio.sleep(pause)
        await asyncio.sleep(_LATENCY_S)
        self.attach()
        return self

    async def __aexit__(self, *args: object) -> None:
        self._entered = False
        self.detach()

    def attach(self) -> None:
        if not self.connected:
            super().attach()
            self._broker.attached(self)

    def lose(self) -> None:
        """Lose the connection, and look for another one."""
        if self._session is not None:
            asyncio.get_running_loop().call_soon(self.detach, context=NOBODY)
        if self.life is None or not self.life.dead:
            work = self._reconnect()
            self._reconnecting = self.life.run(work) if self.life else asyncio.get_running_loop().create_task(work)

    async def _reconnect(self) -> None:
        for pause in itertools.count(1):
            await asyncio.sleep(min(0.5 * pause, 60.0))
            if not self._entered:
                return
            if self._broker.reachable(self.life):
                self.attach()
                return

    def vanish(self) -> None:
        """Be gone, with the process: the broker notices, and publishes the will."""
        self._entered = False
        asyncio.get_running_loop().call_soon(self.detach, context=NOBODY)

    async def wait_connected(self) -> None:
        while not self.connected:  # noqa: ASYNC110 - whoever cuts the connection knows nothing of who waits
            await asyncio.sleep(0.5)

    async def subscribe(self, *filters: str) -> None:
        await super().subscribe(*(one for one in filters if self._admits(one)))

    async def publish(self, message: Outgoing) -> None:
        session = self._session
        if session is None:
            raise LinkDown("not connected")
        self._broker.publish(message)
        await asyncio.sleep(_LATENCY_S)
        if self._session is not session:
            raise LinkDown("the connection was lost before the broker acknowledged")

    async def _ask(self, handler: Callable[[Incoming], object], incoming: Incoming) -> Outgoing | None:
        async def watched(message: Incoming) -> Outgoing | None:
            try:
                return await handler(message)  # type: ignore[misc, no-any-return]
            except (PeerError, LinkError, sqlite3.Error):
                raise
            except Exception as error:
                name = self.life.name if self.life else "somebody"
                self._broker.failures.append(f"{name}: {message.topic}: {error!r}")
                raise

        return await super()._ask(watched, incoming)


def filters_of_lanes(lanes: Iterable[int]) -> Callable[[str], bool]:
    """Admit the request topics of these lanes only, and all others."""
    wanted = {str(lane) for lane in lanes}

    def admits(topic_filter: str) -> bool:
        levels = topic_filter.split("/")
        return not (len(levels) == 6 and levels[3].isdigit()) or levels[3] in wanted

    return admits
