import asyncio

import pytest
from rich.text import Text

from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.observe import Observer, Sighting, line, watch
from broker.port import Outgoing
from protocol import topics

ASK = topics.bank_request("alpha", 3, "deposit", "c0ffee")
BUY = topics.merchant_request("shop", "order", "c0ffee")
ANSWER = "ecash/v1/reply/c0ffee/alpha"
SALE = "ecash/v1/reply/c0ffee/shop"


def test_a_request_and_its_answer_are_matched_by_correlation() -> None:
    observer = Observer()
    first = observer.see(10.0, ASK, b"123", b"one")
    observer.see(11.0, ASK, b"123", b"two")
    assert (first.sender, first.receiver, first.kind, first.size) == ("c0ffee", "alpha", "deposit", 3)
    answer = observer.see(12.5, ANSWER, b"12345", b"two")
    assert (answer.sender, answer.receiver, answer.kind) == ("alpha", "c0ffee", "answer deposit")
    assert answer.took_s == 1.5
    assert observer.see(13.0, ANSWER, b"", b"one").took_s == 3.0


def test_without_correlation_the_oldest_request_to_that_agent_is_answered() -> None:
    observer = Observer()
    for at, topic in ((1.0, BUY), (2.0, ASK), (3.0, ASK)):
        observer.see(at, topic, b"")
    assert [observer.see(10.0, topic, b"").took_s for topic in (ANSWER, SALE, ANSWER)] == [8.0, 9.0, 7.0]


def test_a_repeated_request_is_marked_and_its_first_sending_counts() -> None:
    observer = Observer()
    assert not observer.see(1.0, ASK, b"", b"id").repeated
    assert observer.see(2.0, ASK.replace("/3/", "/4/"), b"", b"id").repeated
    assert observer.see(4.0, ANSWER, b"", b"id").took_s == 3.0


@pytest.mark.parametrize("correlation", [None, b"id"])
def test_an_answer_to_what_was_not_seen_took_an_unknown_time(correlation: bytes | None) -> None:
    observer = Observer()
    answer = observer.see(1.0, ANSWER, b"", correlation)
    assert (answer.kind, answer.took_s) == ("answer", None)


def test_only_so_many_unanswered_requests_are_remembered() -> None:
    observer = Observer()
    for number in range(4097):
        observer.see(float(number), ASK, b"", b"%d" % number)
    assert observer.see(5000.0, ANSWER, b"", b"0").took_s is None
    assert observer.see(5000.0, ANSWER, b"", b"1").took_s == 4999.0


def test_announcements_are_for_all() -> None:
    sighting = Observer().see(0.0, topics.keys("alpha"), b"keys")
    assert (sighting.sender, sighting.receiver, sighting.kind) == ("alpha", "all", "keys")


def test_what_one_wallet_gives_to_another_is_shown() -> None:
    sighting = Observer().see(0.0, "ecash/v1/inbox/a/b", b"coins")
    assert (sighting.sender, sighting.receiver, sighting.kind) == ("b", "a", "inbox")


def test_payloads_are_described_by_the_caller_and_only_on_topics_of_ours() -> None:
    observer = Observer(lambda kind, payload: f"{kind} v{payload[0]}")
    assert observer.see(0.0, ASK, b"\x01").note.endswith(" v1")
    assert observer.see(0.0, "elsewhere", b"").note == ""


def test_a_line_shows_time_parties_kind_size_and_duration() -> None:
    observer = Observer(lambda *_: "suite [red]")
    request = line(observer.see(0.25, ASK, bytes(20_480), b"id"))
    again = line(observer.see(0.5, ASK, b"", b"id"))
    answer = line(observer.see(0.75, ANSWER, b"", b"id"))
    assert "00:00:00.250" in request
    assert request.index("c0ffee") < request.index("→") < request.index("alpha") < request.index("deposit")
    assert "20 KiB" in request
    assert r"suite \[red]" in request
    assert "again" not in request
    assert "again" in again
    assert "500.0 ms" in answer


def test_a_long_name_is_shortened() -> None:
    shown = line(Observer().see(0.0, topics.bank_request("alpha", 0, "deposit", "f" * 64), b""))
    assert "f" * 15 + "…" in shown
    assert "f" * 16 not in shown


@pytest.mark.parametrize("topic", ["ecash/v1/alpha/keys/more", "\x1b[2J[red]", "ecash/v1/alpha/9999/deposit/c"])
def test_an_unknown_topic_is_flagged_and_cannot_act_on_the_terminal(topic: str) -> None:
    sighting = Observer().see(0.0, topic, b"1")
    assert not sighting.known
    shown = line(sighting)
    assert "not ours" in shown
    assert "\x1b" not in shown
    assert not Text.from_markup(shown).plain.startswith("[")
    assert ascii(topic) in Text.from_markup(shown).plain


async def test_watching_reports_what_travels(embedded_url: BrokerUrl, unique: str) -> None:
    seen: asyncio.Queue[Sighting] = asyncio.Queue()
    topic = topics.status(unique)
    async with asyncio.timeout(120), MqttLink(embedded_url, unique, persistent=False) as link:
        await link.publish(Outgoing(topic, b"here", retain=True))
        watching = asyncio.create_task(watch(embedded_url, seen.put_nowait, clock=lambda: 7.0))
        while (sighting := await seen.get()).topic != topic:
            pass
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
    assert (sighting.at, sighting.sender, sighting.kind, sighting.size) == (7.0, unique, "status", 4)
