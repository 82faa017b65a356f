"""Over TLS and websockets, with a real mosquitto: who is let in, who is trusted, and what a person is told."""

import asyncio
import contextlib
import datetime
import math
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from broker.address import BrokerUrl
from broker.certificates import Issued, agent_certificate, new_authority, server_certificate
from broker.configuration import CA
from broker.connection import Connection
from broker.mosquitto import NotInstalled, find, mosquitto_broker
from broker.mqtt import MqttLink
from broker.port import MAX_PAYLOAD, Incoming, LinkDown, LinkError, NotAuthorized, NotTrusted, Outgoing
from broker.tls import CA_VARIABLE
from protocol import topics

from .town import NOW, Town, certify, full_plan, heard_until, listening, plain

pytestmark = pytest.mark.mosquitto
LONG_AGO = NOW - datetime.timedelta(days=3000)


async def enter(url: BrokerUrl) -> None:
    """Enter a link that would wait for ever for a broker that starts later."""
    async with asyncio.timeout(120), MqttLink(url, "client-0", persistent=False, patience_s=math.inf):
        pass


async def connect(url: BrokerUrl) -> None:
    """Try once."""
    connection = Connection(url, "client-0", persistent=False, will=None, arrived=lambda _: None)
    await connection.open()
    await connection.close()


@contextlib.contextmanager
def served(home: Path) -> Iterator[BrokerUrl]:
    """A mosquitto with the certificates of this folder, and its address over TLS."""
    try:
        find("mosquitto")
    except NotInstalled as missing:
        pytest.skip(str(missing))
    plan = full_plan(websockets=False)
    with mosquitto_broker(plan, home):
        yield BrokerUrl("localhost", plan.tls_port, tls=True, ca=home / CA)


@pytest.mark.parametrize(
    ("way", "size"),
    # mosquitto 2.0.11 sends 4 KiB at a time into a websocket, and waits up to 0.1 s between.
    [("tls", MAX_PAYLOAD), ("certificate", MAX_PAYLOAD), ("websocket", 10_000), ("secure-websocket", 10_000)],
)
async def test_a_bank_answers_whatever_way_they_come(town: Town, way: str, size: int) -> None:
    request = Outgoing(topics.bank_request("bank", 0, "deposit", "a11ce"), bytes(size), correlation=b"id")
    heard: asyncio.Queue[Incoming] = asyncio.Queue()

    async def answer(message: Incoming) -> Outgoing:
        return Outgoing("ecash/v1/reply/a11ce/bank", message.payload, correlation=message.correlation)

    async def take(message: Incoming) -> None:
        await heard.put(message)

    async with (
        asyncio.timeout(120),
        MqttLink(town.way(way, "bank"), "bank-tls", persistent=True) as bank,
        MqttLink(town.way(way, None), "a11ce", persistent=False) as alice,
    ):
        await bank.subscribe(topics.bank_requests("bank", 0))
        await alice.subscribe(topics.replies("a11ce"))
        serving = [asyncio.create_task(bank.serve(answer)), asyncio.create_task(alice.serve(take))]
        await alice.publish(request)
        answered = await heard.get()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
    assert (answered.payload, answered.correlation) == (request.payload, b"id")


async def test_a_websocket_carries_no_more_than_a_mebibyte_either(town: Town) -> None:
    """Mosquitto 2.0.11 does not hold websockets to `max_packet_size`."""
    gift, end = topics.inbox("b0b", "ma110ry"), topics.inbox("b0b", "a11ce")
    async with asyncio.timeout(120), listening(town.way("loopback", None), "b0b", topics.inboxes("b0b")) as bob:
        with contextlib.suppress(aiomqtt.MqttError):
            async with plain(town.way("websocket", None), "ma110ry") as mallory:
                sending = asyncio.create_task(mallory.publish(gift, bytes(MAX_PAYLOAD + 1), qos=1))
                with pytest.raises(aiomqtt.MqttError):
                    await anext(aiter(mallory.messages))  # the connection ends
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        async with plain(town.way("loopback", None), "a11ce") as alice:
            await alice.publish(end, b"end", qos=1)
        assert await heard_until(bob, end) == []


