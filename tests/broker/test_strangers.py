"""Odd names, client ids taken over, and floods: what strangers get, under our configuration and under others."""

import asyncio
import contextlib
import secrets
import struct
from pathlib import Path
from typing import Final

import aiomqtt
import pytest

from broker.address import BrokerUrl
from broker.mosquitto import check_log_in
from protocol import topics
from protocol.errors import PeerError

from .test_every_pair import GREEDY, say_the_end
from .town import END, QOS1, Town, heard_until, listening, open_town, plain

pytestmark = pytest.mark.mosquitto

ODD: Final = (
    b"",
    b"#",
    b"+",
    b"/",
    b"$",
    b"$SYS",
    b"$share/g/x",
    b"%u",
    b"%c",
    b"bank/keys",
    b"bank/",
    b"/bank",
    b"+/keys",
    b"bank#",
    b"Bank",
    b"BANK",
    b" bank",
    b"bank ",
    b"bank\n",
    b"bank:x",
    b"bank\x00",
    b"\x00",
    b"b\xc3\xa4nk",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbfbank",
    b"reply",
    b"inbox",
    b"-" * 33,
    b"a" * 65_535,
)


def field(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def connect_packet(client: bytes, user: bytes | None, password: bytes | None) -> bytes:
    """CONNECT of MQTT 5, section 3.1, with whatever bytes as names."""
    flags = 0x02 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    body = field(b"MQTT") + bytes((5, flags)) + struct.pack("!H", 60) + b"\0" + field(client)
    body += b"".join(field(one) for one in (user, password) if one is not None)
    length, size = len(body), b""
    while length:
        size += bytes((length % 128 | (0x80 if length > 127 else 0),))
        length //= 128
    return b"\x10" + size + body


async def outcome(url: BrokerUrl, packet: bytes) -> int | None:
    """The reason code of the CONNACK, or None if the broker just hangs up."""
    async with asyncio.timeout(120):
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            writer.write(packet)
            head = await reader.read(4)
        except ConnectionError:
            head = b""
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
    return head[3] if len(head) == 4 and head[0] == 0x20 else None


@pytest.mark.parametrize("name", ODD[1:], ids=[ascii(one[:12])[2:-1] for one in ODD[1:]])
async def test_nobody_is_called_oddly(town: Town, name: bytes) -> None:
    with contextlib.suppress(UnicodeDecodeError), pytest.raises(PeerError):
        check_log_in(name.decode())
    for password in (None, b"", b"x", town.passwords["bank"].encode()):
        assert await outcome(town.way("loopback", None), connect_packet(b"c", name, password)) != 0


@pytest.mark.parametrize("password", [None, b"x"])
async def test_an_empty_name_is_no_name(town: Town, password: bytes | None) -> None:
    """Who has it is let in as a buyer; `test_every_pair` shows that it gives nothing more."""
    assert await outcome(town.way("loopback", None), connect_packet(b"c", b"", password)) == 0
    with pytest.raises(PeerError):
        check_log_in("")


async def test_the_packet_with_the_odd_names_lets_the_bank_in(town: Town) -> None:
    password = town.passwords["bank"].encode()
    assert await outcome(town.way("loopback", None), connect_packet(b"c", b"bank", password)) == 0


async def test_an_odd_client_id_hears_nothing_that_is_for_others(town: Town) -> None:
    ids = [one for name in ODD[:-1] if (one := name.decode(errors="replace")).isprintable() and "\ufffd" not in one]
    assert len(ids) >= 20
    request, answer = topics.bank_request("bank", 0, "deposit", "a11ce"), "ecash/v1/reply/a11ce/bank"
    async with asyncio.timeout(120), contextlib.AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(listening(town.way("loopback", None), one, *GREEDY)) for one in ids]
        async with (
            plain(town.way("loopback", None), "a11ce") as alice,
            plain(town.way("loopback", "bank"), "bank-0") as bank,
        ):
            await alice.publish(request, b"asked", qos=1)
            await alice.publish(topics.inbox("b0b", "a11ce"), b"given", qos=1)
            await bank.publish(answer, b"answered", qos=1)
        await say_the_end(town)
        for ear in ears:
            await ear.subscribe("nothing", qos=1)  # a round trip: no more is under way
            assert {(await anext(aiter(ear.messages))).topic.value for _ in range(len(ear.messages))} <= {END}


