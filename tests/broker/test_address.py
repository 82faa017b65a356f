from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.address import BrokerUrl

TEXT = st.text("az09:/@%[]#? é\n", max_size=12)
FILES = st.text("az09.:/@%[]#?&=+ é", max_size=12).map(lambda text: Path("/", text))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("mqtt://broker.example", BrokerUrl("broker.example", 1883)),
        ("mqtt://broker.example/", BrokerUrl("broker.example", 1883)),
        ("mqtts://broker.example", BrokerUrl("broker.example", 8883, tls=True)),
        ("mqtt://127.0.0.1:2883", BrokerUrl("127.0.0.1", 2883)),
        ("mqtt://[::1]:2883", BrokerUrl("::1", 2883)),
        ("mqtt://bank@host", BrokerUrl("host", 1883, "bank")),
        ("mqtt://bank:p%40ss@host:1", BrokerUrl("host", 1, "bank", "p@ss")),
        ("ws://host", BrokerUrl("host", 8083, websocket=True)),
        ("ws://host/mqtt", BrokerUrl("host", 8083, websocket=True)),
        ("wss://host:443", BrokerUrl("host", 443, tls=True, websocket=True)),
        ("mqtts://host?ca=/ca.crt", BrokerUrl("host", 8883, tls=True, ca=Path("/ca.crt"))),
        (
            "mqtts://host:8884?ca=/a%20b/c+d&cert=/bank.pem",
            BrokerUrl("host", 8884, tls=True, ca=Path("/a b/c+d"), cert=Path("/bank.pem")),
        ),
    ],
)
def test_addresses_are_read(text: str, url: BrokerUrl) -> None:
    assert BrokerUrl.parse(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:1883",
        "http://host",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://host:0",
        "mqtt://host:65536",
        "mqtt://host:port",
        "mqtt://host/path",
        "mqtt://host?query",
        "mqtt://host#fragment",
        "mqtt://:secret@host",
        "mqtt://ho st",
        "mqtt://[::1",
        "mqtt://host/mqtt",
        "ws://host/other",
        "mqtt://host?ca=/ca.crt",
        "ws://host?ca=/ca.crt",
        "mqtts://host?ca=",
        "mqtts://host?ca=ca.crt",
        "mqtts://host?ca=/a&ca=/b",
        "mqtts://host?key=/key",
        "mqtts://host?ca=/a&cert=/b&ca=/c",
        "mqtts://host?ca=/a%0ab",
        "mqtts://host?%63a",
    ],
)
def test_what_is_no_address_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"mqtt://\[user:password@\]host\[:port\]"):
        BrokerUrl.parse(text)


def test_an_error_does_not_repeat_the_password() -> None:
    with pytest.raises(ValueError, match="mqtt") as caught:
        BrokerUrl.parse("mqtt://bank:hunter2@host:port")
    assert "hunter2" not in str(caught.value)


@given(
    host=st.sampled_from(["host", "127.0.0.1", "::1"]),
    port=st.integers(1, 65_535),
    user=TEXT.filter(bool),
    password=st.none() | TEXT,
    tls=st.booleans(),
    websocket=st.booleans(),
    ca=st.none() | FILES,
    cert=st.none() | FILES,
)
@settings(deadline=None)
def test_what_is_printed_is_read_again(
    host: str,
    port: int,
    user: str,
    password: str | None,
    tls: bool,
    websocket: bool,
    ca: Path | None,
    cert: Path | None,
) -> None:
    ca, cert = ca if tls else None, cert if tls else None
    url = BrokerUrl(host, port, user, password, tls, websocket, ca, cert)
    assert BrokerUrl.parse(str(url)) == url
    assert BrokerUrl.parse(url.public) == BrokerUrl(host, port, tls=tls, websocket=websocket)
    assert BrokerUrl.parse(str(url.anonymous)) == BrokerUrl(host, port, tls=tls, websocket=websocket, ca=ca)


def test_the_password_is_not_in_what_may_be_shown() -> None:
    url = BrokerUrl("host", user="bank", password="hunter2")
    assert "hunter2" not in repr(url) + url.public
