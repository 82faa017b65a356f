import asyncio

import pytest

from agents.requester import INBOX, NobodyAnswers, Requester, asking, later, pause_ms
from broker.port import Incoming, LinkDown, Outgoing
from protocol import topics
from protocol.answer import overloaded, refuse
from protocol.errors import PeerError
from protocol.machine import Send
from protocol.refusals import Refusal
from tests.simulation.clock import VirtualClock
from tests.simulation.entropy import SeededEntropy
from tests.simulation.network import Network
from tests.world import NOW

REQUEST = Send("north", "deposit", b"r" * 16, b"envelope", 0)
REPLY = "ecash/v1/reply/me/north"


def answer(request_id: bytes = REQUEST.request_id, rest: bytes = bytes(40)) -> bytes:
    return b"\1" + request_id + rest


async def test_the_same_bytes_go_over_other_lanes_until_they_are_answered(network: Network) -> None:
    async with asking(network.link("me", persistent=False)) as requester:

        async def send(attempt: int) -> None:
            await requester.send(Send("north", "deposit", b"r" * 16, b"envelope", attempt), 4)
            if attempt == 2:
                network.inject(REPLY, answer())

        assert await requester.ask(b"r" * 16, send, [1, 1, 10_000]) == answer()
        sent = network.heard("ecash/v1/north/+/deposit/me")
        assert [message.payload for message in sent] == [b"envelope"] * 3
        assert len({message.topic for message in sent}) == 3
        assert {message.correlation for message in sent} == {b"r" * 16}


async def test_without_an_answer_asking_ends_after_the_last_wait(network: Network) -> None:
    async with asking(network.link("me", persistent=False)) as requester:
        assert await requester.ask(b"r" * 16, lambda _: requester.send(REQUEST, 4), [0, 0]) is None
        assert len(network.heard("ecash/v1/north/+/deposit/me")) == 2


async def test_who_asks_for_a_pause_is_asked_again_after_it(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(network.link("me", persistent=False)) as requester:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        monkeypatch.setattr("agents.requester.asyncio.sleep", sleep)

        async def send(attempt: int) -> None:
            if attempt != 1:
                network.inject(REPLY, answer(rest=bytes([attempt]) * 40))

        pauses = {0: 2_000, 2: None}
        told = await requester.ask(b"r" * 16, send, [10_000, 0, 10_000], lambda sealed: pauses[sealed[-1]])
        assert told == answer(rest=bytes([2]) * 40)
        assert slept == [2.0]
        only_busy = await requester.ask(b"r" * 16, send, [10_000, 0], lambda _: 1)
        assert only_busy == answer(rest=bytes(40)), "what is known is that somebody is there"


async def test_of_a_flood_of_answers_nothing_piles_up(network: Network) -> None:
    async with asking(network.link("me", persistent=False)) as requester:
        read: list[bytes] = []

        async def send(_: int) -> None:
            for number in range(1_000):
                await requester.take_in(Incoming(REPLY, answer(rest=number.to_bytes(40))))

        def garbled(sealed: bytes) -> int | None:
            read.append(sealed)
            raise PeerError(Refusal.MALFORMED, "no answer")

        assert await requester.ask(b"r" * 16, send, [10], garbled) is None
        assert len(read) == INBOX


def test_only_who_is_overloaded_asks_for_a_pause() -> None:
    clock, entropy = VirtualClock(NOW), SeededEntropy("pauses")
    assert later(refuse(NOW, PeerError(Refusal.PENDING, "")), clock, entropy) is None
    pauses = {pause_ms(overloaded(NOW, 1_000), entropy) for _ in range(20)}
    assert len(pauses) > 1
    assert all(1_000 <= pause <= 2_000 for pause in pauses if pause is not None)
    told = later(overloaded(NOW, 1_000), clock, entropy)
    assert told is not None
    assert NOW + 1_000 <= told.at <= NOW + 2_000


async def test_what_nobody_waits_for_is_dropped_and_what_is_no_answer_refused(network: Network) -> None:
    requester = Requester(network.link("me", persistent=False))
    assert await requester.take_in(Incoming(REPLY, answer())) is None
    with pytest.raises(PeerError):
        await requester.take_in(Incoming(REPLY, b"short"))
    taken: list[bytes] = []

    async def take(payload: bytes) -> Outgoing | None:
        taken.append(payload)
        return Outgoing("t", b"")

    requester.expect(REQUEST.request_id, take)
    assert await requester.take_in(Incoming(REPLY, answer())) == Outgoing("t", b"")
    requester.forget(REQUEST.request_id)
    requester.forget(REQUEST.request_id)
    assert await requester.take_in(Incoming(REPLY, answer())) is None
    assert taken == [answer()]


async def test_what_is_retained_is_waited_for(network: Network) -> None:
    topic = topics.keys("north")
    async with asking(network.link("me", persistent=False)) as requester:
        waiting = asyncio.create_task(requester.retained(topic))
        await asyncio.sleep(0)
        network.inject(topic, b"keys", retain=True)
        network.inject(topic, b"newer", retain=True)
        assert await waiting == b"keys"
        assert await requester.retained(topic) == b"newer"
        with pytest.raises(NobodyAnswers, match=r"south/keys"):
            await requester.retained(topics.keys("south"), 0.0)


async def test_what_cannot_be_sent_is_logged_for_it_will_be_sent_again(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    link = network.link("me", persistent=False)
    with pytest.raises(LinkDown):
        await link.publish(Outgoing("t", b""))
    await Requester(link).send(REQUEST, 4)
    assert "deposit to north was not sent now" in caplog.text


async def test_a_request_to_a_merchant_has_no_lane(network: Network) -> None:
    requester = Requester(network.link("me", persistent=False))
    assert requester.addressed(Send("shop", "pay", b"r" * 16, b"", 3), 0).topic == "ecash/v1/shop/pay/me"