async def test_an_authority_of_ones_own_can_be_named_for_all_addresses(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = replace(town.way("tls", None), ca=None)
    with pytest.raises(NotTrusted, match=f"signed by nobody this machine knows.*{CA_VARIABLE}"):
        await enter(url)
    monkeypatch.setenv(CA_VARIABLE, str(town.broker.home / CA))
    await enter(url)


async def test_another_authority_does_not_do(town: Town, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_bytes(new_authority("authority", NOW).certificate)  # of the same name
    with pytest.raises(NotTrusted, match="is not trusted"):
        await enter(replace(town.way("tls", None), ca=other))


@pytest.mark.parametrize("field", ["ca", "cert"])
@pytest.mark.parametrize("content", [None, b"", b"none"])
async def test_a_file_that_is_none_is_told(town: Town, tmp_path: Path, field: str, content: bytes | None) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_bytes(content)
    url = town.way("tls", None)
    with pytest.raises(NotTrusted, match=r"file\.pem cannot be used"):
        await enter(replace(url, ca=path) if field == "ca" else replace(url, cert=path))


async def test_an_expired_certificate_is_told(tmp_path: Path) -> None:
    certify(tmp_path / "broker", "localhost", LONG_AGO)
    with served(tmp_path / "broker") as url, pytest.raises(NotTrusted, match="not valid now"):
        await enter(url)


async def test_another_hosts_certificate_is_told(tmp_path: Path) -> None:
    certify(tmp_path / "broker", "broker.example")
    with served(tmp_path / "broker") as url:
        await enter(url)
        with pytest.raises(NotTrusted, match=r"another host's, not that of 127\.0\.0\.1"):
            await enter(replace(url, host="127.0.0.1"))


async def test_an_address_of_numbers_can_stand_in_a_certificate(tmp_path: Path) -> None:
    certify(tmp_path / "broker", "127.0.0.1")
    with served(tmp_path / "broker") as url:
        await enter(replace(url, host="127.0.0.1"))


@pytest.mark.parametrize(
    ("speaks", "listens", "advice"), [("mqtt", "tls", "mqtts://"), ("mqtts", "loopback", "mqtt://")]
)
async def test_tls_where_there_is_none_and_the_other_way_round_is_told(
    town: Town, speaks: str, listens: str, advice: str
) -> None:
    url = BrokerUrl("127.0.0.1", town.way(listens, None).port, tls=speaks == "mqtts", ca=town.broker.home / CA)
    with pytest.raises(LinkDown, match=f"no connection: .*{advice}"):
        await connect(url)


@pytest.mark.parametrize("way", ["tls", "certificate", "secure-websocket"])
@pytest.mark.parametrize(
    ("version", "good"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
def test_tls_is_1_2_or_newer(town: Town, way: str, version: ssl.TLSVersion, good: bool) -> None:
    url = town.way(way, "bank")
    context = ssl.create_default_context(cafile=url.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    if url.cert:
        context.load_cert_chain(url.cert)
    with contextlib.nullcontext() if good else pytest.warns(DeprecationWarning, match=r"TLSv1_1"):
        context.minimum_version = context.maximum_version = version
    with (
        contextlib.nullcontext() if good else pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(("localhost", url.port), timeout=120) as plain,
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass


def certificates(town: Town) -> dict[str, Issued]:
    """What somebody might try to log in with as the bank."""
    foreign = new_authority("authority", NOW)
    return {
        "of another authority of the same name": agent_certificate(foreign, "bank", NOW),
        "that has expired": agent_certificate(town.authority, "bank", LONG_AGO),
        "of a server": server_certificate(town.authority, "bank", NOW),
        "of the authority itself, signed by another": foreign,
    }


@pytest.mark.parametrize(
    "which",
    [
        "of another authority of the same name",
        "that has expired",
        "of a server",
        "of the authority itself, signed by another",
    ],
)
async def test_a_certificate_is_no_log_in(town: Town, tmp_path: Path, which: str) -> None:
    path = tmp_path / "mine.pem"
    path.write_bytes(b"".join(certificates(town)[which]))
    with pytest.raises(LinkError):
        await connect(replace(town.way("certificate", "bank"), cert=path))


async def test_without_a_certificate_nobody_comes_in_where_one_is_asked_for(town: Town) -> None:
    url = replace(town.way("certificate", "bank"), cert=None)
    with pytest.raises(LinkDown, match="cert=FILE"):
        await connect(url)
    with pytest.raises(LinkDown):
        await connect(replace(url, user="bank", password=town.passwords["bank"]))


async def test_who_logs_in_with_a_certificate_cannot_say_another_name(town: Town) -> None:
    url = replace(town.way("certificate", "bank"), user="north", password=town.passwords["north"])
    async with MqttLink(url, "client-0", persistent=False) as link:
        await link.publish(Outgoing(topics.status("bank"), b"here", retain=True))
        with pytest.raises(NotAuthorized):
            await link.publish(Outgoing(topics.status("north"), b"here", retain=True))
        await link.publish(Outgoing(topics.status("bank"), b"", retain=True))


async def test_a_certificate_gives_no_name_where_passwords_do(town: Town) -> None:
    url = replace(town.way("tls", None), cert=town.broker.home / "bank.pem")
    async with MqttLink(url, "client-0", persistent=False) as link:
        with pytest.raises(NotAuthorized):
            await link.publish(Outgoing(topics.status("bank"), b"forged", retain=True))
