import asyncio

import pytest

from agents.requester import NobodyAnswers, Requester, asking
from broker.port import Incoming, LinkDown, Outgoing
from protocol import topics
from protocol.errors import PeerError
from protocol.machine import Send
from tests.simulation.network import Network

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
