"""What every `Link` must do. An implementation's test subclasses `LinkConformance` and gives it a world."""

import asyncio
import contextlib
import logging
import secrets
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from broker.port import MAX_PAYLOAD, Incoming, Link, LinkDown, NotDelivered, Outgoing, TooLarge
from protocol import topics
from protocol.errors import PeerError
from protocol.refusals import Refusal

PATIENCE_S = 120


class World(ABC):
    """A broker, and presences whose connections can be cut."""

    @abstractmethod
    async def link(self, client: str, owner: str | None = None, will: Outgoing | None = None) -> Link:
        """A link that is not entered yet: anonymous and ephemeral, or persistent for the agent `owner`."""

    @abstractmethod
    def cut(self, client: str) -> None:
        """Let the connections of a client id die without a word."""

    @abstractmethod
    async def restart(self) -> None:
        """End the broker and start it again."""


class Bank:
    """A server agent that answers in capitals, counts what it gets, and can be held up."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = f"bank-{secrets.token_hex(4)}"
        self.client = topics.agent_client(self.name, secrets.token_hex(8))
        self.seen: Counter[bytes] = Counter()
        self.arrivals: asyncio.Queue[Incoming] = asyncio.Queue()
        self.held: dict[bytes, asyncio.Event] = {}
        self.busy = self.busiest = 0

    async def handle(self, message: Incoming) -> Outgoing | None:
        request = topics.parse(message.topic)
        assert isinstance(request, topics.BankRequest)
        self.seen[message.payload] += 1
        self.arrivals.put_nowait(message)
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        try:
            await self.held.get(message.payload, _OPEN).wait()
        finally:
            self.busy -= 1
        to = topics.reply_to(request, self.name)
        return Outgoing(to, message.payload.upper(), correlation=message.correlation)

    def request(self, client: str, payload: bytes) -> Outgoing:
        return Outgoing(topics.bank_request(self.name, 0, "deposit", client), payload, correlation=payload)

    @contextlib.asynccontextmanager
    async def open(
        self,
        handler: Callable[[Incoming], Awaitable[Outgoing | None]] | None = None,
        will: Outgoing | None = None,
        concurrency: int = 32,
    ) -> AsyncIterator[Link]:
        link = await self.world.link(self.client, self.name, will)
        async with link, serving(link, handler or self.handle, concurrency):
            await link.subscribe(topics.bank_requests(self.name, 0))
            yield link


class Asker:
    """An anonymous requester: what it hears goes to `inbox`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = secrets.token_hex(8)
        self.inbox: asyncio.Queue[Incoming] = asyncio.Queue()

    async def _take(self, message: Incoming) -> Outgoing | None:
        self.inbox.put_nowait(message)
        return None

    @contextlib.asynccontextmanager
    async def open(self, *filters: str) -> AsyncIterator[Link]:
        link = await self.world.link(self.client)
        async with link, serving(link, self._take, 32):
            await link.subscribe(topics.replies(self.client), *filters)
            yield link

    async def hear(self) -> Incoming:
        async with asyncio.timeout(PATIENCE_S):
            return await self.inbox.get()


@contextlib.asynccontextmanager
async def serving(
    link: Link, handler: Callable[[Incoming], Awaitable[Outgoing | None]], concurrency: int
) -> AsyncIterator[None]:
    service = asyncio.create_task(link.serve(handler, concurrency=concurrency))
    try:
        yield
    finally:
        service.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await service


_OPEN = asyncio.Event()
_OPEN.set()


