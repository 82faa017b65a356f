"""What `broker.probe` says of brokers that keep the rules, and of such as break them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.address import BrokerUrl
from broker.configuration import Plan
from broker.port import LinkDown, NotTrusted
from broker.probe import probe
from tests.conftest import free_port

from .town import Town, edited

GIVES = "a wallet gives to another wallet's inbox"
FORGED = "nothing forged is delivered or kept"
OLD = "nothing forged is delivered to or by MQTT 3.1.1"
HEARS = "nobody hears what is for others"
LARGE = "a packet that is too large is not delivered"
LOG_IN = "a name without its password is refused"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is to come may come late."""
    monkeypatch.setattr("broker.probe.PATIENCE_S", 60.0)


async def faults(url: BrokerUrl) -> list[str]:
    return [one.rule for one in await probe(url) if not one.good]


@pytest.mark.mosquitto
@pytest.mark.parametrize("way", ["loopback", "tls"])
async def test_our_mosquitto_keeps_every_rule(town: Town, way: str) -> None:
    assert await faults(town.way(way, "bank")) == []


@pytest.mark.mosquitto
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda text: text.replace("\nacl_file", "\n#acl_file"), [FORGED, OLD, HEARS]),
        (lambda text: text.replace("max_packet_size", "#").replace("message_size_limit", "#"), [LARGE]),
        (
            lambda text: text.replace("allow_anonymous true", "allow_anonymous false"),
            ["a buyer comes in without a log-in"],
        ),
        (lambda text: text.replace("password_file", "#password_file"), [LOG_IN]),
    ],
    ids=["rights", "packets", "buyers", "passwords"],
)
async def test_a_broken_rule_is_found(tmp_path: Path, change: Callable[[str], str], found: list[str]) -> None:
    with edited(Plan(free_port()), tmp_path / "broker", change) as broker:
        assert await faults(broker.url) == found


@pytest.mark.mosquitto
async def test_rights_that_give_too_little_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.probe.PATIENCE_S", 0.5)  # since nothing will ever come
    plan, home = Plan(free_port()), tmp_path / "broker"
    with edited(plan, home, lambda text: text.replace("acl_file ", "acl_file /dev/null\n# ")) as broker:
        assert GIVES in await faults(broker.url)


async def test_no_broker_there_is_told() -> None:
    with pytest.raises(LinkDown):
        await probe(BrokerUrl("127.0.0.1", free_port()))


@pytest.mark.mosquitto
async def test_a_broker_that_is_not_trusted_is_told(town: Town) -> None:
    with pytest.raises(NotTrusted):
        await probe(replace(town.way("tls", None), ca=None))
