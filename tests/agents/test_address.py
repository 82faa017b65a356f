import pytest

from agents.address import BankAddress
from broker.address import BrokerUrl

TEXT = "ecash://north@bank.example:1883#" + "0f" * 32


def test_an_address_is_read_and_written_alike() -> None:
    address = BankAddress.parse(f"  {TEXT}\n")
    assert address == BankAddress("north", BrokerUrl("bank.example", 1883), "0f" * 32)
    assert str(address) == TEXT


@pytest.mark.parametrize(
    ("way", "scheme"), [("", "mqtt"), ("+tls", "mqtts"), ("+ws", "ws"), ("+wss", "wss")], ids=lambda one: one or "plain"
)
def test_the_address_says_how_the_broker_is_spoken_to(way: str, scheme: str) -> None:
    text = TEXT.replace("ecash:", f"ecash{way}:")
    address = BankAddress.parse(text)
    assert address.broker.public == f"{scheme}://bank.example:1883"
    assert str(address) == text


@pytest.mark.parametrize("file", ["ca", "cert"])
def test_an_address_names_no_file_of_this_machine(file: str) -> None:
    with pytest.raises(ValueError, match="looks like"):
        BankAddress.parse(TEXT.replace("ecash:", "ecash+tls:").replace("#", f"?{file}=/etc/passwd#"))


@pytest.mark.parametrize(
    "text",
    ["", "ecash://north@bank.example:1883", TEXT[:-1], TEXT + "0", TEXT.upper(), TEXT.replace("ecash", "https")],
)
def test_what_is_no_address_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="looks like"):
        BankAddress.parse(text)
