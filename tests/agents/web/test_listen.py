import pytest

from agents.home import HomeError
from agents.web.listen import Listen, origin_of


@pytest.mark.parametrize(
    ("text", "listen", "written"),
    [
        (":8080", Listen("127.0.0.1", 8080), "127.0.0.1:8080"),
        ("0.0.0.0:80", Listen("0.0.0.0", 80), "0.0.0.0:80"),
        ("localhost:8080", Listen("localhost", 8080), "localhost:8080"),
        ("[::1]:8080", Listen("::1", 8080), "[::1]:8080"),
    ],
)
def test_an_address_is_read(text: str, listen: Listen, written: str) -> None:
    assert Listen.parse(text) == listen
    assert str(listen) == written


@pytest.mark.parametrize(
    "text", ["", "8080", "shop", ":", ":port", ":65536", ":-1", "a:b:80", "::1:80", "http://x:80", "a@b:80"]
)
def test_what_is_no_address_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=":8080"):
        Listen.parse(text)


def test_a_site_of_this_machine_has_a_name_of_its_own() -> None:
    hosts = Listen.parse(":8090").hosts("wallet")
    assert {"wallet.localhost:8090", "localhost:8090", "127.0.0.1:8090"} <= hosts
    assert "wallet.localhost" not in hosts
    assert "wallet.localhost" in Listen.parse(":80").hosts("wallet")
    assert Listen.parse("0.0.0.0:80").everywhere
    assert not Listen.parse(":80").everywhere


def test_a_port_in_use_is_told() -> None:
    with Listen("127.0.0.1", 0).bind() as first:
        taken = Listen("127.0.0.1", first.getsockname()[1])
        with pytest.raises(HomeError, match="choose another port"):
            taken.bind()


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(HomeError, match="cannot listen"):
        Listen("192.0.2.1", 0).bind()


@pytest.mark.parametrize(
    ("url", "origin"),
    [("https://Shop.Example", "https://shop.example"), ("http://127.0.0.1:8080/a/b", "http://127.0.0.1:8080")],
)
def test_the_origin_of_a_site(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    ["", "shop.example", "ftp://shop.example", "https://", "https://u:p@shop.example", "https://a?b", "https://a#b"],
)
def test_what_has_no_origin_is_told(url: str) -> None:
    with pytest.raises(ValueError, match=r"https://shop\.example"):
        origin_of(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_a_loopback_address_is_this_machines_alone(host: str) -> None:
    assert Listen(host, 80).loopback


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example", "bank.localhost"])
def test_another_one_is_not(host: str) -> None:
    assert not Listen(host, 80).loopback
