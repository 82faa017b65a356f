"""`MqttLink`: the `Link` port over aiomqtt, for brokers that speak MQTT 5."""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from protocol.errors import PeerError
from protocol.topics import check_client

from .address import BrokerUrl
from .connection import FAREWELL_S, Connection, Ticket, check_size
from .port import Counters, Handler, LinkDown, LinkError, NotAuthorized, NotTrusted, Outgoing

OWN_WINDOW: Final = 32
"""How many publications beside the answers may be under way at once."""

_SHORTEST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 5.0

log = logging.getLogger(__name__)


class MqttLink:
    """A presence at an MQTT 5 broker; see `Link` for what its methods promise.

    Args:
        url: the broker, with the log-in if there is one.
        client_id: checked by `protocol.topics.check_client`.
        persistent: the broker keeps subscriptions and unacknowledged messages while we are away (bank,
            merchant: an id that stays the same). Else it forgets them with the connection (an anonymous client:
            an id used for one connection's purpose).
        will: published by the broker when it loses us, and by us when we leave.
        patience_s: how long entering may take; `math.inf` to wait for a broker that starts later.
        draw: uniform random numbers in [0, 1), for the jitter.
    """

    def __init__(
        self,
        url: BrokerUrl,
        client_id: str,
        *,
        persistent: bool,
        will: Outgoing | None = None,
        patience_s: float = 10.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._client_id = check_client(client_id)
        self._persistent = persistent
        self._will = will
        self._patience_s = patience_s
        self._draw = draw
        self._filters: dict[str, None] = {}
        self._announced: dict[str, Outgoing] = {}
        self._inbox: asyncio.Queue[Ticket] = asyncio.Queue()
        self._window = asyncio.Semaphore(OWN_WINDOW)
        self._up = asyncio.Event()
        self._connection: Connection | None = None
        self._runner: asyncio.Task[None] | None = None
        self._counters = Counters()
        self._trouble = "no answer"

    @property
    def client_id(self) -> str:
        """The id of the presence."""
        return self._client_id

    @property
    def connected(self) -> bool:
        """True while a connection stands and its subscriptions are granted."""
        return self._up.is_set()

    @property
    def counters(self) -> Counters:
        """The figures so far."""
        return self._counters

    async def __aenter__(self) -> Self:
        runner = self._runner = asyncio.create_task(self._run(), name=f"link {self._client_id}")
        up = asyncio.create_task(self._up.wait())
        patience = None if math.isinf(self._patience_s) else self._patience_s
        try:
            await asyncio.wait({runner, up}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if runner.done():
                await runner
            if not self._up.is_set():
                raise LinkDown(f"{self._url.public}: {self._trouble}")
        except BaseException:
            await self._stop()
            raise
        finally:
            up.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._will is not None and self.connected:
                with contextlib.suppress(LinkError):
                    await self.publish(self._will)
        finally:
            await self._stop()

    async def wait_connected(self) -> None:
        """Return as soon as `connected`."""
        await self._up.wait()

    async def subscribe(self, *filters: str) -> None:
        """Add topic filters, now and after every reconnection."""
        self._filters.update(dict.fromkeys(filters))
        if self._connection is not None and self.connected:
            await self._connection.grant(filters)

    async def publish(self, message: Outgoing) -> None:
        """Publish; returns when the broker has acknowledged."""
        async with self._window:
            if self._connection is None or not self.connected:
                raise LinkDown(f"{self._url.public}: {self._trouble}")
            await self._connection.finish(message, self._connection.start(message))

    async def announce(self, message: Outgoing) -> None:
        """Publish a retained message now and again after every reconnection."""
        if not message.retain:
            raise ValueError("an announcement is retained")
        check_size(message)
        with contextlib.suppress(LinkDown):
            await self.publish(message)
        # What the broker refuses is not noted: repeating it would keep us from ever being connected again.
        self._announced[message.topic] = message

    async def serve(self, handler: Handler, *, concurrency: int = 32) -> None:
        """Give every message to the handler, at most `concurrency` at once, until cancelled."""
        slots = asyncio.Semaphore(concurrency)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_runner())
            while True:
                await slots.acquire()
                ticket = await self._next()
                task = group.create_task(self._handle(handler, ticket))
                task.add_done_callback(lambda _: slots.release())

    async def _watch_runner(self) -> None:
        """Raise what has ended the runner: a link without one serves nobody, and nobody else would notice."""
        if self._runner is not None:
            await asyncio.wait({self._runner})
            if not self._runner.cancelled():
                self._runner.result()

    async def _next(self) -> Ticket:
        while True:
            ticket = await self._inbox.get()
            if ticket.connection.alive or not self._persistent:
                return ticket
            # The broker sends it again on the next connection.

    async def _handle(self, handler: Handler, ticket: Ticket) -> None:
        self._counters.received += 1
        answer = await self._ask(handler, ticket)
        connection = ticket.connection
        confirmed = None
        try:
            confirmed = connection.start(answer) if answer else None
        except (LinkError, ValueError):
            self._counters.failed += 1
            log.exception("The answer to a message on %r cannot be sent", ticket.incoming.topic)
        # Only now, and before the wait below: rumqttd confirms nothing to a client whose window is full.
        connection.acknowledge(ticket)
        if answer is None or confirmed is None:
            return
        try:
            await connection.finish(answer, confirmed)
            self._counters.answered += 1
        except NotAuthorized:
            self._counters.unheard += 1
            log.exception("The broker does not let us answer on %r", answer.topic)
        except LinkError:
            self._counters.unheard += 1

    async def _ask(self, handler: Handler, ticket: Ticket) -> Outgoing | None:
        try:
            return await handler(ticket.incoming)
        except (PeerError, LinkError):
            self._counters.refused += 1
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._counters.failed += 1
            log.exception("The handler of a message on %r was cancelled from within", ticket.incoming.topic)
        except Exception:
            self._counters.failed += 1
            log.exception("The handler of a message on %r failed", ticket.incoming.topic)
        return None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            begun = loop.time()
            try:
                await self._live()
                self._trouble = "the connection was lost"
            except (NotAuthorized, NotTrusted) as error:
                if not self._counters.connects:
                    raise
                self._trouble = str(error)
                log.warning("%s: %s", self._url.public, error)
            except LinkError as error:
                self._trouble = str(error)
            # A connection that did not last counts as a failed one: two that fight for an id must not spin.
            attempt = 0 if loop.time() - begun > 2 * _LONGEST_PAUSE_S else attempt + 1
            await asyncio.sleep(pause_s(attempt, self._draw()))

    async def _live(self) -> None:
        """Connect, subscribe, announce, and stay until the connection is lost."""
        connection = Connection(
            self._url,
            self._client_id,
            persistent=self._persistent,
            will=self._will,
            arrived=self._inbox.put_nowait,
        )
        await connection.open()
        try:
            await self._catch_up(connection)
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # swallowed meanwhile, see `_stop`
                raise asyncio.CancelledError
            self._connection = connection
            self._counters.connects += 1
            self._up.set()
            await connection.wait_lost()
        finally:
            begun = not self._up.is_set()
            self._up.clear()
            self._connection = None
            if begun and self._will is not None:
                connection.abandon()  # else what was announced already would stand: `__aexit__` says no farewell now
            else:
                await connection.close()

    async def _catch_up(self, connection: Connection) -> None:
        """Subscribe to and announce all that is noted, and what is noted while that goes on."""
        granted, announced = set[str](), dict[str, Outgoing]()
        while self._filters.keys() > granted or self._announced != announced:
            filters = tuple(name for name in self._filters if name not in granted)
            if filters:
                await connection.grant(filters)
                granted.update(filters)
            for message in tuple(self._announced.values()):
                if announced.get(message.topic) != message:
                    await connection.finish(message, connection.start(message))
                    announced[message.topic] = message

    async def _stop(self) -> None:
        if self._runner is None:
            return
        while not self._runner.done():
            # Again if need be: `wait_for` of Python 3.11 swallows a cancellation that comes together with its result.
            self._runner.cancel()
            await asyncio.wait({self._runner}, timeout=2 * FAREWELL_S)
        self._runner = None


def pause_s(attempt: int, draw: float) -> float:
    """Seconds before the `attempt`-th reconnection: doubling from 0.05 to 5, of which a half is jitter."""
    full = min(_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S * 2.0 ** min(attempt, 16))
    return full * (1 + draw) / 2