class LinkConformance:
    """The suite. Subclasses give the fixture `world`."""

    async def test_a_request_is_answered_under_its_correlation(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        async with bank.open() as server, asker.open() as link:
            await link.publish(bank.request(asker.client, b"hello"))
            answer = await asker.hear()
            assert answer == Incoming(f"ecash/v1/reply/{asker.client}/{bank.name}", b"HELLO", correlation=b"hello")
            assert server.connected
            assert server.client_id == bank.client

    async def test_a_request_that_was_not_finished_comes_again_when_the_connection_died(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        bank.held[b"slow"] = asyncio.Event()
        async with asyncio.timeout(PATIENCE_S), bank.open() as server, asker.open() as link:
            await link.publish(bank.request(asker.client, b"slow"))
            await link.publish(bank.request(asker.client, b"quick"))
            assert (await asker.hear()).payload == b"QUICK"
            world.cut(bank.client)
            while bank.seen[b"slow"] < 2:
                await bank.arrivals.get()
            bank.held[b"slow"].set()
            while (await asker.hear()).payload != b"SLOW":
                pass
            assert bank.seen[b"slow"] == 2
            assert server.counters.connects == 2

    async def test_nothing_is_acknowledged_before_what_came_earlier(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        bank.held[b"0"] = asyncio.Event()
        async with asyncio.timeout(PATIENCE_S), bank.open(), asker.open() as link:
            for number in range(5):
                await link.publish(bank.request(asker.client, b"%d" % number))
            assert {(await asker.hear()).payload for _ in range(4)} == {b"1", b"2", b"3", b"4"}
            world.cut(bank.client)
            for _ in range(10):
                await bank.arrivals.get()
            assert bank.seen == {b"%d" % number: 2 for number in range(5)}

    async def test_handlers_may_finish_in_any_order(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        payloads = [b"%d" % number for number in range(8)]
        bank.held = {payload: asyncio.Event() for payload in payloads}
        async with bank.open() as server, asker.open() as link:
            for payload in payloads:
                await link.publish(bank.request(asker.client, payload))
            for payload in reversed(payloads):
                bank.held[payload].set()
                assert (await asker.hear()).payload == payload
            await link.publish(bank.request(asker.client, b"next"))
            assert (await asker.hear()).payload == b"NEXT"
            assert server.counters.connects == 1

    async def test_more_requests_than_fit_the_window_are_all_answered_once(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        payloads = [b"r%d" % number for number in range(300)]
        async with bank.open(concurrency=16) as server, asker.open() as link:
            requests = [link.publish(bank.request(asker.client, payload)) for payload in payloads]
            await asyncio.gather(*requests)
            answers = Counter([(await asker.hear()).payload for _ in payloads])
            assert answers == Counter(payload.upper() for payload in payloads)
            assert bank.seen == Counter(payloads)
            assert bank.busiest <= 16
            assert server.counters.received == 300

    async def test_a_handler_that_fails_does_not_stop_the_service(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        bank, asker = Bank(world), Asker(world)
        faults: dict[bytes, BaseException] = {
            b"bug": RuntimeError("a bug of ours"),
            b"refused": PeerError(Refusal.MALFORMED),
            b"down": LinkDown(),
            b"cancelled": asyncio.CancelledError(),
        }

        async def fail(message: Incoming) -> Outgoing | None:
            if fault := faults.get(message.payload):
                raise fault
            return await bank.handle(message)

        async with bank.open(fail) as server, asker.open() as link:
            for payload in (*faults, b"good"):
                await link.publish(bank.request(asker.client, payload))
            assert (await asker.hear()).payload == b"GOOD"
            assert server.counters.refused == 2
            assert server.counters.failed == 2
            logged = [record.exc_info for record in caplog.records if record.levelno == logging.ERROR]
            assert [type(info[1]) for info in logged if info] == [RuntimeError, asyncio.CancelledError]

    async def test_an_answer_that_cannot_be_sent_does_not_stop_the_service(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)

        async def swell(message: Incoming) -> Outgoing | None:
            answer = await bank.handle(message)
            assert answer
            return Outgoing(answer.topic, answer.payload * (MAX_PAYLOAD if message.payload == b"big" else 1))

        async with bank.open(swell) as server, asker.open() as link:
            await link.publish(bank.request(asker.client, b"big"))
            await link.publish(bank.request(asker.client, b"small"))
            assert (await asker.hear()).payload == b"SMALL"
            assert server.counters.failed == 1

    async def test_an_agent_serves_again_after_the_broker_was_restarted(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        async with asyncio.timeout(2 * PATIENCE_S), bank.open(), asker.open(topics.keys(bank.name)) as link:
            await link.publish(bank.request(asker.client, b"before"))
            assert (await asker.hear()).payload == b"BEFORE"
            await world.restart()
            answer = None
            while answer is None:  # as every requester does
                with contextlib.suppress(LinkDown, NotDelivered, TimeoutError):
                    await link.wait_connected()
                    await link.publish(bank.request(asker.client, b"after"))
                    async with asyncio.timeout(1):
                        answer = await asker.inbox.get()
            assert answer.payload == b"AFTER"

    async def test_announcements_are_made_again_after_the_broker_was_restarted(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        async with asyncio.timeout(2 * PATIENCE_S), bank.open() as server:
            await server.announce(Outgoing(topics.keys(bank.name), b"old", retain=True))
            await server.announce(Outgoing(topics.keys(bank.name), b"new", retain=True))
            await world.restart()
            async with asker.open(topics.keys(bank.name)):
                assert (await asker.hear()).payload == b"new"

    async def test_announcements_reach_those_who_come_later(self, world: World) -> None:
        bank, early, late = Bank(world), Asker(world), Asker(world)
        topic = topics.keys(bank.name)
        async with bank.open() as server, early.open(topic):
            await server.announce(Outgoing(topic, b"keys", retain=True))
            assert await early.hear() == Incoming(topic, b"keys", retained=False)
            async with late.open(topic):
                assert await late.hear() == Incoming(topic, b"keys", retained=True)

    async def test_only_what_is_retained_can_be_announced(self, world: World) -> None:
        bank = Bank(world)
        async with bank.open() as server:
            with pytest.raises(ValueError, match="retained"):
                await server.announce(Outgoing(topics.keys(bank.name), b"keys"))

    async def test_the_last_will_is_heard_when_an_agent_dies_and_when_it_leaves(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        topic = topics.status(bank.name)
        async with asker.open(topic):
            async with bank.open(will=Outgoing(topic, b"gone", retain=True)) as server:
                await server.announce(Outgoing(topic, b"here", retain=True))
                assert (await asker.hear()).payload == b"here"
                world.cut(bank.client)
                assert (await asker.hear()).payload == b"gone"
                assert (await asker.hear()).payload == b"here"
            assert (await asker.hear()).payload == b"gone"

    async def test_requests_wait_for_an_agent_that_is_away(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        async with bank.open():
            pass
        async with asker.open() as link:
            await link.publish(bank.request(asker.client, b"while away"))
            async with bank.open():
                assert (await asker.hear()).payload == b"WHILE AWAY"

    async def test_a_request_whose_handler_was_cancelled_comes_to_the_next_presence(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        bank.held[b"stuck"] = asyncio.Event()
        async with asyncio.timeout(PATIENCE_S), asker.open() as link:
            async with bank.open():
                await link.publish(bank.request(asker.client, b"stuck"))
                await bank.arrivals.get()
            bank.held.clear()
            async with bank.open():
                assert (await asker.hear()).payload == b"STUCK"

    async def test_without_a_connection_nothing_is_published_or_queued(self, world: World) -> None:
        asker = Asker(world)
        link = await world.link(asker.client)
        with pytest.raises(LinkDown):
            await link.publish(Outgoing(topics.bank_request("bank", 0, "deposit", asker.client), b"x"))
        assert not link.connected

    async def test_a_mebibyte_travels_and_a_byte_more_does_not(self, world: World) -> None:
        bank, asker = Bank(world), Asker(world)
        async with bank.open(), asker.open() as link:
            whole = Outgoing(bank.request(asker.client, b"").topic, b"x" * MAX_PAYLOAD)
            await link.publish(whole)
            assert len((await asker.hear()).payload) == MAX_PAYLOAD
            with pytest.raises(TooLarge):
                await link.publish(Outgoing(whole.topic, whole.payload + b"x"))