async def taken(first: aiomqtt.Client, second: aiomqtt.Client) -> bool:
    """Whether a connection ends when another comes."""
    async with asyncio.timeout(120):
        await first.__aenter__()
        async with second:
            asked = asyncio.ensure_future(first.subscribe("nothing", qos=1))
            ended = asyncio.ensure_future(anext(aiter(first.messages)))
            await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
            was_taken = not asked.done() or asked.exception() is not None
            for one in (asked, ended):
                one.cancel()
            await asyncio.gather(asked, ended, return_exceptions=True)
        with contextlib.suppress(aiomqtt.MqttError):
            await first.__aexit__(None, None, None)
    return was_taken


async def test_who_does_not_know_a_client_id_takes_nobodys_place(town: Town) -> None:
    bank = plain(town.way("certificate", "bank"), f"bank-{secrets.token_hex(12)}")
    for way, user in (("loopback", None), ("loopback", "north"), ("certificate", "north"), ("certificate", "bank")):
        assert not await taken(bank, plain(town.way(way, user), "bank"))


async def test_who_knows_one_takes_the_place_and_the_session_but_a_repeated_request_is_answered(town: Town) -> None:
    """What is lost is time: whoever asked repeats, and the bank subscribes again whenever it connects."""
    request = topics.bank_request("bank", 0, "deposit", "a11ce")
    lane = topics.bank_requests("bank", 0)
    async with asyncio.timeout(120), plain(town.way("loopback", None), "a11ce") as alice:
        async with plain(town.way("certificate", "bank"), "bank-known", stays=True) as bank:
            await bank.subscribe(lane, qos=1)
        await alice.publish(request, b"first", qos=1)
        async with plain(town.way("loopback", None), "bank-known"):  # a buyer's clean start ends the bank's session
            pass
        async with plain(town.way("certificate", "bank"), "bank-known", stays=True) as bank:
            await bank.subscribe(lane, qos=1)
            await alice.publish(request, b"again", qos=1)
            assert (await anext(aiter(bank.messages))).payload == b"again"
        async with plain(town.way("certificate", "bank"), "bank-known"):
            pass


async def test_with_names_for_client_ids_a_buyer_could_throw_out_a_bank(tmp_path: Path) -> None:
    """Why `use_username_as_clientid` is not in our configuration: it binds ids where there are log-ins only."""
    bound = "use_identity_as_username true\nuse_username_as_clientid true"
    with open_town(tmp_path / "broker", lambda text: text.replace("use_identity_as_username true", bound)) as town:
        bank = town.way("certificate", "bank")
        assert not await taken(plain(bank, "x"), plain(town.way("certificate", "north"), "bank"))
        assert await taken(plain(bank, "x"), plain(bank, "y"))  # the same log-in, twice
        assert await taken(plain(bank, "x"), plain(town.way("loopback", None), "bank"))


async def test_a_flood_for_one_who_is_away_is_bounded_and_others_are_served(tmp_path: Path) -> None:
    edit = "max_queued_messages 20"
    with open_town(tmp_path / "broker", lambda text: text.replace("max_queued_messages 10000", edit)) as town:
        lane, request = topics.bank_requests("bank", 0), topics.bank_request("bank", 0, "deposit", "b0b")
        async with asyncio.timeout(120), plain(town.way("loopback", None), "b0b") as mallory:
            async with plain(town.way("loopback", "bank"), "bank-0", stays=True) as bank:
                await bank.subscribe(lane, qos=1)
            for _ in range(100):
                await mallory.publish(request, b"flood", qos=1)  # all are acknowledged
            async with listening(town.way("loopback", "north"), "north-0", topics.bank_requests("north", 0)) as north:
                await mallory.publish(topics.bank_request("north", 0, "deposit", "b0b"), b"asked", qos=1)
                assert (await anext(aiter(north.messages))).payload == b"asked"
            async with plain(town.way("loopback", "bank"), "bank-0", stays=True) as bank:
                await bank.subscribe([(lane, QOS1), (END, QOS1)])
                await mallory.publish(request, b"after", qos=1)
                heard = await heard_until(bank, request, b"after")
    assert [message.payload for message in heard] == [b"flood"] * 20
