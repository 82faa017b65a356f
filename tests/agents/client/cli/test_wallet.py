"""`ecash wallet pay` with a payment link, as far as it goes without a network."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner, Result

from agents.bank.home import address_of
from agents.cli import app
from agents.client.cli.wallet import _printable
from agents.client.service import create, open_store
from agents.client.store import BankRow, ExchangeRow, Note
from protocol.messages import Receipt, Signed
from protocol.payment_link import PaymentLink
from protocol.refusals import TABLE, Refusal
from protocol.signatures import Domain
from protocol.wallet import payment
from protocol.wallet.paying import Payer, payment_info
from tests.agents.world import BANK, BROKER, SETTINGS, mint
from tests.simulation.entropy import SeededEntropy
from tests.world import SHOP, alter, seed, world

WORLD: Final = world()
ADDRESS: Final = address_of(SETTINGS, mint().keys.identity)
PAYREQ: Final = alter(WORLD.payreq, "bank", BANK)
LINK: Final = PaymentLink.of(
    SHOP,
    BANK,
    bytes.fromhex(ADDRESS.fingerprint),
    BROKER,
    Signed.make(WORLD.shop_seed, Domain.PAYREQ, PAYREQ).encode(),
)
GOODS: Final = "https://shop.example/novel.epub"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wallet that knows the bank."""
    monkeypatch.setenv("ECASH_PASSPHRASE", "open sesame")

    async def make() -> None:
        await create(tmp_path / "wallet", "open sesame", bytes(16), SeededEntropy("wallet"), hard=False)
        async with open_store(tmp_path / "wallet") as store:
            await store.save_bank(BankRow(BANK, str(ADDRESS), mint().announcement, None, None, None))

    asyncio.run(make())
    return tmp_path / "wallet"


def enter(home: Path, state: Any) -> None:
    """Let the wallet have paid by the link before."""
    info = payment_info(PAYREQ, Payer("sha-256", bytes(16), ""), bytes(32))
    note = Note(info.amount, "USD", merchant=SHOP, title="The Bookshop", order=PAYREQ.order, info=info.encode())
    row = ExchangeRow(bytes(16), payment.PAY, BANK, state, open=False, wake_at=1, begun_at=1, note=note)

    async def save() -> None:
        async with open_store(home) as store:
            await store.save(row, [], {})

    asyncio.run(save())


def pay(*words: str) -> Result:
    result = CliRunner().invoke(app, ["wallet", "pay", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def complaint(*words: str) -> str:
    """The sentence with which a command is refused."""
    result = pay(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    return result.stderr


@pytest.fixture
def bought(home: Path) -> Path:
    """A wallet that has paid by the link."""
    receipt = Signed.make(WORLD.shop_seed, Domain.RECEIPT, Receipt(bytes(32), b"", GOODS, 1)).encode()
    enter(home, payment.Paid(bytes(32), b"", receipt))
    return home


@pytest.mark.parametrize("text", [str(LINK), str(LINK).upper(), f" {LINK} "])
def test_a_link_that_is_paid_already_says_so_and_shows_the_goods(bought: Path, text: str) -> None:
    result = pay(text, "--home", str(bought))
    assert result.exit_code == 0
    assert "has paid by that link before; nothing more was paid" in result.stdout
    assert "Paid 8.00 USD to The Bookshop." in result.stdout
    assert GOODS in result.stdout


def test_a_link_that_is_paid_already_is_told_in_json(bought: Path) -> None:
    result = pay(str(LINK), "--json", "--home", str(bought))
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["state"], told["again"], told["sale"]) == ("paid", True, PAYREQ.payment_id.hex())
    assert told["goods"] == GOODS


def test_a_disputed_payment_is_not_made_again(home: Path) -> None:
    sealed = payment.Payment(bytes(32), SHOP, BANK, (), 0, bytes(16), b"", bytes(16), b"")
    enter(home, payment.Disputed(sealed, b""))
    result = pay(str(LINK), "--home", str(home))
    assert result.exit_code == 1
    assert "set aside" in result.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"bank": "south"}, "bank south, where this wallet has none"), ({"fingerprint": seed("other")}, "forged")],
)
def test_a_link_to_a_bank_that_is_not_the_wallets_is_refused(home: Path, changes: dict[str, Any], says: str) -> None:
    ((field, value),) = changes.items()
    assert says in complaint(str(alter(LINK, field, value)), "--home", str(home))


def test_a_link_takes_no_items(tmp_path: Path) -> None:
    assert "leave the items out" in complaint(str(LINK), "song", "--home", str(tmp_path))


def test_a_link_names_its_bank_itself(bought: Path) -> None:
    assert "for coins of bank north" in complaint(str(LINK), "--bank", "south", "--home", str(bought))
    assert pay(str(LINK), "--bank", BANK, "--home", str(bought)).exit_code == 0


@pytest.mark.parametrize("text", [str(LINK)[:-3], "web+ecash:", "WEB+ECASH:PAY/AAAA", "web+ecash:give/aaaa"])
def test_a_link_that_is_broken_is_told_as_such(text: str, tmp_path: Path) -> None:
    assert complaint(text, "--home", str(tmp_path)).startswith(f"error: {TABLE[Refusal.MALFORMED].meaning}")


def test_a_shop_without_items_sells_nothing(tmp_path: Path) -> None:
    assert "say what to buy" in complaint("shop", "--home", str(tmp_path))


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert _printable("1 × novel\x1b[2J\u202e\r") == "1 × novel\ufffd[2J\ufffd\ufffd"
